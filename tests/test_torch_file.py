"""pytorch_model.bin without torch: what it holds is read, and what it asks to be run is not."""

import json
import zipfile

import ml_dtypes
import numpy as np
import pytest
from checkpoints import CONFIG, assert_computes, load, random_tensors, write_folder
from torch_files import ORDERED, call, encoded, name, tensor, whole, write_archive, write_legacy, write_torch

from pipeline.backbone.torch_file import TorchFile
from pipeline.errors import UserError

ROWS = np.arange(60, dtype=np.float32) * 0.37 - 5


@pytest.mark.parametrize("legacy", [False, True])
def test_a_folder_of_it_alone_computes_what_the_reference_does(tmp_path, legacy):
    tensors = random_tensors(CONFIG)
    folder = write_folder(tmp_path, tensors)
    (folder / "model.safetensors").unlink()
    write_torch(folder / "pytorch_model.bin", tensors, legacy)
    assert_computes(load(folder).backbone, CONFIG, tensors)


def test_shards(tmp_path):
    tensors = random_tensors(CONFIG)
    folder = write_folder(tmp_path, tensors)
    (folder / "model.safetensors").unlink()
    names = list(tensors)
    parts = {"pytorch_model-1.bin": names[:9], "pytorch_model-2.bin": names[9:]}
    for file, some in parts.items():
        write_torch(folder / file, {key: tensors[key] for key in some})
    index = {"weight_map": {key: file for file, some in parts.items() for key in some}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert_computes(load(folder).backbone, CONFIG, tensors)
    (folder / "pytorch_model-2.bin").unlink()
    with pytest.raises(UserError, match=r"pytorch_model-2\.bin is missing"):
        load(folder)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64", "int64", "int32", "bool", "uint8"])
def test_numbers_of_any_type_become_float32(tmp_path, kind):
    values = np.array([[0, 1, 2.5], [3, 100, 0]]).astype(np.dtype(getattr(ml_dtypes, kind, kind)))
    read = TorchFile(write_torch(tmp_path / "x.bin", {"a": values})).read("a")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values.astype(np.float32))


def test_views_of_a_storage(tmp_path):
    content = {
        "transposed": tensor("float32", "0", 60, (12, 5), (1, 12)),
        "strided": tensor("float32", "0", 60, (3, 3), (12, 3), offset=14),
        "scalar": tensor("float32", "0", 60, (), (), offset=59),
        "empty": tensor("float32", "0", 60, (0, 4), (4, 1)),
        "parameter": call(name("torch._utils", "_rebuild_parameter"), whole("0", ROWS), True, ORDERED),
    }
    file = TorchFile(write_archive(tmp_path / "x.bin", content, {"0": ROWS.tobytes()}))
    square = ROWS.reshape(5, 12)
    np.testing.assert_array_equal(file.read("transposed"), square.T)
    np.testing.assert_array_equal(file.read("strided"), square[1:4, 2:11:3])
    assert file.read("scalar") == ROWS[59] and file.shape("scalar") == ()
    assert file.read("empty").shape == (0, 4)
    np.testing.assert_array_equal(file.read("parameter"), ROWS)


def test_a_model_among_other_things(tmp_path):
    content = {"epoch": 3, "note": "best", "state_dict": {"module.a": whole("0", ROWS)}}
    file = TorchFile(write_archive(tmp_path / "x.bin", content, {"0": ROWS.tobytes()}))
    assert list(file) == ["state_dict.module.a"]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "function",
    ["os system", "posix system", "builtins eval", "builtins getattr", "torch._utils _rebuild_device_tensor_from_numpy",
     "torch load", "numpy.core.multiarray _reconstruct"],
)  # fmt: skip
def test_nothing_is_run(tmp_path, function, legacy):
    victim = tmp_path / "victim"
    module, called = function.split()
    content = {"a": whole("0", ROWS, legacy), "b": call(name(module, called), f"touch {victim}")}
    if legacy:
        path = write_legacy(tmp_path / "x.bin", content, {"0": (60, ROWS.tobytes())})
    else:
        path = write_archive(tmp_path / "x.bin", content, {"0": ROWS.tobytes()})
    with pytest.raises(UserError, match=rf"it asks for {module}\.{called}, which is not run"):
        TorchFile(path)
    assert not victim.exists()


def test_state_that_a_pickle_sets_does_not_reach_the_reader(tmp_path):
    # torch puts _metadata on the dictionary; what else is put on objects must not matter.
    metadata = ORDERED + encoded({"_metadata": ORDERED}) + b"b"
    content = metadata + b"(" + encoded("a") + whole("0", ROWS) + b"u"
    np.testing.assert_array_equal(
        TorchFile(write_archive(tmp_path / "x.bin", content, {"0": ROWS.tobytes()})).read("a"), ROWS
    )
    for target in (whole("0", ROWS), name("torch", "FloatStorage"), name("collections", "OrderedDict")):
        changed = {"a": target + encoded({"shape": (9, 9), "__call__": 1}) + b"b"}
        with pytest.raises(UserError, match="cannot be read"):
            TorchFile(write_archive(tmp_path / "y.bin", changed, {"0": ROWS.tobytes()}))


@pytest.mark.parametrize(
    ("shape", "stride", "offset", "count"),
    [
        ((61,), (1,), 0, 60),
        ((60,), (1,), 1, 60),
        ((5, 12), (13, 1), 0, 60),
        ((1000, 1000), (0, 0), 0, 60),
        ((5,), (-1,), 10, 60),
        ((5,), (1, 1), 0, 60),
        ((5,), ("1",), 0, 60),
        ((61,), (1,), 0, 61),
        ((5,), (1,), 0, "60"),
    ],
)
def test_tensors_that_reach_beyond_their_storage_are_refused(tmp_path, shape, stride, offset, count):
    content = {"a": tensor("float32", "0", count, shape, stride, offset)}
    with pytest.raises(UserError, match="its tensor a is damaged"):
        TorchFile(write_archive(tmp_path / "x.bin", content, {"0": ROWS.tobytes()}).rename(tmp_path / "y.bin"))


def test_files_that_are_none(tmp_path):
    path = tmp_path / "x.bin"
    good = write_torch(path, {"a": ROWS}).read_bytes()
    old = write_torch(path, {"a": ROWS}, legacy=True).read_bytes()
    for content, message in (
        (b"version https://git-lfs.github.com/spec/v1\n", "is not a file of torch.save"),
        (b"", "is not a file of torch.save"),
        (good[:200], "cannot be read as a file of torch.save"),
        (old[:100], "cannot be read as a file of torch.save"),
        (old[:-8], "the file ends before it"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message) as caught:
            TorchFile(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="is compressed"):
        TorchFile(write_archive(path, {"a": whole("0", ROWS)}, {"0": ROWS.tobytes()}, zipfile.ZIP_DEFLATED))
    with pytest.raises(UserError, match="holds no tensors by name"):
        TorchFile(write_archive(path, {"a": 1}, {}))
    with pytest.raises(UserError, match="has no storage in the file"):
        TorchFile(write_archive(path, {"a": whole("1", ROWS)}, {"0": ROWS.tobytes()}))
