"""A tiny BERT on a made vocabulary, exported, verified and asked."""

import copy
import functools
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from letters import (
    LABELS,
    TASK,
    TEXTS,
    VOCABULARY,
    checkpoint_bytes,
    forbidden_operations,
    live,
    make_model,
)

from export import savedmodel
from export.expected import Expected
from export.fused import FusedClassifier, UnsupportedModel
from export.loading import Classifier
from export.savedmodel import ExportSettings, HeldOut, export_model, export_verified
from export.signatures import SignatureOptions
from export.verify import ExportDiffers, _answers, rounding_tolerance, verify
from export.versions import ModelError
from pipeline.errors import UserError
from pipeline.features import TWO_TEXTS
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.single_label import SingleLabel

# Its graph takes several times as long to make as all others together.
SETTINGS = ExportSettings(SignatureOptions(["predict_tokens", "top_k"]))
export_classifier = functools.partial(export_model, settings=SETTINGS)


@pytest.fixture(scope="module")
def exported(model, encoder, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("run")
    return export_model(
        model, encoder, TASK, run / "saved_model", settings=ExportSettings(metadata={"run": {"score": 0.5}})
    )


def serve(folder: Path, **inputs):
    loaded = tf.saved_model.load(str(folder))
    return loaded.signatures["serving_default"](**{name: tf.constant(column) for name, column in inputs.items()})


def test_serving_default_names_types_and_shapes(exported):
    signature = tf.saved_model.load(str(exported)).signatures["serving_default"]
    assert signature.structured_input_signature[1] == {"text": tf.TensorSpec([None], tf.string, "text")}
    outputs = {name: (tuple(spec.shape), spec.dtype) for name, spec in signature.structured_outputs.items()}
    assert outputs == {
        "label": ((None,), tf.string), "score": ((None,), tf.float32), "probabilities": ((None, 3), tf.float32),
    }  # fmt: skip


def test_answers_are_the_live_models(exported, model, encoder):
    expected = live(model, encoder, TEXTS)
    answers = Classifier(exported)(TEXTS)
    np.testing.assert_allclose(answers.probabilities, expected, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 0.1, "the model must tell these texts apart"
    assert answers.labels == [LABELS[i] for i in expected.argmax(axis=1)]
    np.testing.assert_array_equal(answers.scores, answers.probabilities.max(axis=1))


def test_classify_takes_examples_and_an_absent_feature_is_an_empty_text(exported, model, encoder):
    def example(features: dict) -> bytes:
        features = {k: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])) for k, v in features.items()}
        return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()

    signature = tf.saved_model.load(str(exported)).signatures["classify"]
    assert list(signature.structured_input_signature[1]) == ["inputs"]
    answer = signature(inputs=tf.constant([example({"text": b"hello"}), example({"other": b"x"}), b""]))
    assert answer["classes"].numpy().tolist() == [[name.encode() for name in LABELS]] * 3
    np.testing.assert_allclose(answer["scores"], live(model, encoder, ["hello", "", ""]), atol=1e-6)
    strange = [example({"text": b"hello"}), b"not an example", example({"text": b"hello"})[:-1]]
    scores = signature(inputs=tf.constant(strange))["scores"]
    np.testing.assert_allclose(scores, live(model, encoder, ["hello", "", ""]), atol=1e-6)


def test_pairs(encoder, tmp_path):
    model = make_model()
    first, second = ["a b", "c d e f g h i j k l m n o p q r s"], ["x", "the second text is long as well and is cut"]
    folder = export_classifier(model, encoder, TASK, tmp_path, TWO_TEXTS)
    answers = Classifier(folder)(first, second)
    np.testing.assert_allclose(answers.probabilities, live(model, encoder, first, second), atol=1e-6)
    with pytest.raises(ModelError, match="text_a and text_b"):
        Classifier(folder)(first)
    with pytest.raises(ModelError, match="differ in length"):
        Classifier(folder)(first, second[:1])


