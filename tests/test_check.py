"""What a server would refuse: small models made by hand, each of which breaks one rule, and one that breaks none."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras_nlp
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tiny import VOCABULARY

from export import check as checking
from export.graph import operations, read_graph
from export.recorded import read_recorded, write_recorded
from export.savedmodel import ExportSettings, HeldOut, ServedModel, export_model, export_verified
from export.server import rules
from export.server.ask import Replies, ask
from export.server.releases import libraries, minimum_version
from export.server.rules.subject import Broken, NotChecked, Subject
from export.versions import METADATA
from export.warmup import FILE as WARMUP
from export.warmup import inputs_of, read_warmup, write_warmup
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.classifier import build_classifier
from pipeline.errors import UserError
from pipeline.tasks.single_label import SingleLabel
from pipeline.text import TextEncoder

LABELS = ("short", "long", "longer")
TASK = SingleLabel(LABELS)
TEXTS = ["a", "", "some words", "déjà vu", "a much longer text"]


class HandMade(tf.Module):
    """Answers by the length of a text."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable([[0.1, -0.2, 0.3], [0.5, 0.1, -0.4]])

    def probabilities(self, text):
        length = tf.cast(tf.strings.length(text), tf.float32)
        return tf.nn.softmax(tf.stack([length, tf.ones_like(length)], axis=1) @ self.kernel)

    def serve(self, text):
        probabilities = self.probabilities(text)
        label = tf.gather(tf.constant(LABELS), tf.argmax(probabilities, axis=1))
        return {"label": label, "score": tf.reduce_max(probabilities, axis=1), "probabilities": probabilities}

    def classify(self, inputs):
        text = tf.io.parse_example(inputs, {"text": tf.io.FixedLenFeature([], tf.string, "")})["text"]
        classes = tf.repeat(tf.constant([LABELS]), tf.shape(text)[0], axis=0)
        return {"classes": classes, "scores": self.probabilities(text)}


def save(model: HandMade, folder: Path, **more) -> Path:
    """With the signatures of this project, or others in place of them, and what an export has beside it."""
    strings = [tf.TensorSpec([None], tf.string)]
    signatures = {
        "serving_default": tf.function(model.serve, input_signature=[tf.TensorSpec([None], tf.string, "text")]),
        "classify": tf.function(model.classify, input_signature=[tf.TensorSpec([None], tf.string, "inputs")]),
        **{name: tf.function(function, input_signature=strings) for name, function in more.items()},
    }
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    tf.saved_model.save(model, str(folder), signatures, options)
    (folder / "assets.extra").mkdir()
    describe(folder)
    write_recorded(folder, [TEXTS], model.probabilities(TEXTS).numpy(), 1e-5, 3)
    write_warmup(folder, {"text": TEXTS}, [1, 4], lambda text, fixed_length: {})
    return folder


def describe(folder: Path, **changes) -> None:
    content = {
        "label_names": LABELS, "task": "single_label", "inputs": ["text"], "tokenization": "", "versions": {},
        "run": {}, "minimum_serving": "2.12.0", "operations": operations(read_graph(folder)), **changes,
    }  # fmt: skip
    (folder / METADATA).write_text(json.dumps(content))


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return save(HandMade(), tmp_path_factory.mktemp("models") / "saved_model" / "1")


@pytest.fixture
def copy(good, tmp_path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "1"))


def edit(folder: Path, change) -> None:
    """Apply a function to the MetaGraphDef in saved_model.pb."""
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    change(saved.meta_graphs[0])
    path.write_bytes(saved.SerializeToString())


def subject(folder: Path, **known) -> Subject:
    """Without a server."""
    return Subject(folder, read_graph(folder), **{"replies": Replies("not asked"), "purposes": (), **known})


def broken(rule, folder: Path, message: str, **known) -> None:
    with pytest.raises(Broken, match=message):
        rule(subject(folder, **known))


@pytest.fixture(scope="module")
def findings(good) -> dict[str, checking.Finding]:
    """Of the good model, all rules, with a server."""
    return {finding.rule: finding for finding in checking.check(good)}


