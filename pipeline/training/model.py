"""Models that fit() trains: one update over the whole batch, however it is divided among devices and parts."""

import keras
import tensorflow as tf


class ExactModel(keras.Model):
    """A functional model whose training step is exact where stock Keras is not.

    A loss is a sum over all examples of a batch divided by the sum of their weights, and that sum is taken over all
    devices and parts; so class weights, filler rows of weight 0 and any number of devices give the same update as one
    device. Compile it with an optimizer of optimizer.py, which sums gradients over devices.
    """

    accumulation = 1
    """Parts that a device works through one after the other before the update."""

    def weight_sums(self, data) -> list[tf.Tensor]:
        """What the losses are divided by, as far as this device's share of a batch goes: a list of scalars."""
        raise NotImplementedError

    def losses_of(self, data, totals: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        """Scalars that add up over parts and devices; "loss" is what is minimised.

        Args:
            data: a part of a batch.
            totals: `weight_sums` of the whole batch.
        """
        raise NotImplementedError

    def train_step(self, data):
        def sum_over_devices(value):
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)

        totals = sum_over_devices(self.weight_sums(data))
        if self.accumulation == 1:
            losses, gradients = self._gradients(data, totals)
        else:
            losses, gradients = self._accumulated_gradients(data, totals)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return sum_over_devices(losses)

    def _gradients(self, data, totals):
        with tf.GradientTape() as tape:
            losses = self.losses_of(data, totals)
        return losses, tape.gradient(losses["loss"], self.trainable_variables)

    def _accumulated_gradients(self, data, totals):
        """The sum of the parts' gradients; sparse ones stay sparse, as rows of all parts one after the other."""
        parts = tf.nest.map_structure(
            lambda tensor: tf.reshape(tensor, tf.concat([[self.accumulation, -1], tf.shape(tensor)[1:]], axis=0)),
            data,
        )

        def part(i):
            return self._gradients(tf.nest.map_structure(lambda tensor: tensor[i], parts), totals)

        # The first part outside the loop tells which gradients are sparse.
        losses, gradients = part(0)
        sparse = [isinstance(gradient, tf.IndexedSlices) for gradient in gradients]

        def start(gradient):
            if not isinstance(gradient, tf.IndexedSlices):
                return gradient
            count = self.accumulation
            tensors = gradient.values, gradient.indices
            arrays = (tf.TensorArray(t.dtype, count, element_shape=t.shape) for t in tensors)
            values, indices = arrays
            return values.write(0, gradient.values), indices.write(0, gradient.indices)

        def step(i, losses, sums):
            more_losses, more = part(i)
            sums = [
                (a[0].write(i, b.values), a[1].write(i, b.indices)) if rows else a + b
                for a, b, rows in zip(sums, more, sparse, strict=True)
            ]
            return i + 1, tf.nest.map_structure(tf.add, losses, more_losses), sums

        _, losses, sums = tf.while_loop(
            lambda i, *_: i < self.accumulation, step, (tf.constant(1), losses, [start(g) for g in gradients])
        )

        def joined(array):
            # Not array.concat(), whose outcome has no static shape.
            stacked = array.stack()
            return tf.reshape(stacked, tf.concat([[-1], tf.shape(stacked)[2:]], axis=0))

        return losses, [
            tf.IndexedSlices(joined(s[0]), joined(s[1]), g.dense_shape) if rows else s
            for s, g, rows in zip(sums, gradients, sparse, strict=True)
        ]


class TrainableClassifier(ExactModel):
    """A classifier; compile it with a loss of reduction=None. Its data: inputs, targets and weights [batch]."""

    def weight_sums(self, data):
        _, _, weights = data
        return [tf.reduce_sum(weights)]

    def losses_of(self, data, totals):
        inputs, targets, weights = data
        logits = self(inputs, training=True)
        return {"loss": tf.reduce_sum(self.loss(targets, logits) * weights) / totals[0]}


def example_loss(multi_label: bool, label_smoothing: float) -> keras.losses.Loss:
    """Cross-entropy from logits, one value a row.

    Args:
        multi_label: the mean over the labels of binary cross-entropies; else softmax cross-entropy.
        label_smoothing: share of the target spread over all classes (multi-label: between yes and no).
    """
    kind = keras.losses.BinaryCrossentropy if multi_label else keras.losses.CategoricalCrossentropy
    return kind(from_logits=True, label_smoothing=label_smoothing, reduction=None)