def test_several_labels_are_joined_and_may_be_none(model, encoder, tmp_path):
    logits = model(encoder(tf.constant(TEXTS)), training=False)
    expected = tf.sigmoid(logits).numpy()
    threshold = float(np.median(expected))
    task = MultiLabel(LABELS, threshold, " + ")
    folder = export_classifier(model, encoder, task, tmp_path)
    answers = Classifier(folder)(TEXTS)
    np.testing.assert_allclose(answers.probabilities, expected, atol=1e-6)
    assert answers.labels == task.answer_of(answers.probabilities)["label"]
    assert any(" + " in label for label in answers.labels)
    folder = export_classifier(model, encoder, MultiLabel(LABELS, 0.999999), tmp_path)
    assert Classifier(folder)(TEXTS).labels == [""] * len(TEXTS)


def test_any_bytes_are_answered_and_change_no_other_answer(exported):
    strange = [b"\xff\xfe", b"a\x00b", b"\xed\xa0\x80", "🙂".encode() * 1000, b" " * 5000, b"x" * 100_000]
    alone = serve(exported, text=["hello world", "x ?"])["probabilities"]
    together = serve(exported, text=["hello world", *strange, "x ?"])["probabilities"].numpy()
    assert np.isfinite(together).all()
    np.testing.assert_allclose(together[[0, -1]], alone, atol=1e-6)


@pytest.mark.parametrize("pooling", ["fresh", "cls", "mean"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_fused_graph_computes_what_keras_computes(pooling, activation, encoder):
    model = make_model(pooling, activation=activation)
    inputs = encoder(tf.constant(TEXTS))
    expected = model(inputs, training=False)
    fused = FusedClassifier(model)
    np.testing.assert_allclose(fused(inputs), expected, atol=2e-5)
    # As a function, where TensorFlow replaces groups of operations by single kernels.
    np.testing.assert_allclose(tf.function(fused)(inputs), expected, atol=2e-5)


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
def test_bfloat16_model_answers_in_float32(policy, encoder, tmp_path):
    model = make_model(policy=policy)
    folder = export_classifier(model, encoder, TASK, tmp_path)
    answers = Classifier(folder)(TEXTS)
    assert answers.probabilities.dtype == np.float32
    np.testing.assert_allclose(answers.probabilities, live(model, encoder, TEXTS), atol=0.03)
    assert checkpoint_bytes(folder) < 0.6 * checkpoint_bytes(export_classifier(make_model(), encoder, TASK, tmp_path))


def test_a_model_of_another_architecture_is_exported_as_it_is(encoder, tmp_path):
    names = ("token_ids", "segment_ids", "padding_mask")
    inputs = {name: keras.Input([None], dtype="int32", name=name) for name in names}
    weights = keras.initializers.RandomNormal(seed=1)
    vectors = keras.layers.Embedding(len(VOCABULARY), 8, embeddings_initializer=weights)(inputs["token_ids"])
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Dropout(0.5)(vectors))
    model = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer=weights)(pooled))
    with pytest.raises(UnsupportedModel, match=r"not built by pipeline\.classifier"):
        FusedClassifier(model)
    folder = export_classifier(model, encoder, TASK, tmp_path)
    np.testing.assert_allclose(serve(folder, text=TEXTS)["probabilities"], live(model, encoder, TEXTS), atol=1e-6)
    assert checkpoint_bytes(folder) == 4 * model.count_params()
    assert not forbidden_operations(folder)


def test_weights_are_saved_once_and_without_the_unused_pooler(exported, model):
    pooler = model.layers[3].get_layer("pooled_dense").count_params()
    norms = sum(int(np.prod(v.shape)) for v in model.weights if "layer_norm" in v.path)
    assert checkpoint_bytes(exported) == 4 * (model.count_params() - pooler - norms)


def test_graph_has_no_random_or_stateful_operation_no_xla_and_no_path(exported):
    assert not forbidden_operations(exported)
    content = (exported / "saved_model.pb").read_bytes()
    for path in (str(exported.parents[1]), str(Path(__file__).parents[1]), sys.prefix):
        assert path.encode() not in content
    assert sorted(path.name for path in exported.iterdir()) == [
        "assets", "assets.extra", "fingerprint.pb", "saved_model.pb", "variables",
    ]  # fmt: skip
    assert not list((exported / "assets").iterdir())


