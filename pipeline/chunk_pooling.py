"""From the vectors of a text's chunks to one, in the trained and in the served graph."""

from collections.abc import Callable
from typing import Literal

import keras
import tensorflow as tf

from pipeline.data.documents import text_of_chunk
from pipeline.poolings import ServedWeights
from pipeline.poolings.attention import MASKED, scoring_layers

Kind = Literal["mean", "token_mean", "max", "attention"]


@keras.saving.register_keras_serializable(package="pipeline")
class ChunkPooling(keras.layers.Layer):
    """One vector a text: the mean of its chunks' vectors, that weighted by their tokens, their maximum, or the mean
    with weights that are learned, as poolings/attention.py has it for tokens. Chunks without a token count for nothing;
    each text has one with.

    Call arguments: vectors [rows, hidden]; padding_mask int32 [rows, length]; chunks int32 [texts], how many rows each
    text has. Returns [texts, hidden].

    Args:
        kind: which.
        seed: of the weights of "attention".
    """

    def __init__(self, kind: Kind = "mean", seed: int = 0, **settings):
        super().__init__(**settings)
        self.kind, self.seed = kind, seed

    def build(self, vectors_shape, padding_mask_shape=None, chunks_shape=None):
        if self.kind == "attention":
            self.projection, self.score = scoring_layers(vectors_shape[-1], self.seed, self.dtype_policy)

    def call(self, vectors, padding_mask, chunks):
        scores = self.score(self.projection(vectors)) if self.kind == "attention" else None
        return pooled(self.kind, vectors, padding_mask, chunks, scores)

    def compute_output_shape(self, vectors_shape, padding_mask_shape=None, chunks_shape=None):
        return (None, vectors_shape[-1])

    def get_config(self):
        return super().get_config() | {"kind": self.kind, "seed": self.seed}

    def served(self, weights: ServedWeights) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
        """The same with copies of the weights."""
        if self.kind != "attention":
            return lambda vectors, mask, chunks: pooled(self.kind, vectors, mask, chunks)
        projection, score = (weights.dense(layer) for layer in (self.projection, self.score))
        return lambda vectors, mask, chunks: pooled(self.kind, vectors, mask, chunks, score(projection(vectors)))


def pooled(
    kind: str, vectors: tf.Tensor, padding_mask: tf.Tensor, chunks: tf.Tensor, scores: tf.Tensor | None = None
) -> tf.Tensor:
    """See ChunkPooling.

    Args:
        kind, vectors, padding_mask, chunks: as there.
        scores: of "attention", [rows, 1]: logarithms of the weights.

    Returns:
        [texts, hidden], computed in float32, in the dtype of the vectors.
    """
    count, values = tf.size(chunks), tf.cast(vectors, tf.float32)
    texts = text_of_chunk(chunks, tf.shape(vectors)[0])
    tokens = tf.cast(tf.reduce_sum(padding_mask, axis=1, keepdims=True), tf.float32)
    there = tokens > 0
    if kind == "max":
        values = tf.where(there, values, values.dtype.min)
        return tf.cast(tf.math.unsorted_segment_max(values, texts, count), vectors.dtype)
    if kind == "token_mean":
        weights = tokens
    elif kind == "attention":
        scores = tf.where(there, tf.cast(scores, tf.float32), MASKED)
        highest = tf.stop_gradient(tf.math.unsorted_segment_max(scores, texts, count))
        weights = tf.exp(scores - tf.gather(highest, texts))
    else:
        weights = tf.cast(there, tf.float32)
    total = tf.math.unsorted_segment_sum(values * weights, texts, count)
    return tf.cast(total / tf.math.unsorted_segment_sum(weights, texts, count), vectors.dtype)
