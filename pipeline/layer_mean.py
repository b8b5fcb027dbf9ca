"""The mean of what several transformer layers give: features that a frozen backbone is often better with."""

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="pipeline")
class MeanOfLayers(keras.layers.Layer):
    """Mean of tensors of one shape, in float32.

    Call argument: a list of [batch, length, hidden]. Returns [batch, length, hidden].
    """

    def call(self, states):
        total = sum(ops.cast(state, "float32") for state in states)
        return ops.cast(total / len(states), self.compute_dtype)


def mean_of_layers(states: list[tf.Tensor]) -> tf.Tensor:
    """The same in the operations of the served graph."""
    total = tf.add_n([tf.cast(state, tf.float32) for state in states])
    return tf.cast(total / len(states), states[0].dtype)