def test_tensorflow_fuses_the_served_graph(exported):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(exported))
        signature = loaded.signature_def["serving_default"]
        record = tf.compat.v1.RunMetadata()
        options = tf.compat.v1.RunOptions(output_partition_graphs=True)
        fetched = signature.outputs["probabilities"].name
        session.run(fetched, {signature.inputs["text"].name: TEXTS}, options=options, run_metadata=record)
    operations = [node.op for graph in record.partition_graphs for node in graph.node]
    if not any(operation.startswith("_Mkl") for operation in operations):
        pytest.skip("TensorFlow was built or started without oneDNN")
    # Which of the five are found differs from process to process; those that are not compute the same, unfused.
    assert operations.count("_MklLayerNorm") >= 3
    assert "_MklFusedBatchMatMulV2" in operations
    assert "Erf" not in operations


def test_metadata_beside_the_model(exported, encoder):
    description = json.loads((exported / "assets.extra" / "metadata.json").read_text(encoding="utf-8"))
    assert description["label_names"] == list(LABELS)
    assert description["task"] == "single_label"
    assert description["inputs"] == ["text"]
    assert description["sequence_length"] == 24
    assert description["tokenization"] == encoder.fingerprint
    assert description["versions"]["tensorflow"] == tf.__version__
    assert description["run"] == {"score": 0.5}


def publish(folder: Path, name: str = "new", version: int | None = None) -> str:
    (folder / f".{name}").mkdir()
    (folder / f".{name}" / "file").touch()
    return savedmodel._publish(folder / f".{name}", folder, version).name


def test_versions_count_up_and_are_never_overwritten(tmp_path):
    assert [publish(tmp_path, version=wanted) for wanted in (None, None, 10, None)] == ["1", "2", "10", "11"]
    with pytest.raises(UserError, match="exists"):
        publish(tmp_path, version=2)
    (tmp_path / ".above").mkdir()
    assert savedmodel._publish(tmp_path / ".above", tmp_path, None, 40).name == "41"
    assert publish(tmp_path, "next") == "42"


def test_exports_at_the_same_time_take_different_numbers(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(lambda name: publish(tmp_path, name), "abcdefgh")) == list("12345678")


def test_nothing_is_visible_before_it_is_complete_or_left_when_it_fails(model, encoder, tmp_path):
    def check(folder):
        assert not any(path.name.isdigit() for path in tmp_path.iterdir())
        assert (folder / "saved_model.pb").is_file()
        assert (folder / "assets.extra" / "metadata.json").is_file()
        raise RuntimeError("refused")

    with pytest.raises(RuntimeError, match="refused"):
        export_classifier(model, encoder, TASK, tmp_path, check=check)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_number_of_labels_is_refused(model, encoder, tmp_path):
    with pytest.raises(UserError, match="the task has 2 outputs, but the model 3"):
        export_classifier(model, encoder, SingleLabel(LABELS[:2]), tmp_path)


@pytest.fixture(scope="module")
def answers(exported, encoder) -> dict:
    """What a fresh process gets out of the export."""
    return _answers(exported, {"text": TEXTS}, encoder)