def test_a_good_model_breaks_no_rule(findings):
    assert {finding.result for finding in findings.values()} == {"ok"}, findings
    assert len(findings) == len(rules.RULES)
    assert findings["answers of serving default"].found.startswith("3 texts, largest difference")
    assert findings["warmup"].found == "4 requests for classify, serving_default"
    assert findings["loads"].found.startswith(f"in TensorFlow {tf.__version__}, using at most ")


def test_version_folder(good, tmp_path):
    broken(rules.version_folder, Path(shutil.copytree(good, tmp_path / "best")), "best")


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
def test_serving_default(change, message, copy):
    edit(copy, lambda graph: change(graph.signature_def["serving_default"]))
    broken(rules.serving_default, copy, message)


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
def test_classify(change, message, copy):
    edit(copy, lambda graph: change(graph.signature_def["classify"]))
    broken(rules.examples, copy, message)


def test_classify_is_there(copy):
    edit(copy, lambda graph: graph.signature_def.pop("classify"))
    broken(rules.examples, copy, "there is none; the signatures are serving_default")


def test_batch_dimension(tmp_path):
    model = HandMade()
    folder = save(model, tmp_path / "1", mean=lambda text: {"mean": tf.reduce_mean(model.probabilities(text))})
    broken(rules.batch_dimension, folder, r"mean's output mean is float32 \[\]")


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
def test_no_absolute_path(path, copy):
    def change(graph):
        node = graph.graph_def.node.add(name="file", op="Const")
        node.attr["value"].tensor.string_val.append(path.encode())

    edit(copy, change)
    broken(rules.no_absolute_path, copy, path)


def test_a_label_with_a_slash_is_no_path(copy):
    edit(copy, lambda graph: graph.graph_def.node.add(name="label", op="Const").attr["value"].tensor.string_val.append(
        b"/sports/football and/or/usr/"))  # fmt: skip
    assert rules.no_absolute_path(subject(copy)).startswith("none")


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


def test_no_state(tmp_path, findings, good):
    model = HandMade()
    model.calls = tf.Variable(0.0)

    def count(text):
        return {"calls": tf.repeat(model.calls.assign_add(1.0), tf.size(text))}

    registry = ask(good, []).operations
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
def test_metadata(changes, message, copy):
    describe(copy, **changes)
    broken(rules.metadata, copy, message)


@pytest.mark.parametrize("content", ["{", None])
def test_metadata_that_cannot_be_read(content, copy, monkeypatch):
    monkeypatch.setattr("export.server.ask.ask", lambda *arguments: Replies("not asked"))
    (copy / METADATA).unlink() if content is None else (copy / METADATA).write_text(content)
    finding = next(finding for finding in checking.check(copy) if finding.rule == "metadata")
    assert finding.result == "failed" and "metadata.json cannot be read" in finding.found


def test_metadata_that_lacks_something(copy):
    (copy / METADATA).write_text('{"task": "single_label"}')
    broken(rules.metadata, copy, "has no inputs, ")


