"""What a server would refuse: small models made by hand, each of which breaks one rule, and one that breaks none."""

import json
import subprocess
import sys
from pathlib import Path

import keras_nlp
import numpy as np
import pytest
import tensorflow as tf
from hand_made import LABELS, TEXTS, HandMade, edit, write_logs
from tiny import VOCABULARY

from export import check as checking
from export.expected import Expected
from export.graph import read_graph
from export.recorded import read_recorded, write_recorded
from export.savedmodel import ExportSettings, HeldOut, ServedModel, export_model, export_verified
from export.server import rules
from export.server.ask import Replies, ask, call_of
from export.server.releases import libraries, minimum_version
from export.signatures import SignatureOptions
from export.warmup import FILE as WARMUP
from export.warmup import inputs_of, read_warmup, write_warmup
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.classifier import build_classifier
from pipeline.errors import UserError
from pipeline.tasks.single_label import SingleLabel
from pipeline.text import TextEncoder

TASK = SingleLabel(LABELS)
# To explain takes longest to export and to ask.
FEW = ExportSettings(SignatureOptions(names=("top_k",)))


@pytest.fixture(scope="module")
def findings(sound) -> dict[str, checking.Finding]:
    """Of the good model, all rules, with a server."""
    return {finding.rule: finding for finding in checking.check(sound)}


def test_a_good_model_breaks_no_rule(findings):
    assert {finding.result for finding in findings.values()} == {"ok"}, findings
    assert len(findings) == len(rules.RULES)
    assert findings["answers of serving default"].found.startswith("3 texts, largest difference")
    assert findings["warmup"].found == "4 requests for classify, serving_default"
    assert findings["loads"].found.startswith(f"in TensorFlow {tf.__version__}, using at most ")
    assert findings["company"].found == "28 requests, cut at every place, differences of at most 1e-05"
    assert findings["any batch size"].found == "64 rows"
    assert "loaded, serving_default " in findings["memory"].found


def test_a_model_with_an_operation_that_no_server_has(sound_copy):
    def change(graph):
        graph.graph_def.node.add(name="new", op="NotYetInvented")

    edit(sound_copy, change)
    findings = {finding.rule: finding for finding in checking.check(sound_copy)}
    assert "NotYetInvented" in findings["known operations"].found
    assert findings["known operations"].result == "failed"
    assert findings["loads"].result == "not checked" and "NotYetInvented" in findings["loads"].found
    assert findings["answers of examples"].result == "not checked"


def test_other_answers_and_a_warmup_that_fails(sound_copy, sound):
    recorded = json.loads((sound_copy / "assets.extra" / "recorded.json").read_text())
    recorded["predictions"][1][0] += 0.01
    (sound_copy / "assets.extra" / "recorded.json").write_text(json.dumps(recorded))
    log = read_warmup(sound)[1]
    # The right type in the wrong shape: a matrix of texts.
    log.predict_log.request.inputs["text"].CopyFrom(tf.make_tensor_proto([["a"]]))
    write_logs(sound_copy, [log])
    findings = {finding.rule: finding for finding in checking.check(sound_copy)}
    failed = {finding.rule for finding in findings.values() if finding.result == "failed"}
    assert failed == {"answers of serving default", "answers of examples", "answers of warmup"}
    assert "for 'some words' it gives" in findings["answers of examples"].found
    assert findings["answers of warmup"].found.startswith("request 1 failed")


def test_recorded_answers(sound, tmp_path):
    recorded = read_recorded(sound)
    assert recorded.texts == [["a", "some words", "a much longer text"]]
    np.testing.assert_array_equal(recorded.predictions, HandMade().probabilities(recorded.texts[0]).numpy().tolist())
    write_recorded(tmp_path, {"text": TEXTS}, Expected(np.ones([5, 3]), 1e-5), 0)
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
    calls = [call_of(graph.signature_def[name], inputs) for name, inputs in logs]
    assert not [answer for answer in ask(tmp_path, calls).answers if isinstance(answer, str)]