def test_verify_accepts_the_models_own_answers(answers, exported, model, encoder, monkeypatch):
    monkeypatch.setattr("export.verify._answers", lambda *_: answers)
    assert verify(exported, {"text": TEXTS}, Expected(live(model, encoder, TEXTS), 1e-5), TASK) < 1e-5
    sizes = ("all in one batch", "batches of 7", "one by one")
    others = ["classify", "embed", "explain", "predict_tokens", "top_k"]
    assert sorted(answers) == [*others[:4], *sorted(f"serving_default, {size}" for size in sizes), "top_k"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda way: way["probabilities"][3].__setitem__(1, 0.9), "for 'z' it gives .* 1e-05 is allowed"),
        (lambda way: way["probabilities"][3].__setitem__(1, np.nan), "for 'z' it gives .*nan"),
        (lambda way: way.update(probabilities=[row[:2] for row in way["probabilities"]]), "shape"),
        (lambda way: way["label"].__setitem__(0, "other"), "names 'other' .* for 'a b c'"),
        (lambda way: way["score"].__setitem__(0, 0.123), "not the probability of its answer"),
    ],
)
def test_verify_refuses_whatever_differs(change, message, answers, exported, model, encoder, monkeypatch):
    changed = copy.deepcopy(answers)
    change(changed["serving_default, one by one"][1])
    monkeypatch.setattr("export.verify._answers", lambda *_: changed)
    with pytest.raises(ExportDiffers, match=message):
        verify(exported, {"text": TEXTS}, Expected(live(model, encoder, TEXTS), 1e-5), TASK)


def test_verify_refuses_other_names_in_classify(answers, exported, model, encoder, monkeypatch):
    monkeypatch.setattr("export.verify._answers", lambda *_: {"classify": answers["classify"]})
    with pytest.raises(ExportDiffers, match="names"):
        verify(
            exported,
            {"text": TEXTS},
            Expected(live(model, encoder, TEXTS), 1e-5),
            SingleLabel(("no", "yes", "déjà vu")),
        )


def test_an_export_with_a_changed_weight_is_refused_and_removed(model, encoder, tmp_path, monkeypatch):
    save = savedmodel.ServedModel.save

    def tamper(self, folder, features, signatures):
        kept = [variable.numpy() for variable in self.variables]
        for variable in self.variables:
            variable.assign(variable * 1.5)
        save(self, folder, features, signatures)
        for variable, value in zip(self.variables, kept, strict=True):
            variable.assign(value)

    monkeypatch.setattr(savedmodel.ServedModel, "save", tamper)
    expected = live(model, encoder, TEXTS)
    with pytest.raises(ExportDiffers, match=r"serving_default.*for '.*' it gives .* the model .* 1e-05 is allowed"):
        export_verified(model, encoder, TASK, tmp_path, HeldOut([TEXTS], Expected(expected, 1e-5)), settings=SETTINGS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("off", "allowed"), [(0.001, 0.02), (0.012, 0.036), (0.2, 0.1)])
def test_in_bfloat16_a_model_is_held_to_what_rounding_does_to_it(off, allowed):
    exact = np.array([[0.9, 0.1], [0.5, 0.5]], np.float32)
    rounded = exact + np.array([[0, 0], [off, -off]], np.float32)
    assert rounding_tolerance(rounded, exact) == pytest.approx(allowed, abs=1e-6)


def test_a_process_that_fails_is_reported_with_its_last_words(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"broken")
    with pytest.raises(ExportDiffers, match=r"fresh process could not answer.*saved_model\.pb"):
        verify(tmp_path, {"text": TEXTS}, Expected(np.zeros((len(TEXTS), 3), np.float32), 1e-5), TASK)


@pytest.mark.slow
def test_a_system_without_the_library_is_verified_all_the_same(exported, model, encoder, monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("libtensorflow_cc.so.2")

    monkeypatch.setattr("export.verify.ask", missing)
    assert verify(exported, {"text": TEXTS}, Expected(live(model, encoder, TEXTS), 1e-5), TASK, encoder) < 1e-5
    with pytest.raises(ExportDiffers, match="1e-05 is allowed"):
        verify(exported, {"text": TEXTS}, Expected(live(model, encoder, TEXTS[::-1]), 1e-5), TASK)


@pytest.mark.slow
def test_verified_export_of_pairs_with_several_labels(encoder, tmp_path):
    model = make_model(pooling="mean")
    texts = [TEXTS, TEXTS[::-1]]
    expected = tf.sigmoid(model(encoder(*map(tf.constant, texts)), training=False)).numpy()
    held_out = HeldOut(texts, Expected(expected, 1e-5))
    folder = export_verified(model, encoder, MultiLabel(LABELS), tmp_path, held_out, TWO_TEXTS, SETTINGS)
    assert folder == tmp_path / "1"