def write_logs(folder: Path, logs: list) -> None:
    with tf.io.TFRecordWriter(str(folder / WARMUP)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def test_warmup(copy, good):
    logs = read_warmup(good)
    write_logs(copy, logs[:1] * 1001)
    broken(rules.warmup, copy, "1001 requests")
    for change, message in (
        (lambda request: setattr(request.model_spec, "signature_name", "regress"), "the signature regress"),
        (lambda request: request.inputs["other"].CopyFrom(request.inputs.pop("text")), "other where text is asked"),
        (lambda request: request.inputs["text"].CopyFrom(tf.make_tensor_proto([1.0])), "text as float32"),
    ):
        log = prediction_log_pb2.PredictionLog.FromString(logs[1].SerializeToString())
        change(log.predict_log.request)
        write_logs(copy, [log])
        broken(rules.warmup, copy, message)
    (copy / WARMUP).unlink()
    with pytest.raises(NotChecked):
        rules.warmup(subject(copy))


def test_a_damaged_warmup_is_found(copy):
    content = bytearray((copy / WARMUP).read_bytes())
    content[30] ^= 1
    (copy / WARMUP).write_bytes(content)
    with pytest.raises(ValueError, match="no TFRecord"):
        rules.warmup(subject(copy))


def test_serving_version(copy):
    assert rules.serving_version(subject(copy, serving="2.12.1")) == "needs 2.12.0 or later"
    edit(copy, lambda graph: graph.graph_def.node.add(name="trim", op="TFText>RoundRobinTrim"))
    broken(rules.serving_version, copy, "needs 2.20.0", serving="2.19.1")
    assert rules.serving_version(subject(copy, serving="2.20.0"))


def test_a_model_with_an_operation_that_no_server_has(copy):
    def change(graph):
        graph.graph_def.node.add(name="new", op="NotYetInvented")

    edit(copy, change)
    findings = {finding.rule: finding for finding in checking.check(copy)}
    assert "NotYetInvented" in findings["known operations"].found
    assert findings["known operations"].result == findings["loads"].result == "failed"
    assert "NotYetInvented" in findings["loads"].found
    assert findings["answers of examples"].result == "not checked"


def test_other_answers_and_a_warmup_that_fails(copy, good):
    recorded = json.loads((copy / "assets.extra" / "recorded.json").read_text())
    recorded["predictions"][1][0] += 0.01
    (copy / "assets.extra" / "recorded.json").write_text(json.dumps(recorded))
    log = read_warmup(good)[1]
    # The right type in the wrong shape: a matrix of texts.
    log.predict_log.request.inputs["text"].CopyFrom(tf.make_tensor_proto([["a"]]))
    write_logs(copy, [log])
    findings = {finding.rule: finding for finding in checking.check(copy)}
    failed = {finding.rule for finding in findings.values() if finding.result == "failed"}
    assert failed == {"answers of serving default", "answers of examples", "answers of warmup"}
    assert "for 'some words' it gives" in findings["answers of examples"].found
    assert findings["answers of warmup"].found.startswith("request 1 failed")


def test_recorded_answers(good, tmp_path):
    recorded = read_recorded(good)
    assert recorded.texts == [["a", "some words", "a much longer text"]]
    np.testing.assert_array_equal(recorded.predictions, HandMade().probabilities(recorded.texts[0]).numpy().tolist())
    write_recorded(tmp_path, [TEXTS], np.ones([5, 3]), 1e-5, 0)
    assert read_recorded(tmp_path) is None
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "recorded.json").write_text('{"texts": [["a"]]}')
    with pytest.raises(ValueError, match="cannot be read"):
        read_recorded(tmp_path)


class Encoder:
    """Of three tokens a text."""

    def __call__(self, *texts, fixed_length=True):
        return {name: tf.ones([len(texts[0]), 3], tf.int32) for name in ("token_ids", "padding_mask")}


def test_warmup_asks_every_signature_in_every_size(tmp_path):
    """Also signatures of token ids, of tf.Examples to other outputs, and with further options."""

    class Model(HandMade):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None], tf.int32, "token_ids"),
                tf.TensorSpec([None, None], tf.int64, "padding_mask"),
            ]
        )
        def tokens(self, token_ids, padding_mask):
            return {"sum": tf.reduce_sum(token_ids, axis=1), "tokens": tf.reduce_sum(padding_mask, axis=1)}

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.string, "text_a"),
                tf.TensorSpec([None], tf.string, "text_b"),
                tf.TensorSpec([], tf.float32, "threshold"),
                tf.TensorSpec([None, 2], tf.int64, "extra"),
            ]
        )
        def pair(self, text_a, text_b, threshold, extra):
            return {"longer": tf.strings.length(text_a) > tf.strings.length(text_b), "extra": extra + 0}

    model = Model()
    examples = tf.function(
        lambda inputs: {"size": tf.strings.length(inputs)}, input_signature=[tf.TensorSpec([None], tf.string, "inputs")]
    )
    signatures = {"tokens": model.tokens, "pair": model.pair, "examples": examples, "explain": examples}
    tf.saved_model.save(model, str(tmp_path), signatures)
    assert write_warmup(tmp_path, {"text_a": TEXTS, "text_b": TEXTS[::-1]}, [7, 1], Encoder()) == 7
    logs = [inputs_of(log) for log in read_warmup(tmp_path)]
    # What is costly is asked in the smallest size only.
    assert [name for name, _ in logs] == ["examples", "pair", "tokens", "examples", "explain", "pair", "tokens"]
    shapes = [{key: (array.shape, array.dtype) for key, array in inputs.items()} for _, inputs in logs[:3]]
    texts = ((7,), np.dtype(object))
    assert shapes == [
        {"inputs": texts},
        {"text_a": texts, "text_b": texts, "threshold": ((), np.float32), "extra": ((7, 2), np.int64)},
        {"token_ids": ((7, 3), np.int32), "padding_mask": ((7, 3), np.int64)},
    ]
    # Texts are taken in turn.
    assert [text.decode() for text in logs[1][1]["text_b"]] == [*TEXTS[::-1], *TEXTS[::-1][:2]]
    example = tf.train.Example.FromString(logs[3][1]["inputs"][0]).features.feature
    assert example["text_b"].bytes_list.value[0].decode() == TEXTS[-1]
    # And a server takes them all.
    graph = read_graph(tmp_path)
    calls = []
    for name, inputs in logs:
        signature = graph.signature_def[name]
        feeds = {signature.inputs[key].name: array for key, array in inputs.items()}
        calls.append((feeds, [output.name for output in signature.outputs.values()]))
    assert not [answer for answer in ask(tmp_path, calls).answers if isinstance(answer, str)]