def test_what_is_costly_warms_up_with_short_texts(tmp_path):
    model = HandMade()
    examples = tf.function(model.classify, input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    tf.saved_model.save(model, str(tmp_path), {"classify": examples, "explain": examples})
    write_warmup(tmp_path, {"text": ["word " * 1_000]}, [1], Encoder())
    sizes = {name: len(inputs["inputs"][0]) for name, inputs in map(inputs_of, read_warmup(tmp_path))}
    assert sizes["explain"] < 100 and sizes["classify"] > 4_000


def test_no_warmup_and_too_much_of_it(sound_copy):
    (sound_copy / WARMUP).unlink()
    assert write_warmup(sound_copy, {"text": TEXTS}, [], Encoder()) == 0
    assert not (sound_copy / WARMUP).exists()
    with pytest.raises(UserError, match="makes 1002 requests for 2 signatures"):
        write_warmup(sound_copy, {"text": TEXTS}, [1] * 501, Encoder())


def test_libraries_of_a_release():
    names = {version: {path.name for path in libraries(version)[1]} for version in ("2.19.1", "2.20.0")}
    assert names["2.20.0"] - names["2.19.1"] == {"_trimmer_ops.so", "_utf8_binarize_op.so"}
    assert "_fast_bert_normalizer.so" in names["2.19.1"]
    assert minimum_version(["MatMul", "FastBertNormalize"]) == "2.12.0"
    assert minimum_version(["MatMul", "TFText>RoundRobinTrim"]) == "2.20.0"


def test_an_older_release_lacks_the_operations_of_its_libraries(sound):
    operations = ask(sound, [], serving="2.19.1").operations
    assert "FastBertNormalize" in operations and "TFText>RoundRobinTrim" not in operations


def test_a_process_that_breaks_down_is_told_of(sound, tmp_path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow_text" / "python" / "ops").mkdir(parents=True)
    for path in ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2"):
        (tmp_path / "tensorflow" / path).write_text("no library")
    (tmp_path / "tensorflow_text" / "python" / "ops" / "_ops.so").write_text("no library")
    replies = ask(sound, [], site=tmp_path)
    assert replies.operations is None and "OSError" in replies.error


def ask_command(capsys, *arguments) -> tuple[int, str, str]:
    status = checking.main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_command_line_in_a_fresh_process(sound):
    process = subprocess.run(
        [sys.executable, "-m", "export.check", str(sound.parents[1])],
        capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert len(lines) == len(rules.RULES) + 1
    assert all(line.startswith("ok  ") for line in lines[:-1])
    assert lines[-1] == f"{sound}: no rule is broken"


def test_command_line_json_and_status_of_a_broken_model(sound_copy, capsys, monkeypatch):
    monkeypatch.setattr("export.server.ask.ask", lambda *arguments: Replies("not asked", refused=True))
    edit(sound_copy, lambda graph: graph.signature_def.pop("classify"))
    status, output, _ = ask_command(capsys, sound_copy, "--json")
    content = json.loads(output)
    assert status == 1 and content["ok"] is False and content["model"] == str(sound_copy)
    failed = {row["rule"]: row["found"] for row in content["rules"] if row["result"] == "failed"}
    assert failed["examples"] == "there is none; the signatures are serving_default"
    status, output, _ = ask_command(capsys, sound_copy)
    assert status == 1 and "broken: examples, " in output.splitlines()[-1]


def test_command_line_errors_are_one_sentence(sound, tmp_path, capsys):
    for arguments, message in (
        ([tmp_path / "absent"], "no such folder"),
        ([tmp_path], "holds no exported model"),
        ([sound, "--serving", "latest"], "latest is no release"),
        ([sound, "--timeout", "0"], "--timeout 0: it must be above 0"),
        ([sound, "--memory", "nan"], "--memory nan"),
        ([sound, "--tensorflow", tmp_path], "libtensorflow_cc.so.2 is missing"),
    ):
        status, output, error = ask_command(capsys, *arguments)
        assert (status, output) == (2, "")
        assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_what_a_run_does_not_check_is_said_in_one_line(sound, capsys, monkeypatch):
    checking.require(sound)
    assert capsys.readouterr().out == (
        "note: the export keeps the rules of TensorFlow Serving; not checked: memory (export.check)\n"
    )

    def missing(*arguments):
        raise FileNotFoundError("libtensorflow_cc.so.2 is missing: is that a Linux wheel of TensorFlow?")

    monkeypatch.setattr("export.server.ask.libraries", missing)
    checking.require(sound)
    output = capsys.readouterr().out
    assert output.startswith("note: the export was not checked as TensorFlow Serving would take it: libtensorflow_cc")
    assert output.count("\n") == 1


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
        export_verified(model, encoder, TASK, tmp_path, HeldOut([texts], Expected(expected, 1e-5)), settings=FEW)
    assert list(tmp_path.iterdir()) == []


def test_bad_requests_change_no_other_answer_of_their_batch_and_need_little_memory(bert, tmp_path):
    folder = export_model(*bert, TASK, tmp_path, settings=FEW)
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
    held_out = HeldOut([texts], Expected(expected, 1e-5))
    version = export_verified(model, encoder, TASK, tmp_path / "saved_model", held_out, settings=settings)
    packages = ["tensorflow==2.20.0", "tensorflow-text==2.20.1"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "tf"), *packages]
    subprocess.run(pip, check=True)
    findings = {finding.rule: finding for finding in checking.check(version, tensorflow=tmp_path / "tf")}
    assert findings["loads"].found.startswith("in TensorFlow 2.20.0, ")
    assert {finding.result for finding in findings.values()} == {"ok"}, findings
