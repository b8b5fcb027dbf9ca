"""Poolings, heads, and the copy in serving numerics."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from checkpoints import ACTIVATIONS

import pipeline.poolings
from export.fused import FusedClassifier
from pipeline.backbone.architecture import configure, embed_in_float32
from pipeline.backbone.fresh import build
from pipeline.classifier import build_classifier, copy_weights, head_of, parts_of, serving_copy, with_hidden_states
from pipeline.config import ModelConfig
from pipeline.errors import UserError
from pipeline.tasks.single_label import SingleLabel

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmno"]
SIZES = ModelConfig(num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32, max_sequence_length=12, dropout=0.1)
CLASSES = 3
POOLINGS = pipeline.poolings.NAMES


def make(pooling="mean", dtype="float32", seed=1, **arguments):
    """A classifier of a backbone with weights large enough to matter; backbone and model."""
    loaded = build(SIZES, VOCABULARY, seed=0, dtype=dtype)
    random = np.random.default_rng(0)
    for weight in loaded.backbone.weights:
        weight.assign(weight + random.normal(0, 0.2, weight.shape))
    embed_in_float32(loaded.backbone)
    loaded.has_pooler = True
    model = build_classifier(loaded, CLASSES, pooling=pooling, seed=seed, dtype=dtype, **arguments)
    return loaded.backbone, model


def make_inputs(batch=4, length=7):
    random = np.random.default_rng(1)
    mask = (np.arange(length) < random.integers(3, length, (batch, 1))).astype(np.int32)
    ids = random.integers(5, len(VOCABULARY), (batch, length)).astype(np.int32)
    return {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": mask}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_logits_are_a_dense_layer_on_the_pooled_sequence(pooling):
    backbone, model = make(pooling)
    inputs = make_inputs()
    outputs = backbone(inputs, training=False)
    sequence = outputs["sequence_output"].numpy()
    if pooling == "mean":
        mask = inputs["padding_mask"]
        pooled = np.stack([row[keep == 1].mean(0) for row, keep in zip(sequence, mask, strict=True)])
    elif pooling == "attention":
        layer = model.get_layer("pooler")
        (kernel, bias), (vector, offset) = layer.projection.get_weights(), layer.score.get_weights()
        scores = np.exp(np.tanh(sequence @ kernel + bias) @ vector + offset) * inputs["padding_mask"][..., None]
        pooled = (scores / scores.sum(axis=1, keepdims=True) * sequence).sum(axis=1)
    elif pooling == "first":
        pooled = sequence[:, 0]
    else:
        kernel, bias = (backbone.pooled_dense if pooling == "cls" else model.get_layer("pooler")).get_weights()
        pooled = ACTIVATIONS.get(pooling, np.tanh)(sequence[:, 0] @ kernel + bias)
    kernel, bias = model.get_layer("logits").get_weights()
    logits = model(inputs, training=False)
    assert logits.dtype == tf.float32
    np.testing.assert_allclose(logits, pooled @ kernel + bias, atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_changes_nothing(pooling):
    _, model = make(pooling)
    inputs = make_inputs()
    wider = {name: np.pad(value, [(0, 0), (0, 4)]) for name, value in inputs.items()}
    # Whatever stands where there is padding.
    wider["token_ids"] = np.where(wider["padding_mask"] == 1, wider["token_ids"], 7).astype(np.int32)
    np.testing.assert_allclose(model(wider, training=False), model(inputs, training=False), atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_trainable_variable_has_a_gradient(pooling):
    _, model = make(pooling)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(make_inputs(), training=False) ** 2)
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    assert all(gradient is not None for gradient in gradients)
    assert any("pooled_dense" in variable.path for variable in model.trainable_variables) == (pooling == "cls")


def test_new_weights_follow_the_seed_alone():
    first, again, other = (make("fresh", seed=seed)[1] for seed in (1, 1, 2))
    for name in ("pooler", "logits"):
        kernels = [model.get_layer(name).kernel.numpy() for model in (first, again, other)]
        np.testing.assert_array_equal(kernels[0], kernels[1])
        assert not np.array_equal(kernels[0], kernels[2])
        assert 0 < abs(kernels[0]).max() <= 0.04


def test_dropout_only_in_training():
    _, model = make(dropout=0.5)
    inputs = make_inputs()
    still = [model(inputs, training=False).numpy() for _ in range(2)]
    noisy = [model(inputs, training=True).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*still)
    assert not np.array_equal(*noisy)


def test_builds_a_subclass():
    class Classifier(keras.Model):
        pass

    _, model = make(model_class=Classifier)
    assert isinstance(model, Classifier) and model.built
    assert model.output_shape == (None, CLASSES)
    assert {name: tuple(tensor.shape) for name, tensor in model.input.items()} == dict.fromkeys(
        ("token_ids", "segment_ids", "padding_mask"), (None, None)
    )


def test_refuses_a_pooler_that_is_not_there():
    with pytest.raises(UserError, match="fresh weights has no pooler weights; use fresh or mean"):
        build_classifier(build(SIZES, VOCABULARY, seed=0), CLASSES, pooling="cls")
    with pytest.raises(UserError, match="'max' is not one of"):
        make("max")


@pytest.mark.parametrize("pooling", POOLINGS)
def test_serving_copy_answers_as_the_model(pooling):
    backbone, model = make(pooling, dtype="mixed_bfloat16", model_class=type("Trained", (keras.Model,), {}))
    configure(backbone, activation=keras.activations.relu, epsilon=0.01)
    inputs = make_inputs()
    logits = model(inputs, training=False).numpy()
    np.testing.assert_array_equal(serving_copy(model, "mixed_bfloat16")(inputs, training=False), logits)
    exact = serving_copy(model, "float32")
    assert not isinstance(exact, type(model))
    for old, new in zip(model.get_weights(), exact.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # A bfloat16 has 8 significant bits.
    np.testing.assert_allclose(exact(inputs, training=False), logits, atol=0.05 * abs(logits).max())
    half = serving_copy(model, "bfloat16")
    assert all(
        weight.dtype == "bfloat16"
        for weight in half.weights
        if "logits" not in weight.path and "seed" not in weight.path
    )
    np.testing.assert_allclose(half(inputs, training=False), logits, atol=0.05 * abs(logits).max())
    assert half(inputs, training=False).dtype == tf.float32


def test_serving_copy_has_variables_of_its_own():
    _, model = make()
    copy = serving_copy(model, "float32")
    before = copy.get_weights()
    for weight in model.trainable_weights:
        weight.assign(weight + 1.0)
    for old, new in zip(before, copy.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_copy_weights_rounds_to_the_target():
    (_, source), (_, target) = make(seed=1), make(seed=2, dtype="bfloat16")
    copy_weights(source, target)
    for old, new in zip(source.trainable_weights, target.trainable_weights, strict=True):
        np.testing.assert_array_equal(tf.cast(old.numpy(), new.dtype), tf.convert_to_tensor(new.value))


def test_a_serving_copy_has_its_weights_rounded_to_how_they_are_stored():
    _, model = make()
    copy = serving_copy(model, "float32", weights="bfloat16")
    for mine, theirs in zip(copy.weights, serving_copy(model, "float32").weights, strict=True):
        rounded = tf.cast(tf.cast(theirs, tf.bfloat16), tf.float32)
        expected = theirs if theirs.path.startswith("logits") else rounded
        np.testing.assert_array_equal(mine, expected)


@pytest.mark.parametrize("pooling", ["mean", "first", "fresh", "attention"])
def test_mean_of_the_last_layers_is_pooled(pooling):
    """As from the layers' own outputs, in the trained model, its served copy and the served graph."""
    backbone, model = make(pooling, pooled_layers=2)
    inputs = make_inputs()
    layers = keras.Model(backbone.input, [layer.output for layer in backbone.transformer_layers])
    states = np.mean([state.numpy() for state in layers(inputs, training=False)], axis=0)
    parts = parts_of(model)
    expected = parts.head(parts.pooling({"sequence_output": states}, inputs["padding_mask"]))
    assert not np.allclose(expected, make(pooling)[1](inputs, training=False), atol=1e-3)
    for made in (model, serving_copy(model, "float32"), FusedClassifier(model)):
        arguments = {} if isinstance(made, FusedClassifier) else {"training": False}
        given = made({name: tf.constant(value) for name, value in inputs.items()}, **arguments)
        np.testing.assert_allclose(given, expected, atol=1e-5)
    states_too = with_hidden_states(model)(inputs, training=False)
    np.testing.assert_allclose(states_too["logits"], expected, atol=1e-5)
    assert head_of(model, SingleLabel(("a", "b", "c"))) is None


def test_more_layers_than_there_are():
    with pytest.raises(UserError, match=r"pooled_layers 3: .* has 2 layers"):
        make(pooled_layers=3)
