"""The transformer layer against keras-nlp's own: values, gradients, dropout."""

import keras
import keras_nlp
import numpy as np
import pytest
import tensorflow as tf

from pipeline.backbone.architecture import like
from pipeline.backbone.dropout import Dropout, dropout_mask
from pipeline.backbone.encoder import speed_up
from pipeline.backbone.first_token import first_token_outputs
from pipeline.training.strategy import choose_strategy

INPUTS = ("token_ids", "segment_ids", "padding_mask")


def make_backbones(dtype="float32", dropout=0.0):
    """keras-nlp's and ours, with the same weights, large enough that every part shows."""
    stock = keras_nlp.models.BertBackbone(
        vocabulary_size=30, num_layers=2, num_heads=3, hidden_dim=12, intermediate_dim=20, dropout=dropout,
        max_sequence_length=16, dtype=dtype,
    )  # fmt: skip
    random = np.random.default_rng(0)
    for weight in stock.weights:
        if "seed" not in weight.path:
            weight.assign(weight + random.normal(0, 0.3, weight.shape))
    ours = like(stock, dtype=dtype)
    speed_up(ours)
    return stock, ours


def make_inputs(batch=5, length=7):
    random = np.random.default_rng(1)
    mask = (np.arange(length) < random.integers(2, length + 1, (batch, 1))).astype(np.int32)
    ids = random.integers(0, 30, (batch, length)).astype(np.int32)
    return {"token_ids": ids, "segment_ids": (ids % 2).astype(np.int32), "padding_mask": mask}


def gradients(backbone, inputs, training=False):
    with tf.GradientTape() as tape:
        outputs = backbone(inputs, training=training)
        wave = tf.sin(tf.range(12, dtype=tf.float32))
        loss = sum(tf.reduce_sum(tf.cast(value, tf.float32) * wave) for value in outputs.values())
    variables = [variable.value for variable in backbone.trainable_variables]
    return [tf.convert_to_tensor(gradient).numpy() for gradient in tape.gradient(loss, variables)]


def test_outputs_and_gradients_equal_stock_keras():
    stock, ours = make_backbones()
    inputs = make_inputs()
    expected = stock(inputs, training=False)
    for name, value in ours(inputs, training=False).items():
        np.testing.assert_allclose(value, expected[name], atol=2e-5)
    paths = [variable.path for variable in ours.trainable_variables]
    for path, a, b in zip(paths, gradients(ours, inputs), gradients(stock, inputs), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4, rtol=2e-4, err_msg=path)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16"])
def test_low_precision_is_as_near_to_float32_as_stock_keras(dtype):
    exact = gradients(make_backbones()[0], make_inputs())
    errors = []
    for backbone in make_backbones(dtype):
        found = gradients(backbone, make_inputs())
        assert all(np.isfinite(gradient.astype(np.float32)).all() for gradient in found)
        errors.append(sum(np.linalg.norm(a.astype(np.float32) - b) for a, b in zip(found, exact, strict=True)))
    assert errors[1] < 1.3 * errors[0]


def only_first(backbone):
    return keras.Model(backbone.input, first_token_outputs(backbone))


