"""Rules on the graph, the signatures and the files of an export: models that break each."""

import shutil
from pathlib import Path

import pytest
import tensorflow as tf
from hand_made import HandMade, broken, describe, edit, save, subject, write_logs
from tensorflow_serving.apis import prediction_log_pb2

from export import check as checking
from export.server import rules
from export.server.ask import Replies, ask
from export.server.rules.subject import NotChecked
from export.versions import METADATA
from export.warmup import FILE as WARMUP
from export.warmup import read_warmup


def test_version_folder(sound, tmp_path):
    broken(rules.version_folder, Path(shutil.copytree(sound, tmp_path / "best")), "best")
    for name in (str(2**63), "99999999999999999999", "²", "1.0"):
        broken(rules.version_folder, Path(shutil.copytree(sound, tmp_path / name)), name)
    highest = Path(shutil.copytree(sound, tmp_path / str(2**63 - 1)))
    assert rules.version_folder(subject(highest)) == highest.name
    first = Path(shutil.copytree(sound, tmp_path / "1"))
    (tmp_path / "0001").symlink_to(first)
    broken(rules.version_folder, first, "0001, 1 are one version")
    with pytest.raises(NotChecked, match="gets its number"):
        rules.version_folder(subject(first, published=False))


def rename(tensors, old: str, new: str) -> None:
    tensors[new].CopyFrom(tensors.pop(old))


def retype(tensor, dtype: tf.DType) -> None:
    tensor.dtype = dtype.as_datatype_enum


def resize(tensor, dimension: int, size: int) -> None:
    tensor.tensor_shape.dim[dimension].size = size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: it.outputs.pop("label"), "no label"),
        (lambda it: rename(it.inputs, "text", "other"), "inputs are other"),
        (lambda it: retype(it.outputs["score"], tf.float64), "score is float64"),
        (lambda it: resize(it.outputs["label"], 0, 3), r"label is string \[3\]"),
    ],
)
def test_serving_default(change, message, sound_copy):
    edit(sound_copy, lambda graph: change(graph.signature_def["serving_default"]))
    broken(rules.serving_default, sound_copy, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: rename(it.inputs, "inputs", "examples"), "the inputs of classify are examples"),
        (lambda it: it.outputs["more"].CopyFrom(it.outputs["scores"]), "classes, more, scores"),
        (lambda it: retype(it.inputs["inputs"], tf.float32), "inputs is float32"),
        (lambda it: resize(it.outputs["classes"], 1, 2), "classes has 2 columns and scores has 3 columns"),
        (lambda it: resize(it.outputs["scores"], 1, -1), r"not float32 \[-1, 'C'\]"),
    ],
)
def test_classify(change, message, sound_copy):
    edit(sound_copy, lambda graph: change(graph.signature_def["classify"]))
    broken(rules.examples, sound_copy, message)


def test_classify_is_there(sound_copy):
    edit(sound_copy, lambda graph: graph.signature_def.pop("classify"))
    broken(rules.examples, sound_copy, "there is none; the signatures are serving_default")


def test_batch_dimension(tmp_path):
    model = HandMade()
    folder = save(model, tmp_path / "1", mean=lambda text: {"mean": tf.reduce_mean(model.probabilities(text))})
    broken(rules.batch_dimension, folder, r"mean's output mean is float32 \[\]")


def test_a_scalar_input_is_refused(sound_copy):
    """Serving's batching takes none."""

    def change(graph):
        del graph.signature_def["serving_default"].inputs["text"].tensor_shape.dim[:]

    edit(sound_copy, change)
    broken(rules.batch_dimension, sound_copy, r"serving_default's input text is string \[\]")


def test_widths_that_follow_the_batch_are_refused(sound_copy):
    assert rules.fixed_widths(subject(sound_copy)) == "in 2 signatures"
    edit(sound_copy, lambda graph: resize(graph.signature_def["classify"].outputs["scores"], 1, -1))
    broken(rules.fixed_widths, sound_copy, r"classify's output scores is float32 \[-1, -1\]")


def test_an_unknown_rank_is_refused(sound_copy):
    def change(graph):
        graph.signature_def["classify"].inputs["inputs"].tensor_shape.unknown_rank = True

    edit(sound_copy, change)
    broken(rules.fixed_widths, sound_copy, "classify's input inputs is string None")


def test_output_types(tmp_path):
    model = HandMade()
    folder = save(model, tmp_path / "1", low=lambda text: {"low": tf.cast(model.probabilities(text), tf.bfloat16)})
    broken(rules.output_types, folder, "low's output low is bfloat16")


def test_rest_names(tmp_path):
    folder = save(HandMade(), tmp_path / "1", echo=lambda text: {"echo_bytes": tf.identity(text)})
    broken(rules.rest_names, folder, "echo_bytes")
    assert rules.rest_names(subject(folder, bytes_outputs=frozenset({"echo_bytes"})))


