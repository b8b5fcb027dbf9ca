"""The layers inside keras-nlp's TransformerEncoder are the ones that `parts_of` takes them for."""

import keras_nlp
import numpy as np
import tensorflow as tf

from pipeline.backbone.transformer_parts import parts_of


def test_a_forward_pass_written_with_the_parts_is_the_layers_own():
    layer = keras_nlp.layers.TransformerEncoder(intermediate_dim=24, num_heads=2, dropout=0.1, activation="relu")
    layer.build((None, None, 8))
    rng = np.random.default_rng(0)
    for weight in layer.trainable_variables:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    x = tf.constant(rng.normal(size=(3, 5, 8)), tf.float32)
    parts = parts_of(layer)

    query, key, value = (part(x) for part in (parts.query, parts.key, parts.value))
    scores = tf.einsum("bqhd,bkhd->bhqk", query, key) / 4**0.5
    context = tf.einsum("bhqk,bkhd->bqhd", tf.nn.softmax(scores), value)
    y = parts.attention_norm(x + parts.attention_output(context))
    expected = parts.output_norm(y + parts.output(parts.intermediate(y)))

    np.testing.assert_allclose(layer(x, training=False), expected, atol=1e-5)


def test_the_dropouts_are_those_of_the_layer():
    layer = keras_nlp.layers.TransformerEncoder(intermediate_dim=24, num_heads=2, dropout=0.1)
    layer.build((None, None, 8))
    parts = parts_of(layer)
    x = tf.ones([1, 4, 8])
    undropped = layer(x, training=True)
    dropouts = parts.score_dropout, parts.attention_dropout, parts.output_dropout
    assert [dropout.rate for dropout in dropouts] == [0.1] * 3
    for dropout in dropouts:
        dropout.rate = 0.0
    np.testing.assert_allclose(layer(x, training=True), layer(x, training=False), atol=1e-6)
    assert not np.allclose(undropped, layer(x, training=False))
