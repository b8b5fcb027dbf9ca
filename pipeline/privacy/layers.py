"""Keras' own layers, computed as ever, that note what they read and give."""

import keras
import keras_nlp
import tensorflow as tf

from pipeline.backbone.encoder import WordEmbedding
from pipeline.backbone.notes import DenseNote, NormNote, RowsNote, note
from pipeline.classifier import Parts


def let_note(parts: Parts) -> None:
    """Let all layers of a classifier note their calls from now on; their variables stay. Those of kinds that are not
    known here note nothing."""
    for layer in [*parts.backbone.layers, *parts.layers, parts.head]:
        # Some poolings are layers that have layers.
        for inner in [layer, *(each for each in vars(layer).values() if isinstance(each, keras.layers.Dense))]:
            if type(inner) in _NOTED:
                inner.__class__ = _NOTED[type(inner)]


class NotedDense(keras.layers.Dense):
    """On [batch, ..., in]."""

    def call(self, inputs, training=None):
        """As Keras' own."""
        outputs = tf.matmul(inputs, tf.convert_to_tensor(self.kernel)) + tf.convert_to_tensor(self.bias)
        note(DenseNote(outputs, inputs, [self.kernel], [self.bias]))
        return outputs if self.activation is None else self.activation(outputs)


class NotedEmbedding(WordEmbedding):
    """A table that any example may read the same row of many times."""

    def call(self, inputs):
        """As its parent's."""
        outputs = super().call(inputs)
        note(RowsNote(outputs, inputs, self.embeddings))
        return outputs


class NotedPositions(keras_nlp.layers.PositionEmbedding):
    """A row for each position."""

    def call(self, inputs, **settings):
        """As its parent's."""
        outputs = super().call(inputs, **settings)
        note(RowsNote(outputs, None, self.position_embeddings))
        return outputs


class NotedNormalization(keras.layers.LayerNormalization):
    """Over the last dimension."""

    def call(self, inputs):
        """As Keras' own, in float32."""
        wide = tf.cast(inputs, tf.float32)
        centred = wide - tf.reduce_mean(wide, -1, keepdims=True)
        normal = centred * tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + self.epsilon)
        gamma, beta = (tf.cast(tf.convert_to_tensor(weight), tf.float32) for weight in (self.gamma, self.beta))
        outputs = tf.cast(normal * gamma + beta, self.compute_dtype)
        note(NormNote(outputs, normal, self.gamma, self.beta))
        return outputs


_NOTED = {
    keras.layers.Dense: NotedDense,
    keras.layers.Embedding: NotedEmbedding,
    WordEmbedding: NotedEmbedding,
    keras.layers.LayerNormalization: NotedNormalization,
    keras_nlp.layers.PositionEmbedding: NotedPositions,
}
