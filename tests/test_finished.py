"""Finished classifiers: served as they are without training, and runs written as what others load."""

import json
import re

import keras_nlp
import numpy as np
import pytest
import tensorflow as tf
from checkpoints import CONFIG, random_inputs, write_folder
from family_folders import CLASSIFIERS, HIDDEN, classify, with_tiny_words, write_classifier
from safetensors.numpy import load_file
from tiny import write_config

from export.from_checkpoint import main as serve
from export.fused import FusedClassifier
from export.loading import Classifier
from pipeline.backbone.convert import convert
from pipeline.backbone.finished_config import read
from pipeline.backbone.load import load_checkpoint
from pipeline.classifier import build_classifier, head_of, take_head
from pipeline.errors import UserError
from pipeline.run import main as run
from pipeline.tasks.number import Number
from pipeline.tasks.single_label import SingleLabel

# As tests/tiny.py: what takes longest is looked at elsewhere.
LIGHT = [
    "--export.signatures",
    "[predict_tokens]",
    "--export.verify_examples",
    "8",
    "--export.warmup_batch_sizes",
    "[1]",
]


def finished_model(loaded, pooling):
    """The classifier of a checkpoint as it is."""
    model = build_classifier(loaded, len(loaded.classifier.bias), pooling=pooling, dtype="float32", seed=9)
    take_head(model, loaded.classifier)
    return model


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_answers_as_the_reference_and_converts_back(tmp_path, family):
    tensors, layers = write_classifier(tmp_path / "from", family)
    loaded = load_checkpoint(str(tmp_path / "from"), dtype="float32")
    assert loaded.classifier.names == ("good", "bad", "so so") and loaded.left_out == ()
    model = finished_model(loaded, read(tmp_path / "from").pooling)
    inputs = random_inputs(CONFIG)
    expected = classify(family, tensors, layers, inputs)
    np.testing.assert_allclose(model(inputs, training=False), expected, atol=1e-4)
    fused = FusedClassifier(model)({name: tf.constant(value) for name, value in inputs.items()})
    np.testing.assert_allclose(fused, expected, atol=1e-4)
    assert convert(str(tmp_path / "from"), tmp_path / "to") == ()
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("from", "to"))
    assert {name: value.tobytes() for name, value in before.items()} == {n: v.tobytes() for n, v in after.items()}
    before, after = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("from", "to"))
    assert {key: after[key] for key in before} == before
    assert after["problem_type"] == "single_label_classification" and after["label2id"]["so so"] == 2
    tokenizer = json.loads((tmp_path / "to" / "tokenizer_config.json").read_text())
    # Or transformers would hand segments to a model that takes none.
    assert ("model_input_names" in tokenizer) == (family == "distilbert")


@pytest.fixture
def finished(tmp_path):
    write_classifier(tmp_path / "finished", "distilbert", outputs=3)
    folder = with_tiny_words(tmp_path / "finished")
    config = json.loads((folder / "config.json").read_text())
    labels = {str(i): name for i, name in enumerate(["money", "space", "sport"])}
    (folder / "config.json").write_text(json.dumps(config | {"id2label": labels}))
    return folder


def test_one_command_serves_it(finished, tmp_path, capsys):
    assert serve([str(finished), "--output", str(tmp_path / "run"), *LIGHT]) == 0
    said = capsys.readouterr().out
    assert "data.labels ['money', 'space', 'sport']" in said and "exported and verified" in said
    model = Classifier(tmp_path / "run")
    (answer,) = model(["the goal of the team"])
    loaded = load_checkpoint(str(finished), dtype="float32")
    tokens = loaded.text_encoder()(tf.constant(["the goal of the team"]))
    probabilities = tf.nn.softmax(finished_model(loaded, "relu")(tokens, training=False)[0]).numpy()
    assert answer["label"] == ("money", "space", "sport")[probabilities.argmax()]
    np.testing.assert_allclose(answer["probabilities"], probabilities, atol=1e-5)
    report = (tmp_path / "run" / "report.html").read_text()
    assert "nothing is known about how good this model is" in report