@pytest.mark.parametrize("layers", [1, 2])
def test_the_first_token_alone_has_its_outputs_and_gradients(layers):
    backbone = like(make_backbones()[1], num_layers=layers)
    first, inputs = only_first(backbone), make_inputs()
    assert first.output["sequence_output"].shape == (None, 1, 12)

    def gradients_of(model):
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            read = outputs["sequence_output"][:, 0] + 2.0 * outputs["pooled_output"]
            loss = tf.reduce_sum(read * tf.sin(tf.range(60.0))[::5])
        variables = [variable.value for variable in backbone.trainable_variables]
        return read, [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)]

    expected, found = gradients_of(backbone), gradients_of(first)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    for variable, a, b in zip(backbone.trainable_variables, found[1], expected[1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4, err_msg=variable.path)


def test_the_first_token_alone_leaves_the_order_of_the_variables():
    """Checkpoints of earlier runs are lists in this order."""
    backbone = make_backbones(dropout=0.1)[1]
    assert [v.path for v in only_first(backbone).variables] == [v.path for v in backbone.variables]


@pytest.mark.parametrize("form", [lambda backbone: backbone, only_first], ids=["all tokens", "first token"])
def test_training_gradients_are_of_the_function_with_its_dropout(form):
    """Against finite differences, under one dropout pattern: the seeds are put back before every call."""
    ours = form(make_backbones(dropout=0.3)[1])
    inputs = make_inputs()
    seeds = [variable for variable in ours.non_trainable_variables if "seed" in variable.path]
    start = [variable.numpy() for variable in seeds]
    wave = np.sin(np.arange(12, dtype=np.float32))
    call = tf.function(lambda: ours(inputs, training=True), autograph=False)

    def loss():
        for variable, value in zip(seeds, start, strict=True):
            variable.assign(value)
        outputs = call()
        return float(sum(np.sum(value.numpy().astype(np.float64) * wave) for value in outputs.values()))

    loss()
    for variable, value in zip(seeds, start, strict=True):
        variable.assign(value)
    found = gradients(ours, inputs, training=True)
    random = np.random.default_rng(2)
    for variable, gradient in zip(ours.trainable_variables, found, strict=True):
        if "transformer" not in variable.path:
            continue
        value, direction = variable.numpy(), random.normal(size=variable.shape).astype(np.float32)
        variable.assign(value + 1e-3 * direction)
        above = loss()
        variable.assign(value - 1e-3 * direction)
        slope = (above - loss()) / 2e-3
        variable.assign(value)
        assert slope == pytest.approx(np.sum(gradient * direction), rel=0.03, abs=0.03), variable.path


def test_dropout_drops_its_share_and_keeps_the_mean():
    layer = keras.layers.Dropout(0.1, seed=1)
    mask = dropout_mask(layer, [301, 333], tf.float32, training=True).numpy()
    assert (mask == 0).mean() == pytest.approx(0.1, abs=0.004)
    assert mask.mean() == pytest.approx(1, abs=0.005)
    assert mask.max() == pytest.approx(1 / 0.9, rel=1e-4)
    again = dropout_mask(layer, [301, 333], tf.float32, training=True).numpy()
    assert np.mean((mask == 0) & (again == 0)) == pytest.approx(0.01, abs=0.002)
    assert dropout_mask(layer, [3, 3], tf.float32, training=False) is None
    assert dropout_mask(keras.layers.Dropout(0.0), [3, 3], tf.float32, training=True) is None


def test_each_device_drops_values_of_its_own():
    strategy = choose_strategy("mirrored")
    with strategy.scope():
        _, backbone = make_backbones(dropout=0.5)
        embeddings = keras.Model(backbone.input, backbone.get_layer("embeddings_dropout").output)
        head = Dropout(0.5, seed=3)
    inputs = {name: tf.ones([4, 8], tf.int32) for name in backbone.input}

    def step():
        return embeddings(inputs, training=True) == 0, head(tf.ones([4, 12]), training=True) == 0

    for found in tf.function(lambda: strategy.run(step))():
        one, other = (dropped.numpy() for dropped in strategy.experimental_local_results(found))
        # A quarter of the values on both, not half of them.
        assert one.mean() == pytest.approx(0.5, abs=0.17) and (one != other).any()


def test_stays_keras_nlps_layer_and_compiles_with_xla():
    stock, ours = make_backbones()
    assert [v.path for v in ours.trainable_variables] == [v.path for v in stock.trainable_variables]
    assert all(isinstance(layer, keras_nlp.layers.TransformerEncoder) for layer in ours.transformer_layers)
    inputs = make_inputs()
    compiled = tf.function(lambda x: ours(x, training=False), jit_compile=True)({name: inputs[name] for name in INPUTS})
    expected = stock(inputs, training=False)["sequence_output"]
    np.testing.assert_allclose(compiled["sequence_output"], expected, atol=2e-5)


def test_word_embeddings_are_looked_up_without_reading_the_table():
    """Once single rows have been written to a variable, each read of it is a copy."""
    stock, ours = make_backbones()
    ids = tf.constant([3, 7])
    graph = tf.function(lambda: ours.token_embedding(ids), autograph=False).get_concrete_function().graph
    kinds = {operation.type for operation in graph.get_operations()}
    assert "ResourceGather" in kinds and "ReadVariableOp" not in kinds
    np.testing.assert_array_equal(ours.token_embedding(ids), stock.token_embedding(ids))
