"""Dropout of which every device draws masks of its own, from 16 random bits a value."""

import keras
import tensorflow as tf


class Dropout(keras.layers.Dropout):
    """As Keras' own, whose masks are the same on all devices: the first rows of each would lose the same values, and
    the more devices, the less would the chance in a batch average out. Its rate is rounded to 1/65536."""

    def call(self, inputs, training=False):
        """float [batch, ...] to the same."""
        mask = dropout_mask(self, tf.shape(inputs), inputs.dtype, training)
        return inputs if mask is None else inputs * mask


def dropout_mask(layer: keras.layers.Dropout, shape, dtype: tf.DType, training: bool | None) -> tf.Tensor | None:
    """Factors of inverted dropout, 0 or 1 / (1 - rate); None where nothing is dropped."""
    dropped = round(layer.rate * 65536)
    if not training or not dropped:
        return None
    count = tf.reduce_prod(shape)
    seed = layer.seed_generator.next()
    device = tf.distribute.get_replica_context()
    if device is not None and device.num_replicas_in_sync > 1:
        # All devices count alike; each draws for its own rows.
        seed += tf.cast([device.replica_id_in_sync_group, 0], seed.dtype) * 0x01000193
    bits = tf.random.stateless_uniform([(count + 1) // 2], seed, None, None, tf.int32)
    bits = tf.reshape(tf.bitcast(bits, tf.int16), [-1])[:count]
    keep = bits >= tf.constant(dropped - 32768, tf.int16)
    return tf.reshape(tf.cast(keep, dtype) * tf.constant(65536 / (65536 - dropped), dtype), shape)


def counters(model: keras.Model) -> list[keras.Variable]:
    """Of the masks that a model has drawn, int [2] each: seed and number."""
    return [layer.seed_generator.state for layer in _dropping(model)]


def without_dropout(model: keras.Model) -> bool:
    """Have a model drop nothing from now on; returns whether it would have."""
    layers = _dropping(model)
    for layer in layers:
        layer.rate = 0.0
    return bool(layers)


def _dropping(model: keras.Model) -> list[keras.layers.Dropout]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout) and layer.rate]