def test_no_warmup_and_too_much_of_it(copy):
    (copy / WARMUP).unlink()
    assert write_warmup(copy, {"text": TEXTS}, [], Encoder()) == 0
    assert not (copy / WARMUP).exists()
    with pytest.raises(UserError, match="makes 1002 requests for 2 signatures"):
        write_warmup(copy, {"text": TEXTS}, [1] * 501, Encoder())


def test_libraries_of_a_release():
    names = {version: {path.name for path in libraries(version)[1]} for version in ("2.19.1", "2.20.0")}
    assert names["2.20.0"] - names["2.19.1"] == {"_trimmer_ops.so", "_utf8_binarize_op.so"}
    assert "_fast_bert_normalizer.so" in names["2.19.1"]
    assert minimum_version(["MatMul", "FastBertNormalize"]) == "2.12.0"
    assert minimum_version(["MatMul", "TFText>RoundRobinTrim"]) == "2.20.0"


def test_an_older_release_lacks_the_operations_of_its_libraries(good):
    operations = ask(good, [], serving="2.19.1").operations
    assert "FastBertNormalize" in operations and "TFText>RoundRobinTrim" not in operations


def test_a_process_that_breaks_down_is_told_of(good, tmp_path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow_text" / "python" / "ops").mkdir(parents=True)
    for path in ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2"):
        (tmp_path / "tensorflow" / path).write_text("no library")
    (tmp_path / "tensorflow_text" / "python" / "ops" / "_ops.so").write_text("no library")
    replies = ask(good, [], site=tmp_path)
    assert replies.operations is None and "OSError" in replies.error


def ask_command(capsys, *arguments) -> tuple[int, str, str]:
    status = checking.main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_command_line_in_a_fresh_process(good):
    process = subprocess.run(
        [sys.executable, "-m", "export.check", str(good.parents[1])],
        capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert len(lines) == len(rules.RULES) + 1
    assert all(line.startswith("ok  ") for line in lines[:-1])
    assert lines[-1] == f"{good}: no rule is broken"


def test_command_line_json_and_status_of_a_broken_model(copy, capsys, monkeypatch):
    monkeypatch.setattr("export.server.ask.ask", lambda *arguments: Replies("not asked"))
    edit(copy, lambda graph: graph.signature_def.pop("classify"))
    status, output, _ = ask_command(capsys, copy, "--json")
    content = json.loads(output)
    assert status == 1 and content["ok"] is False and content["model"] == str(copy)
    failed = {row["rule"]: row["found"] for row in content["rules"] if row["result"] == "failed"}
    assert failed["examples"] == "there is none; the signatures are serving_default"
    status, output, _ = ask_command(capsys, copy)
    assert status == 1 and "broken: examples, " in output.splitlines()[-1]


def test_command_line_errors_are_one_sentence(good, tmp_path, capsys):
    for arguments, message in (
        ([tmp_path / "absent"], "no such folder"),
        ([tmp_path], "holds no exported model"),
        ([good, "--serving", "latest"], "latest is no release"),
        ([good, "--tensorflow", tmp_path], "libtensorflow_cc.so.2 is missing"),
    ):
        status, output, error = ask_command(capsys, *arguments)
        assert (status, output) == (2, "")
        assert error.startswith("error: ") and error.count("\n") == 1 and message in error


@pytest.fixture(scope="module")
def bert() -> tuple:
    """A tiny model, and its encoder."""
    backbone = keras_nlp.models.BertBackbone(
        vocabulary_size=len(VOCABULARY), num_layers=1, num_heads=2, hidden_dim=16, intermediate_dim=32,
        max_sequence_length=24,
    )  # fmt: skip
    model = build_classifier(LoadedBackbone(backbone, tuple(VOCABULARY), True, True), len(LABELS), pooling="fresh")
    random = np.random.default_rng(3)
    for variable in model.weights:
        variable.assign(random.normal(float(variable.path.endswith("gamma")), 0.5, variable.shape))
    return model, TextEncoder(VOCABULARY, lowercase=True, sequence_length=24)


def test_an_export_that_breaks_a_rule_is_refused_and_removed(bert, tmp_path, monkeypatch):
    model, encoder = bert
    texts = ["the team and the bank", "a rocket"]
    expected = tf.nn.softmax(model(encoder(texts), training=False)).numpy()
    prepare = ServedModel.__init__

    def with_more(self, *arguments):
        prepare(self, *arguments)
        self.more = tf.Variable([1.0, 2.0])

    monkeypatch.setattr(ServedModel, "__init__", with_more)
    with pytest.raises(
        UserError, match=r"would not serve the export as it should: weights once: [0-9,]+ bytes are saved"
    ):
        export_verified(model, encoder, TASK, tmp_path, HeldOut([texts], expected, 1e-5))
    assert list(tmp_path.iterdir()) == []


def test_bad_requests_change_no_other_answer_of_their_batch_and_need_little_memory(bert, tmp_path):
    folder = export_model(*bert, TASK, tmp_path)
    signature = read_graph(folder).signature_def["serving_default"]
    fetched = [signature.outputs[name].name for name in ("label", "probabilities")]
    random = np.random.default_rng(0)
    batch = [" ".join(random.choice(VOCABULARY[5:], 1 + i % 40)).encode() for i in range(64)]
    bad = {
        5: b"\xff\xfe\xc3(",
        13: b"x" * 10_000_000,
        21: b"the team " * 1_100_000,
        34: b"",
        55: "\N{ROCKET}".encode() * 100_000,
    }
    mixed = [bad.get(i, text) for i, text in enumerate(batch)]
    calls = [({signature.inputs["text"].name: np.array(texts, object)}, fetched) for texts in (batch, mixed)]
    alone, both = ask(folder, calls[:1]), ask(folder, calls)
    labels, probabilities = both.answers[1]
    others = [i for i in range(64) if i not in bad]
    assert (labels[others] == both.answers[0][0][others]).all()
    np.testing.assert_allclose(probabilities[others], both.answers[0][1][others], atol=1e-6)
    assert np.ptp(probabilities[others], axis=0).max() > 0.1, "the model must tell these texts apart"
    assert np.isfinite(probabilities).all()
    # 20 MB came, in a few copies: as sent, as received, normalised.
    assert both.peak_bytes < alone.peak_bytes + 250e6


@pytest.mark.slow
@pytest.mark.network
def test_in_the_tensorflow_of_a_server(bert, tmp_path):
    """TensorFlow 2.20.0 with tensorflow-text 2.20.1: the nearest to TensorFlow Serving 2.20.0 that pip has."""
    model, encoder = bert
    texts = ["the team and the bank", "a rocket", ""]
    expected = tf.nn.softmax(model(encoder(texts), training=False)).numpy()
    settings = ExportSettings(warmup_batch_sizes=[1, 8])
    held_out = HeldOut([texts], expected, 1e-5)
    version = export_verified(model, encoder, TASK, tmp_path / "saved_model", held_out, settings=settings)
    packages = ["tensorflow==2.20.0", "tensorflow-text==2.20.1"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "tf"), *packages]
    subprocess.run(pip, check=True)
    findings = {finding.rule: finding for finding in checking.check(version, tensorflow=tmp_path / "tf")}
    assert findings["loads"].found.startswith("in TensorFlow 2.20.0, ")
    assert {finding.result for finding in findings.values()} == {"ok"}, findings
