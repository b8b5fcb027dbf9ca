"""DistilBERT, ELECTRA and ERNIE: computed, trained, served and written back as what they are."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from checkpoints import (
    CONFIG,
    HIDDEN,
    ROWS,
    assert_computes,
    load,
    random_inputs,
    random_tensors,
    write_folder,
)
from family_folders import DISTILBERT_CONFIG, FAMILIES, SMALL_ELECTRA, write_family
from safetensors.numpy import load_file
from tiny import VOCABULARY as WORDS
from tiny import write_config

from export.fused import FusedClassifier
from pipeline.backbone.convert import convert, main
from pipeline.backbone.load import load_checkpoint
from pipeline.classifier import build_classifier, serving_copy, with_hidden_states
from pipeline.errors import UserError
from pipeline.pretraining.model import build_pretraining_model, heads_of
from pipeline.run import main as run


@pytest.mark.parametrize("family", FAMILIES)
def test_computes_what_the_reference_does_and_converts_back(tmp_path, family):
    tensors = write_family(tmp_path / "from", family)
    loaded = load(tmp_path / "from")
    assert_computes(loaded.backbone, CONFIG, tensors, tolerance=1e-5)
    assert loaded.has_pooler == (family == "ernie") and loaded.heads is not None and loaded.left_out == ()
    assert convert(str(tmp_path / "from"), tmp_path / "to") == ()
    expected, actual = (load_file(tmp_path / name / "model.safetensors") for name in ("from", "to"))
    assert set(expected) == set(actual)
    for name, value in expected.items():
        assert value.tobytes() == actual[name].tobytes() and value.shape == actual[name].shape, name
    config, expected = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("to", "from"))
    assert {key: config[key] for key in expected} == expected
    assert config["architectures"][0].startswith(("DistilBertForMasked", "ElectraForMasked", "ErnieForPreTraining"))


@pytest.mark.parametrize("family", FAMILIES)
def test_is_trained_and_served_as_it_computes(tmp_path, family):
    write_family(tmp_path, family)
    loaded = load(tmp_path, dtype="float32")
    model = build_classifier(loaded, 3, pooling="mean", dropout=0.0)
    inputs = random_inputs(CONFIG)
    before = {variable.path: variable.numpy() for variable in loaded.backbone.weights}
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse", jit_compile=False)
    model.fit(inputs, np.ones((5, 3), np.float32), epochs=1, verbose=0)
    unchanged = {path for path, value in before.items() if np.array_equal(value, _value(loaded.backbone, path))}
    # Every score of a query moves alike with the bias of the keys, which has no gradient.
    unused = {path for path in before if "pooled_dense" in path or "seed" in path or path.endswith("key/bias")}
    if family == "distilbert":
        # Else it were no DistilBERT any more.
        unused |= {path for path in before if "segment_embedding" in path}
    assert unchanged == unused
    expected = model(inputs, training=False)
    np.testing.assert_allclose(serving_copy(model, "float32")(inputs, training=False), expected, atol=1e-6)
    fused = FusedClassifier(model)
    np.testing.assert_allclose(fused(_tensors(inputs)), expected, atol=1e-5)
    # As the signature `explain` asks for it.
    words = fused.words(tf.constant(inputs["token_ids"]))
    np.testing.assert_allclose(fused(_tensors(inputs), words), expected, atol=1e-5)
    states = with_hidden_states(model)(inputs, training=False)["states"]
    assert len(states) == 4 and {state.shape[-1] for state in states} == {HIDDEN}


def _value(backbone, path):
    return next(variable.numpy() for variable in backbone.weights if variable.path == path)


def _tensors(inputs):
    return {name: tf.constant(value) for name, value in inputs.items()}


@pytest.mark.parametrize("family", ["distilbert", "electra-small"])
def test_masked_tokens_are_trained_further_and_pairs_are_not(tmp_path, family):
    from pipeline.pretraining.pretrain import _check_objective

    write_family(tmp_path, family)
    loaded = load(tmp_path)
    model = build_pretraining_model(loaded, next_sentence=False)
    inputs = random_inputs(CONFIG) | {"masked_positions": np.array([[1, 2]] * 5, np.int32)}
    assert model(inputs)["masked_logits"].shape == (5, 2, ROWS)
    np.testing.assert_array_equal(heads_of(model).transform_kernel, loaded.heads.transform_kernel)
    _check_objective("none", loaded)
    with pytest.raises(UserError, match=rf"objective nsp: .* of the family {family.split('-')[0]}, .* set none"):
        _check_objective("nsp", loaded)


@pytest.mark.parametrize(
    ("format", "family"),
    [("tf_checkpoint", "distilbert"), ("keras_preset", "electra-base"), ("tf_hub", "distilbert")],
)
def test_other_formats_hold_what_they_can(tmp_path, format, family, capsys):
    tensors = write_family(tmp_path / "from", family)
    assert main([str(tmp_path / "from"), str(tmp_path / "other"), "--format", format]) == 0
    assert_computes(load_checkpoint(str(tmp_path / "other")).backbone, CONFIG, tensors)
    # And what it was is known when it comes back.
    assert main([str(tmp_path / "other"), str(tmp_path / "back")]) == 0
    assert json.loads((tmp_path / "back" / "config.json").read_text())["model_type"] == family.split("-")[0]
    write_family(tmp_path / "small", "electra-small")
    capsys.readouterr()
    assert main([str(tmp_path / "small"), str(tmp_path / "to"), "--format", format]) == 2
    assert "embeddings of another width than its layers (ELECTRA)" in capsys.readouterr().err


def test_ernies_task_is_in_its_segments(tmp_path):
    tensors = random_tensors(CONFIG)
    tasks = np.random.default_rng(5).normal(0, 1, (3, HIDDEN)).astype(np.float32)
    more = {"embeddings.task_type_embeddings.weight": tasks}
    segments = tensors["embeddings.token_type_embeddings.weight"]
    folder = write_folder(
        tmp_path / "from", tensors | more, model_type="ernie", use_task_id=True, task_type_vocab_size=3
    )
    loaded = load(folder)
    folded = tensors | {"embeddings.token_type_embeddings.weight": segments + tasks[0]}
    assert_computes(loaded.backbone, CONFIG, folded)
    assert "task 0 is added to those of segments" in loaded.notes[0]
    convert(str(folder), tmp_path / "to")
    config = json.loads((tmp_path / "to" / "config.json").read_text())
    assert config["model_type"] == "ernie" and not config.get("use_task_id")
    assert_computes(load(tmp_path / "to").backbone, CONFIG, folded)
    assert_computes(load(write_folder(tmp_path / "off", tensors, model_type="ernie")).backbone, CONFIG, tensors)


def test_messages_name_a_familys_own_tensors(tmp_path):
    write_family(tmp_path, "distilbert")
    stored = load_file(tmp_path / "model.safetensors")
    lacking = {name: value for name, value in stored.items() if "1.attention.q_lin.bias" not in name}
    write_folder(tmp_path, lacking)
    (tmp_path / "config.json").write_text(json.dumps(DISTILBERT_CONFIG))
    with pytest.raises(UserError, match=r"the weights lack transformer\.layer\.1\.attention\.q_lin\.bias\."):
        load(tmp_path)
    assert_computes(_first_layers(tmp_path, stored), CONFIG | {"num_hidden_layers": 2}, _without_segments())


def _first_layers(folder, stored):
    write_folder(folder, stored)
    (folder / "config.json").write_text(json.dumps(DISTILBERT_CONFIG))
    return load(folder, num_layers=2).backbone


def _without_segments():
    tensors = random_tensors(CONFIG, pooler=False)
    return tensors | {"embeddings.token_type_embeddings.weight": np.zeros((2, HIDDEN), np.float32)}


@pytest.mark.slow
def test_a_whole_run(tmp_path, capsys):
    """ELECTRA-small, which differs most: trained, served, verified in a fresh process, and known by its family."""
    sizes = SMALL_ELECTRA | {"vocab_size": len(WORDS), "max_position_embeddings": 32}
    tensors = {f"electra.{name}": value for name, value in random_tensors(sizes, pooler=False).items()}
    folder = write_folder(tmp_path / "small", tensors, **sizes | {"model_type": "electra"})
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    config = write_config(
        tmp_path / "work", rows=90, text={"vocabulary": None}, model={"backbone": str(folder)}, training={"epochs": 1}
    )
    assert run(["--config", str(config), "--run_dir", str(tmp_path / "run")]) == 0
    assert "exported and verified" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "identity.json").read_text())["backbone"]["family"] == "electra"