def test_no_epochs_score_the_rows_that_there_are(finished, tmp_path, capsys):
    config = write_config(
        tmp_path / "work",
        rows=60,
        model={"backbone": str(finished)},
        text={"vocabulary": None},
        training={"epochs": 0},
        export={"enabled": False},
    )
    test = ["--data.train", "null", "--data.test", str(tmp_path / "work" / "train.csv"), "--model.num_layers", "null"]
    assert run(["--config", str(config), "--run_dir", str(tmp_path / "run"), *test]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["rows"] == 60 and "train" not in metrics and not (tmp_path / "run" / "checkpoints").exists()
    assert "60 test rows, 3 labels" in capsys.readouterr().out


@pytest.mark.slow
def test_several_labels_of_pairs(tmp_path):
    write_classifier(tmp_path / "finished", "bert", problem_type="multi_label_classification")
    folder = with_tiny_words(tmp_path / "finished")
    columns = ["--data.text_columns", "[text_a, text_b]"]
    assert serve([str(folder), "--output", str(tmp_path / "run"), *LIGHT, *columns]) == 0
    model = Classifier(tmp_path / "run")
    assert model.metadata["task"] == "multi_label" and model.metadata["inputs"] == ["text_a", "text_b"]
    (answer,) = model(["the goal of the team"], ["a new market"])
    loaded = load_checkpoint(str(folder), dtype="float32")
    tokens = loaded.text_encoder()(tf.constant(["the goal of the team"]), tf.constant(["a new market"]))
    expected = tf.sigmoid(finished_model(loaded, "cls")(tokens, training=False)[0])
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)


