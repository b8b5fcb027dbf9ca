"""A weighted mean of the tokens' vectors, whose weights are learned (Yang et al., 2016, arXiv:1606.02393)."""

import keras
import tensorflow as tf
from keras import ops

MASKED = -1e9


def scoring_layers(hidden: int, seed: int, dtype) -> tuple[keras.layers.Dense, keras.layers.Dense]:
    """What gives vectors, [..., hidden], their scores, [..., 1], one layer after the other: tanh(W x + b), and v.

    Args:
        seed: of W and v.
        dtype: Keras dtype policy.
    """
    initializers = [keras.initializers.TruncatedNormal(stddev=0.02, seed=seed + i) for i in range(2)]
    projection = keras.layers.Dense(
        hidden, activation="tanh", kernel_initializer=initializers[0], dtype=dtype, name="projection"
    )
    score = keras.layers.Dense(1, kernel_initializer=initializers[1], dtype=dtype, name="score")
    for layer in (projection, score):
        layer.build((None, hidden))
    return projection, score


@keras.saving.register_keras_serializable(package="pipeline")
class AttentionPooling(keras.layers.Layer):
    """sum_i a_i x_i with a = softmax(v . tanh(W x_i + b)) over the tokens that are not padding.

    Call arguments: sequence [batch, length, hidden]; padding_mask int32 [batch, length]. Returns [batch, hidden].

    Args:
        seed: of W and v.
    """

    def __init__(self, seed: int = 0, **settings):
        super().__init__(**settings)
        self.seed = seed

    def build(self, sequence_shape, padding_mask_shape=None):
        self.projection, self.score = scoring_layers(sequence_shape[-1], self.seed, self.dtype_policy)

    def call(self, sequence, padding_mask):
        scores = ops.cast(self.score(self.projection(sequence)), "float32")
        mask = ops.cast(padding_mask, "float32")[..., None]
        weights = ops.softmax(scores + (1.0 - mask) * MASKED, axis=1)
        return ops.cast(ops.sum(weights * ops.cast(sequence, "float32"), axis=1), self.compute_dtype)

    def get_config(self):
        return super().get_config() | {"seed": self.seed}


class Pooling:
    """See pipeline.poolings.Pooling."""

    first_only = False
    uses_pooler = False

    def __init__(self, backbone, seed, dtype):
        self._attention = AttentionPooling(seed, dtype=dtype, name="pooler")
        self.layers = [self._attention]

    @classmethod
    def check(cls, loaded):
        pass

    def __call__(self, outputs, padding_mask):
        return self._attention(outputs["sequence_output"], padding_mask)

    def served(self, weights):
        projection, score = (weights.dense(layer) for layer in (self._attention.projection, self._attention.score))

        def pooled(states: tf.Tensor, padding_mask: tf.Tensor) -> tf.Tensor:
            batch, length = tf.unstack(tf.shape(padding_mask))
            flat = tf.reshape(states, [-1, states.shape[-1]])
            scores = tf.reshape(tf.cast(score(projection(flat)), tf.float32), [batch, length, 1])
            mask = tf.cast(padding_mask, tf.float32)[..., tf.newaxis]
            shares = tf.nn.softmax(scores + (1.0 - mask) * MASKED, axis=1)
            return tf.cast(tf.reduce_sum(shares * tf.cast(states, tf.float32), axis=1), states.dtype)

        return pooled
