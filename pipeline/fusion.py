"""From a text's vector and the numbers of the columns beside it to one, in the trained and in the served graph."""

from collections.abc import Callable
from typing import Literal

import keras
import tensorflow as tf
from keras import ops

from pipeline.poolings import ServedWeights

Kind = Literal["concat", "gated"]
# Of Rahman et al.: how long what is added is at most, relative to the text's vector.
BETA = 1.0
SMALL = 1e-6


@keras.saving.register_keras_serializable(package="pipeline")
class Fusion(keras.layers.Layer):
    """concat: [t, c, h] of the text's vector t, the columns' numbers c and, where there are units, a hidden layer
    h = gelu(W [t, c] + b), by which columns and text can decide together.

    gated: t + a g * (V c), with g = relu(W [t, c] + b) and a = min(|t| / |g * (V c)|, 1), so that what is added is no
    longer than t (Rahman et al., 2020, arXiv:1908.05787, without its layer normalisation, which would change what a
    checkpoint's pooling gives).

    Computed in float32. Call arguments: text [batch, hidden]; columns float32 [batch, width]. Returns float32 [batch,
    hidden + width + units], or [batch, hidden].

    Args:
        kind: which.
        units: of the hidden layer of concat; 0: none, and no weights at all.
        seed: of the weights.
    """

    def __init__(self, kind: Kind = "concat", units: int = 0, seed: int = 0, **settings):
        super().__init__(**settings | {"dtype": "float32"})
        self.kind, self.units, self.seed = kind, units, seed

    def build(self, text_shape, columns_shape=None):
        assert columns_shape is not None
        hidden, width = text_shape[-1], columns_shape[-1]
        if self.kind == "gated":
            self.gate = self._dense(hidden + width, hidden, "gate", activation="relu")
            self.value = self._dense(width, hidden, "value")
        elif self.units:
            self.hidden = self._dense(hidden + width, self.units, "hidden", activation="gelu")

    def _dense(self, size: int, units: int, name: str, activation: str | None = None) -> keras.layers.Dense:
        seed = self.seed + (name == "value")
        initializer = keras.initializers.GlorotUniform(seed=seed)
        layer = keras.layers.Dense(
            units, activation=activation, kernel_initializer=initializer, dtype="float32", name=name
        )
        layer.build((None, size))
        return layer

    def call(self, text, columns):
        if self.kind == "gated":
            return gated(text, columns, self.gate, self.value)
        return ops.concatenate(
            [text, columns, *([self.hidden(ops.concatenate([text, columns], axis=1))] if self.units else [])], axis=1
        )

    def compute_output_shape(self, text_shape, columns_shape):
        hidden = text_shape[-1]
        return (None, hidden if self.kind == "gated" else hidden + columns_shape[-1] + self.units)

    def get_config(self):
        return super().get_config() | {"kind": self.kind, "units": self.units, "seed": self.seed}

    def served(self, weights: ServedWeights) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """The same with copies of the weights."""
        layers = [self.gate, self.value] if self.kind == "gated" else [self.hidden] if self.units else []
        dense = [weights.dense(layer) for layer in layers]

        def fused(text: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
            text = tf.cast(text, tf.float32)
            if self.kind == "gated":
                return gated(text, columns, *dense)
            together = tf.concat([text, columns], axis=1)
            return tf.concat([together, *(layer(together) for layer in dense)], axis=1)

        return fused


def gated(text, columns, gate: Callable, value: Callable):
    """See Fusion; [batch, hidden]."""
    added = gate(ops.concatenate([text, columns], axis=1)) * value(columns)
    length = ops.sqrt(ops.sum(ops.square(added), axis=1, keepdims=True) + SMALL)
    most = BETA * ops.sqrt(ops.sum(ops.square(text), axis=1, keepdims=True) + SMALL)
    return text + ops.minimum(most / length, 1.0) * added
