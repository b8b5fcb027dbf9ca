"""The served model as ONNX: ONNX Runtime's predictions against the model's own. With the extra onnx."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tiny import VOCABULARY, write_config
from tiny_export import LABELS

from export.expected import Expected
from export.savedmodel import HeldOut
from export.verify import ExportDiffers
from pipeline.backbone.activations import ACTIVATIONS
from pipeline.backbone.architecture import configure, new_backbone
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.classifier import build_classifier
from pipeline.errors import UserError
from pipeline.run import main
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.number import Number
from pipeline.tasks.single_label import SingleLabel
from pipeline.text import TextEncoder

SIZES = {
    "vocabulary_size": len(VOCABULARY), "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 24,
    "max_sequence_length": 16, "dtype": "float32",
}  # fmt: skip
TEXTS = [
    "the team and the coach",
    "bank",
    "",
    "a rocket in orbit with the moon",
    "goal , goal .",
    "café 漢字",
    "league",
]
ENCODER = TextEncoder(VOCABULARY, True, 16)
TASK = SingleLabel(LABELS)


@pytest.fixture(scope="module")
def runtime():
    pytest.importorskip("onnx")
    return pytest.importorskip("onnxruntime")


def make_model(outputs=3, activation="gelu", embedding_dim=None, epsilon=1e-12, **settings):
    backbone = new_backbone(embedding_dim=embedding_dim, **SIZES)
    configure(backbone, activation=ACTIVATIONS[activation], epsilon=epsilon)
    model = build_classifier(LoadedBackbone(backbone, tuple(VOCABULARY), True, True), outputs, **settings)
    random = np.random.default_rng(7)
    for variable in model.weights:
        if "seed" not in variable.path:
            center = 1.0 if variable.path.endswith("gamma") else 0.0
            variable.assign(tf.cast(random.normal(center, 0.4, variable.shape), variable.dtype))
    return model


def held_out(model, task=TASK, texts=(TEXTS,), tolerance=1e-5):
    predictions = task.activation(model(ENCODER(*texts), training=False)).numpy()
    return HeldOut(texts, Expected(predictions, tolerance * task.scale))


@pytest.mark.parametrize(
    "settings",
    [
        *({"pooling": pooling} for pooling in ("cls", "fresh", "first", "relu", "gelu", "mean", "attention")),
        {"pooling": "mean", "pooled_layers": 2},
        {"pooling": "first", "pooled_layers": 2},
        {"embedding_dim": 8, "activation": "gelu_new"},
        {"activation": "silu", "epsilon": 1e-2},
    ],
    ids=str,
)
def test_onnx_runtime_gives_the_models_predictions(tmp_path, runtime, settings):
    from export.onnx_model import verify_onnx, write_onnx

    model = make_model(**settings)
    write_onnx(model, TASK, tmp_path / "new" / "model.onnx")
    assert verify_onnx(tmp_path / "new" / "model.onnx", ENCODER, held_out(model)) < 1e-5
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("task", [MultiLabel(LABELS), Number(mean=40.0, deviation=7.0)], ids=lambda task: task.name)
def test_predictions_are_those_of_the_task(tmp_path, runtime, task):
    from export.onnx_model import onnx_session, verify_onnx, write_onnx

    model, pairs = make_model(task.outputs), (TEXTS, TEXTS[::-1])
    write_onnx(model, task, tmp_path / "m.onnx", {"labels": "é"})
    verify_onnx(tmp_path / "m.onnx", ENCODER, held_out(model, task, pairs))
    session = onnx_session(tmp_path / "m.onnx", threads=1)
    assert json.loads(session.get_modelmeta().custom_metadata_map["metadata"]) == {"labels": "é"}
    inputs = {name: tensor.numpy() for name, tensor in ENCODER(TEXTS).items()}
    np.testing.assert_allclose(session.run(["logits"], inputs)[0], model(inputs), atol=1e-4)


def test_int8_is_near_and_other_weights_are_noticed(tmp_path, runtime):
    from export.onnx_model import export_onnx, verify_onnx, write_onnx

    model = make_model()
    expected = held_out(model)
    write_onnx(model, TASK, tmp_path / "m.onnx", int8=True)
    assert 1e-5 < verify_onnx(tmp_path / "m.onnx", ENCODER, expected, scale=1.0) < 0.5
    with pytest.raises(ExportDiffers, match=r"a prediction is .* off"):
        verify_onnx(tmp_path / "m.onnx", ENCODER, expected)
    model.classifier_parts.head.kernel.assign(-model.classifier_parts.head.kernel)
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "metadata.json").write_text("{}")
    for int8, message in ((True, "in the mean"), (False, "a prediction is")):
        with pytest.raises(ExportDiffers, match=message):
            export_onnx(model, ENCODER, TASK, tmp_path / "other.onnx", expected, tmp_path, int8)
        assert not (tmp_path / "other.onnx").exists()


@pytest.mark.slow
def test_a_run_writes_its_version_as_onnx_too(tmp_path, runtime, capsys):
    config = write_config(tmp_path, training={"epochs": 1}, export={"onnx": "float32", "signatures": []})
    assert not main(["--config", str(config), "--run_dir", str(tmp_path / "run"), "--evaluation.baseline", "none"])
    assert "exported as ONNX and verified" in capsys.readouterr().out
    assert (tmp_path / "run" / "onnx" / "1.onnx").is_file()


def test_the_extra_is_asked_for_before_anything_is_trained(tmp_path, monkeypatch):
    from pipeline.command_line import parse

    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    config = str(write_config(tmp_path))
    parse(["--config", config])
    with pytest.raises(UserError, match="the extra onnx"):
        parse(["--config", config, "--export.onnx", "int8"])