def test_a_number(tmp_path):
    write_classifier(tmp_path / "finished", "bert", outputs=1, problem_type="regression")
    folder = with_tiny_words(tmp_path / "finished")
    texts = ["the goal of the team", "a new market", "rocket", "the moon was big"]
    loaded = load_checkpoint(str(folder), dtype="float32")
    numbers = finished_model(loaded, "cls")(loaded.text_encoder()(tf.constant(texts)), training=False).numpy()[:, 0]
    lines = [f"{text},{number}" for text, number in zip(texts, numbers, strict=True)]
    (tmp_path / "test.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    arguments = ["--export.enabled", "false", "--data.test", str(tmp_path / "test.csv")]
    assert serve([str(folder), "--output", str(tmp_path / "run"), *arguments]) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["mae"] < 1e-5
    identity = json.loads((tmp_path / "run" / "identity.json").read_text())
    assert identity["task"]["task"] == "number" and identity["pooling"] == "cls"


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"architectures": ["BertForTokenClassification"]}, [], "the model is a BertForTokenClassification, and noth"),
        ({"problem_type": "ranking"}, [], "problem_type 'ranking' is not one of transformers' own, multi_label_class"),
        ({"problem_type": "regression"}, [], "the model predicts 3 numbers at once"),
        ({"id2label": {"0": "a", "1": "a", "2": "b"}}, [], "id2label has empty or equal names: give 3 others"),
        ({}, ["--data.labels", "[a, b]"], "data.labels has 2 names, but .* has 3 outputs"),
        ({"id2label": {"0": "a", "1": "b"}}, [], "has no head of a Bert classifier among its weights"),
        ({"id2label": {"0": "a", "1": "b|c", "2": "d"}}, ["--data.task", "multi_label"], r"label 'b\|c' holds '\|'"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(tmp_path, capsys, changes, arguments, message):
    write_classifier(tmp_path / "finished", "bert", **changes)
    assert serve([str(tmp_path / "finished"), "--output", str(tmp_path / "run"), *arguments]) == 2
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert re.search(message, line), line


def test_no_epochs_want_a_checkpoint_as_it_is(tmp_path, capsys):
    write_folder(tmp_path / "bert")
    config = write_config(tmp_path / "work", rows=30, training={"epochs": 0})
    for given, message in (
        ([], "training.epochs 0 trains nothing: name a finished classifier as model.backbone"),
        (["--model.backbone", str(tmp_path / "bert")], "serves a checkpoint as it is, which model.num_layers 1"),
    ):
        assert run(["--config", str(config), "--run_dir", str(tmp_path / "run"), *given]) == 2
        assert message in capsys.readouterr().err


def test_one_output_without_a_problem_is_said(tmp_path):
    write_classifier(tmp_path, "electra-small", outputs=1)
    found = read(tmp_path)
    assert found.task == "number" and found.pooling == "gelu" and "taken for a number" in found.notes[0]
    assert read(tmp_path, "multi_label").notes == ()


@pytest.mark.parametrize("pooling", ["fresh", "cls", "relu", "gelu"])
def test_a_trained_head_is_taken_out_as_it_computes(tmp_path, pooling):
    loaded = load_checkpoint(str(write_folder(tmp_path)), dtype="float32")
    model = build_classifier(loaded, 2, pooling=pooling, dtype="float32")
    inputs = random_inputs(CONFIG)
    head = head_of(model, SingleLabel(("no", "yes")))
    outputs = loaded.backbone(inputs, training=False)
    loaded.classifier = head
    again = finished_model(loaded, head.pooling)
    np.testing.assert_allclose(again(inputs, training=False), model(inputs, training=False), atol=1e-6)
    assert outputs["pooled_output"].shape == (5, HIDDEN) and head.names == ("no", "yes")


def test_a_numbers_head_gives_the_datas_units(tmp_path):
    loaded = load_checkpoint(str(write_folder(tmp_path)), dtype="float32")
    model = build_classifier(loaded, 1, pooling="cls", dtype="float32")
    task, inputs = Number(mean=3.0, deviation=2.0), random_inputs(CONFIG)
    head = head_of(model, task)
    pooled = loaded.backbone(inputs, training=False)["pooled_output"].numpy()
    np.testing.assert_allclose(
        pooled @ head.kernel + head.bias, task.activation(model(inputs, training=False)), atol=1e-5
    )
    assert head_of(build_classifier(loaded, 1, pooling="mean", dtype="float32"), task) is None


@pytest.mark.slow
def test_a_run_becomes_a_folder_and_a_preset(tmp_path, capsys):
    config = write_config(tmp_path / "work", rows=90, training={"epochs": 1})
    assert run(["--config", str(config), "--run_dir", str(tmp_path / "run")]) == 0
    convert(str(tmp_path / "run"), tmp_path / "hf")
    settings = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert settings["architectures"] == ["BertForSequenceClassification"]
    assert settings["id2label"] == {"0": "money", "1": "space", "2": "sport"}
    assert json.loads((tmp_path / "hf" / "tokenizer_config.json").read_text())["model_max_length"] == 24
    texts = ["the goal was big", "a bank in the market", "rocket"]
    expected = [answer["probabilities"] for answer in Classifier(tmp_path / "run")(texts)]
    loaded = load_checkpoint(str(tmp_path / "hf"), dtype="float32")
    logits = finished_model(loaded, "cls")(loaded.text_encoder()(tf.constant(texts)), training=False)
    np.testing.assert_allclose(tf.nn.softmax(logits), expected, atol=1e-5)
    convert(str(tmp_path / "run"), tmp_path / "preset", "keras_preset")
    classifier = keras_nlp.models.TextClassifier.from_preset(str(tmp_path / "preset"))
    logits = classifier.predict(texts, verbose=0)
    np.testing.assert_allclose(tf.nn.softmax(logits), expected, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "pooling", "layers", "others"),
    [
        ("bert", "mean", 1, "fresh or gelu"),
        ("electra-small", "fresh", 1, "gelu"),
        ("bert", "fresh", 2, "fresh or gelu and model.pooled_layers 1"),
    ],
)
def test_a_pooling_that_nobody_else_has_is_refused(tmp_path, family, pooling, layers, others):
    write_classifier(tmp_path / "checkpoint", family)
    with_tiny_words(tmp_path / "checkpoint")
    config = write_config(tmp_path / "work", rows=20, training={"epochs": 1}, export={"enabled": False},
                          model={"pooling": pooling, "backbone": str(tmp_path / "checkpoint"), "num_layers": None,
                                 "pooled_layers": layers},
                          text={"vocabulary": None})  # fmt: skip
    assert run(["--config", str(config), "--run_dir", str(tmp_path / "run")]) == 0
    found = pooling if layers == 1 else f"{pooling} of model.pooled_layers {layers}"
    with pytest.raises(UserError, match=rf"model.pooling {found} is in no .* with model.pooling {others}\.$"):
        convert(str(tmp_path / "run"), tmp_path / "hf")
