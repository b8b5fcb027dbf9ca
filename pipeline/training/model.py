"""The model that fit() trains: one update over the whole batch, however it is divided among devices and parts."""

import keras
import tensorflow as tf


class TrainableClassifier(keras.Model):
    """A functional classifier whose training step is exact where stock Keras is not.

    The loss of a batch is the weighted mean over all its rows, with the sum of the weights taken over all devices and
    parts; so class weights, filler rows of weight 0 and any number of devices give the same update as one device.
    Compile it with a loss of reduction=None and with the AdamW of optimizer.py, which sums gradients over devices.
    """

    accumulation = 1
    """Parts that a device works through one after the other before the update."""

    def train_step(self, data):
        inputs, targets, weights = data
        replica = tf.distribute.get_replica_context()
        total = replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(weights))
        if self.accumulation == 1:
            loss, gradients = self._gradients(inputs, targets, weights, total)
        else:
            loss, gradients = self._accumulated_gradients(inputs, targets, weights, total)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": replica.all_reduce(tf.distribute.ReduceOp.SUM, loss)}

    def _gradients(self, inputs, targets, weights, total):
        with tf.GradientTape() as tape:
            logits = self(inputs, training=True)
            loss = tf.reduce_sum(self.loss(targets, logits) * weights) / total
        return loss, tape.gradient(loss, self.trainable_variables)

    def _accumulated_gradients(self, inputs, targets, weights, total):
        """The sum of the parts' gradients; sparse ones stay sparse, as rows of all parts one after the other."""
        parts = tf.nest.map_structure(
            lambda tensor: tf.reshape(tensor, tf.concat([[self.accumulation, -1], tf.shape(tensor)[1:]], axis=0)),
            (inputs, targets, weights),
        )

        def part(i):
            return self._gradients(*tf.nest.map_structure(lambda tensor: tensor[i], parts), total)

        # The first part outside the loop tells which gradients are sparse.
        loss, gradients = part(0)
        sparse = [isinstance(gradient, tf.IndexedSlices) for gradient in gradients]

        def start(gradient):
            if not isinstance(gradient, tf.IndexedSlices):
                return gradient
            count = self.accumulation
            arrays = (tf.TensorArray(t.dtype, count) for t in (gradient.values, gradient.indices))
            values, indices = arrays
            return values.write(0, gradient.values), indices.write(0, gradient.indices)

        def step(i, loss, sums):
            more_loss, more = part(i)
            sums = [
                (a[0].write(i, b.values), a[1].write(i, b.indices)) if rows else a + b
                for a, b, rows in zip(sums, more, sparse, strict=True)
            ]
            return i + 1, loss + more_loss, sums

        _, loss, sums = tf.while_loop(
            lambda i, *_: i < self.accumulation, step, (tf.constant(1), loss, [start(g) for g in gradients])
        )
        return loss, [
            tf.IndexedSlices(s[0].concat(), s[1].concat(), g.dense_shape) if rows else s
            for s, g, rows in zip(sums, gradients, sparse, strict=True)
        ]


def example_loss(multi_label: bool, label_smoothing: float) -> keras.losses.Loss:
    """Cross-entropy from logits, one value a row.

    Args:
        multi_label: the mean over the labels of binary cross-entropies; else softmax cross-entropy.
        label_smoothing: share of the target spread over all classes (multi-label: between yes and no).
    """
    kind = keras.losses.BinaryCrossentropy if multi_label else keras.losses.CategoricalCrossentropy
    return kind(from_logits=True, label_smoothing=label_smoothing, reduction=None)
