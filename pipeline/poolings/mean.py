"""The mean of the vectors of all tokens that are not padding."""

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="pipeline")
class MaskedMean(keras.layers.Layer):
    """Mean over the tokens that are not padding, in float32.

    Call arguments: sequence [batch, length, hidden]; padding_mask int32 [batch, length]. Returns [batch, hidden].
    """

    def call(self, sequence, padding_mask):
        mask = ops.cast(padding_mask, "float32")[..., None]
        total = ops.sum(ops.cast(sequence, "float32") * mask, axis=1)
        return ops.cast(total / ops.maximum(ops.sum(mask, axis=1), 1.0), self.compute_dtype)


class Pooling:
    """See pipeline.poolings.Pooling."""

    first_only = False
    uses_pooler = False

    def __init__(self, backbone, seed, dtype):
        self._mean = MaskedMean(dtype=dtype, name="pooler")
        self.layers = [self._mean]

    @classmethod
    def check(cls, loaded):
        pass

    def __call__(self, outputs, padding_mask):
        return self._mean(outputs["sequence_output"], padding_mask)

    def served(self, weights):
        return masked_mean


def masked_mean(states: tf.Tensor, padding_mask: tf.Tensor) -> tf.Tensor:
    """[batch, hidden]; MaskedMean in the operations of the served graph."""
    mask = tf.cast(padding_mask, tf.float32)[..., tf.newaxis]
    total = tf.reduce_sum(tf.cast(states, tf.float32) * mask, axis=1)
    return tf.cast(total / tf.maximum(tf.reduce_sum(mask, axis=1), 1.0), states.dtype)
