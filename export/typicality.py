"""pipeline.typicality as operations of a graph."""

import tensorflow as tf

from pipeline.typicality import Typicality


class FitOfVectors(tf.Module):
    """float32 [batch], `Typicality.fit_of` pooled vectors, float [batch, H]."""

    def __init__(self, typicality: Typicality):
        super().__init__(name="fit")

        def kept(values, name: str) -> tf.Variable:
            return tf.Variable(tf.constant(values, tf.float32), trainable=False, name=name)

        self._mean, self._whitening = kept(typicality.mean, "mean"), kept(typicality.whitening, "whitening")
        self._centers = kept(typicality.centers, "centers")
        self._distances, self._fits = kept(typicality.distances, "distances"), kept(typicality.fits, "fits")
        self._least = 1 / (typicality.rows[1] + 1)

    def __call__(self, vectors: tf.Tensor) -> tf.Tensor:
        points = tf.matmul(tf.cast(vectors, tf.float32) - self._mean, self._whitening)
        squares = tf.reduce_sum(points**2, 1)[:, None] - 2 * tf.matmul(points, self._centers, transpose_b=True)
        found = tf.maximum(tf.reduce_min(squares + tf.reduce_sum(tf.square(self._centers), 1), axis=1), 0.0)
        distances = tf.concat([[0.0], self._distances], 0)
        fits = tf.concat([[1.0], self._fits], 0)
        last = distances[-1]
        # Of the line that begins at each point: number, and how far along it.
        after = tf.clip_by_value(tf.searchsorted(distances, found, side="right"), 1, tf.shape(distances)[0] - 1)
        left, right = tf.gather(distances, after - 1), tf.gather(distances, after)
        share = tf.clip_by_value(tf.math.divide_no_nan(found - left, right - left), 0.0, 1.0)
        inside = tf.gather(fits, after - 1) + share * (tf.gather(fits, after) - tf.gather(fits, after - 1))
        beyond = self._least + (fits[-1] - self._least) * last / tf.maximum(found, last)
        return tf.where(found > last, beyond, inside)