# Of 48 characters: in the file the length of a string stands before it, as a byte, here "0".
@pytest.mark.parametrize("path", ["/home/someone/vocab.txt", str(Path(__file__).resolve()), "/tmp/" + 43 * "x"])
def test_no_absolute_path(path, sound_copy):
    def change(graph):
        node = graph.graph_def.node.add(name="file", op="Const")
        node.attr["value"].tensor.string_val.append(path.encode())

    edit(sound_copy, change)
    broken(rules.no_absolute_path, sound_copy, path)


def test_a_label_with_a_slash_is_no_path(sound_copy):
    def change(graph):
        node = graph.graph_def.node.add(name="label", op="Const")
        node.attr["value"].tensor.string_val.append(b"/sports/football and/or/usr/")

    edit(sound_copy, change)
    assert rules.no_absolute_path(subject(sound_copy)).startswith("none")


def test_no_xla(tmp_path):
    model = HandMade()
    compiled = tf.function(lambda x: x * 2.0, jit_compile=True)
    folder = save(model, tmp_path / "1", fast=lambda text: {"twice": compiled(model.probabilities(text))})
    broken(rules.no_xla, folder, "_XlaMustCompile is set")


def test_no_randomness(tmp_path):
    model = HandMade()
    noise = tf.function(lambda x: x + tf.random.uniform(tf.shape(x)))
    folder = save(model, tmp_path / "1", noisy=lambda text: {"noise": noise(model.probabilities(text))})
    broken(rules.no_randomness, folder, "RandomUniform")


def test_no_state(tmp_path, sound):
    model = HandMade()
    model.calls = tf.Variable(0.0)

    def count(text):
        return {"calls": tf.repeat(model.calls.assign_add(1.0), tf.size(text))}

    registry = ask(sound, []).operations
    folder = save(model, tmp_path / "1", count=count)
    broken(rules.no_state, folder, "AssignAddVariableOp", replies=Replies(operations=registry))


def test_weights_once(tmp_path):
    model = HandMade()
    model.copy = tf.Variable(model.kernel)
    broken(rules.weights_once, save(model, tmp_path / "1"), "48 bytes are saved, 24 bytes are read")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"label_names": ["a", "b"]},
            "its task has 2 outputs; serving_default's probabilities has \\[3\\] behind the batch",
        ),
        ({"operations": ["MatMul", "Other"]}, "another graph's"),
    ],
)
def test_metadata(changes, message, sound_copy):
    describe(sound_copy, **changes)
    broken(rules.metadata, sound_copy, message)


@pytest.mark.parametrize("content", ["{", None])
def test_metadata_that_cannot_be_read(content, sound_copy, monkeypatch):
    monkeypatch.setattr("export.server.ask.ask", lambda *arguments: Replies("not asked", refused=True))
    (sound_copy / METADATA).unlink() if content is None else (sound_copy / METADATA).write_text(content)
    finding = next(finding for finding in checking.check(sound_copy) if finding.rule == "metadata")
    assert finding.result == "failed" and "metadata.json cannot be read" in finding.found


def test_metadata_that_lacks_something(sound_copy):
    (sound_copy / METADATA).write_text('{"task": "single_label"}')
    broken(rules.metadata, sound_copy, "has no inputs, ")


def test_warmup(sound_copy, sound):
    logs = read_warmup(sound)
    write_logs(sound_copy, logs[:1] * 1001)
    broken(rules.warmup, sound_copy, "1001 requests")
    for change, message in (
        (lambda request: setattr(request.model_spec, "signature_name", "regress"), "the signature regress"),
        (lambda request: request.inputs["other"].CopyFrom(request.inputs.pop("text")), "other where text is asked"),
        (lambda request: request.inputs["text"].CopyFrom(tf.make_tensor_proto([1.0])), "text as float32"),
    ):
        log = prediction_log_pb2.PredictionLog.FromString(logs[1].SerializeToString())
        change(log.predict_log.request)
        write_logs(sound_copy, [log])
        broken(rules.warmup, sound_copy, message)
    (sound_copy / WARMUP).unlink()
    with pytest.raises(NotChecked):
        rules.warmup(subject(sound_copy))


def test_a_damaged_warmup_is_found(sound_copy):
    content = bytearray((sound_copy / WARMUP).read_bytes())
    content[30] ^= 1
    (sound_copy / WARMUP).write_bytes(content)
    with pytest.raises(ValueError, match="no TFRecord"):
        rules.warmup(subject(sound_copy))


def test_serving_version(sound_copy):
    assert rules.serving_version(subject(sound_copy, serving="2.12.1")) == "needs 2.12.0 or later"
    edit(sound_copy, lambda graph: graph.graph_def.node.add(name="trim", op="TFText>RoundRobinTrim"))
    broken(rules.serving_version, sound_copy, "needs 2.20.0", serving="2.19.1")
    assert rules.serving_version(subject(sound_copy, serving="2.20.0"))
