"""The tensors in a file of torch.save (pytorch_model.bin), read without torch.

Such a file is a pickle, which may name any function to be called when it is read. Here it may name those that tensors
are made with, which are ours; whatever else it names is refused, and nothing of it is run. Both layouts are read: the
zip archive of torch 1.6 and later, and the pickles with raw storages behind them of the releases before.
"""

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from pipeline.errors import UserError

_BFLOAT16 = "bfloat16"
_DTYPES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": _BFLOAT16,
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip
_LEGACY_START, _LEGACY_MAGIC = b"\x80\x02\x8a\x0a", 0x1950A86A20F9469CFC6C


class _Storage(NamedTuple):
    """A row of numbers in the file, which tensors are views of."""

    key: str
    dtype: str
    count: int


class _Place(NamedTuple):
    """Where the bytes of a storage are in the file."""

    start: int
    size: int


class _Tensor(NamedTuple):
    """A tensor as the pickle describes it: whatever stands there, until `_fault` has looked at it."""

    storage: Any
    offset: Any
    shape: Any
    stride: Any


class TorchFile:
    """Tensors by name; those of dictionaries in dictionaries have names with dots.

    The file is mapped to memory: a tensor is read from disk when it is asked for.
    """

    def __init__(self, path: Path):
        """
        Args:
            path: of the file.

        Raises:
            UserError: it is damaged, not of torch.save, or holds something else than tensors.
        """
        self._path = path
        try:
            with path.open("rb") as file:
                start = file.read(4)
                file.seek(0)
                if start == b"PK\x03\x04":
                    content, self._places = _read_archive(file, path)
                elif start == _LEGACY_START:
                    content, self._places = _read_legacy(file, path)
                else:
                    raise UserError(
                        f"{path} is not a file of torch.save (of torch 0.4 or later): was it downloaded as a whole?"
                    )
            self._tensors = dict(_named(content))
        except (UserError, OSError):
            raise
        except Exception as error:  # whatever a damaged pickle or archive leads to
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(
                f"{path} cannot be read as a file of torch.save ({reason}): was it copied as a whole?"
            ) from error
        size = path.stat().st_size
        for name, tensor in self._tensors.items():
            if fault := _fault(tensor, self._places, size):
                raise UserError(f"{path}: its tensor {name} is damaged ({fault}).")
        if not self._tensors:
            raise UserError(f"{path} holds no tensors by name: is it the state of a model?")

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def read(self, name: str) -> np.ndarray:
        """A copy, float32."""
        storage, offset, shape, stride = self._tensors[name]
        if not math.prod(shape):
            return np.zeros(shape, np.float32)
        dtype = np.dtype("<u2" if storage.dtype == _BFLOAT16 else storage.dtype)
        start = self._places[storage.key].start + offset * dtype.itemsize
        flat = np.memmap(self._path, dtype, "r", start, _reach(shape, stride))
        values = np.lib.stride_tricks.as_strided(flat, shape, [step * dtype.itemsize for step in stride])
        if storage.dtype == _BFLOAT16:
            # The upper half of a float32.
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32)


def _read_archive(file: BinaryIO, path: Path) -> tuple[Any, dict[str, _Place]]:
    """What is pickled in a zip archive, and where in the file its storages begin."""
    with zipfile.ZipFile(file) as archive:
        # All names begin with the archive's own.
        members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if "data.pkl" not in members:
            raise UserError(f"{path} is an archive, but not of torch.save: it has no data.pkl.")
        if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
            raise UserError(f"{path} is compressed, unlike what torch.save writes: pack it again without.")
        if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
            raise UserError(f"{path} was written on a big-endian machine: save it again on another one.")
        content = _Unpickler(io.BytesIO(archive.read(members["data.pkl"])), path).load()
        places = {}
        for name, info in members.items():
            if name.startswith("data/"):
                # The name and the extra field in front of the data may be longer than those in the directory.
                file.seek(info.header_offset)
                lengths = struct.unpack("<26xHH", file.read(30))
                places[name.removeprefix("data/")] = _Place(info.header_offset + 30 + sum(lengths), info.file_size)
    return content, places


def _read_legacy(file: BinaryIO, path: Path) -> tuple[Any, dict[str, _Place]]:
    """The same of torch before 1.6: magic number, version and machine, object and keys are pickles in turn."""
    magic, _, machine = (_Unpickler(file, path).load() for _ in range(3))
    if magic != _LEGACY_MAGIC or not machine.get("little_endian", True):
        raise UserError(f"{path} is not of torch.save, or of a big-endian machine: save it again on another.")
    unpickler = _Unpickler(file, path)
    content = unpickler.load()
    places = {}
    for key in _Unpickler(file, path).load():
        (count,) = struct.unpack("<q", file.read(8))
        places[key] = _Place(file.tell(), count * _item_size(unpickler.storages[key].dtype))
        file.seek(places[key].size, io.SEEK_CUR)
    return content, places


class _Unpickler(pickle.Unpickler):
    """Reads a pickle that names nothing but tensors, and calls nothing but `_ALLOWED`."""

    def __init__(self, file: BinaryIO, path: Path):
        super().__init__(file)
        self._path = path
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}"
        if name in _ALLOWED:
            return _ALLOWED[name]
        if module_name == "torch" and global_name in _DTYPES:
            return _StorageType(_DTYPES[global_name])
        raise UserError(
            f"{self._path} is not of tensors alone: it asks for {name}, which is not run. Load it with torch where you "
            "trust it, and save the model's state_dict() alone."
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, of, key, _, count, *view = pid
        if kind != "storage" or not isinstance(of, _StorageType) or any(view):
            raise UserError(f"{self._path} holds a storage of an unknown kind: save it again with torch 1.6 or later.")
        storage = self.storages[key] = _Storage(key, of.dtype, count)
        return storage


class _StorageType(NamedTuple):
    dtype: str


def _rebuild_tensor(storage, offset, shape, stride, *_) -> _Tensor:
    return _Tensor(storage, offset, shape, stride)


def _rebuild_parameter(tensor, *_):
    return tensor


_ALLOWED = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
}


def _named(content: Any, prefix: str = "") -> Iterator[tuple[str, _Tensor]]:
    """The tensors of a dictionary and of those in it; numbers and strings beside them are passed over."""
    if isinstance(content, dict):
        for key, value in content.items():
            if isinstance(value, _Tensor):
                yield f"{prefix}{key}", value
            else:
                yield from _named(value, f"{prefix}{key}.")


def _fault(tensor: _Tensor, places: dict[str, _Place], size: int) -> str | None:
    """What is wrong with a tensor, which must lie within its storage, and that in the file of `size` bytes."""
    storage, offset, shape, stride = tensor
    if not isinstance(storage, _Storage) or storage.key not in places:
        return "it has no storage in the file"
    if not (isinstance(shape, tuple) and isinstance(stride, tuple) and len(shape) == len(stride)):
        return "shape and stride do not go together"
    numbers = (storage.count, offset, *shape, *stride)
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        return "shape, stride or place is no whole number"
    if not math.prod(shape):
        return None
    if offset + _reach(shape, stride) > storage.count or math.prod(shape) > storage.count:
        return f"it reaches beyond the {storage.count} numbers of its storage"
    start, room = places[storage.key]
    if storage.count * _item_size(storage.dtype) > min(room, size - start):
        return "the file ends before it"
    return None


def _reach(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """How many numbers lie from a tensor's first to its last."""
    return 1 + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))


def _item_size(dtype: str) -> int:
    return 2 if dtype == _BFLOAT16 else np.dtype(dtype).itemsize
