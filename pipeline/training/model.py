"""Models that fit() trains: one update over the whole batch, however it is divided among devices and parts."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras
import tensorflow as tf

from pipeline.backbone.dropout import counters
from pipeline.backbone.low_rank import LowRank
from pipeline.data.documents import equal_parts, is_ragged, parts_within, share
from pipeline.data.untuned import untuned
from pipeline.long_texts import CHUNKS, CHUNKS_AT_ONCE
from pipeline.training.strategy import distributed, worker_count


class ExactModel(keras.Model):
    """A functional model whose training step is exact where stock Keras is not.

    A loss is a sum over all examples of a batch divided by the sum of their weights, and that sum is taken over all
    devices and parts; so class weights, filler rows of weight 0 and any number of devices give the same update as one
    device. Compile it with an optimizer of optimizer.py, which sums gradients over devices.
    """

    accumulation = 1
    """Parts that a device works through one after the other before the update."""
    chunks_at_once: int | None = CHUNKS_AT_ONCE
    """Of texts that are read in chunks, how many a device works on at a time, in as many parts as that takes; None:
    all."""
    xla = False
    """Whether XLA compiles losses and gradients, a program for each shape of a batch, and the update of one device."""
    low_rank: Sequence[LowRank] = ()
    """Updates that are learned in place of kernels; their weights come behind all others."""
    leaving = False
    """Whether this process wants to stop; each update tells all workers how many do."""
    updates_done = 0
    """How many updates the last call of the training function made: compile's steps_per_execution, or what was left."""
    _updates_left = None

    def run_updates(self, batches: tf.data.Dataset, updates: int, callbacks: list[keras.callbacks.Callback]) -> None:
        """model.fit of so many batches, in the order that they come in.

        Args:
            batches: of this worker: of each batch its slice, whose rows divide among its devices.
            updates: as many as there are batches.
            callbacks: of fit.
        """
        self._updates_left = updates
        # Where no one watches, lines of the callbacks take the place of the bar.
        self.fit(
            distributed(self.distribute_strategy, batches),
            steps_per_epoch=updates,
            callbacks=callbacks,
            shuffle=False,
            verbose=1 if sys.stdout.isatty() else 0,
        )

    def compile_for(self, spec, length: int) -> None:
        """Run one update on a made batch, so that XLA's program for batches like it is there. The caller restores the
        variables, which hold nothing of use afterwards.

        Args:
            spec: of the batches that `run_updates` gets, nests of tf.TensorSpec.
            length: stands for their dimensions that vary.
        """

        def batch():
            yield tf.nest.map_structure(lambda t: tf.ones([length if n is None else n for n in t.shape], t.dtype), spec)

        batches = untuned(tf.data.Dataset.from_generator(batch, output_signature=spec))
        self._updates_left = 1
        self.make_train_function()(iter(distributed(self.distribute_strategy, batches)))

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Keras takes a batch, and averages it over the devices, to build models; a functional one is built."""

    def make_train_function(self, force=False):
        """As Keras' own, but for several updates at a time and several workers, where that fails.

        One device makes several updates in one function, others one after the other, with no look at them between.
        """
        if self.train_function is not None and not force:
            return self.train_function
        strategy = self.distribute_strategy
        # Else devices exchange rows of embeddings, and TensorFlow refuses that their number changes inside a function.
        in_graph = strategy.num_replicas_in_sync == 1 or isinstance(strategy, tf.distribute.TPUStrategy)

        @tf.function(reduce_retracing=True, autograph=False)
        def update(iterator, leaving):
            losses = strategy.run(self.train_step, args=(next(iterator), leaving))
            # Sums over all devices: each has the same.
            return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], losses)

        def add(sums, iterator, leaving):
            return tf.nest.map_structure(tf.add, sums, update(iterator, leaving))

        @tf.function(autograph=False)
        def updates(iterator, leaving, count):
            # The two calls share one graph.
            return tf.while_loop(
                lambda done, _: done < count,
                lambda done, sums: (done + 1, add(sums, iterator, leaving)),
                (tf.constant(1), update(iterator, leaving)),
            )[1]

        def function(iterator):
            count = self.steps_per_execution
            if self._updates_left is not None:
                count = min(count, self._updates_left)
                self._updates_left -= count
            self.updates_done = count
            leaving = tf.constant(float(self.leaving))
            if count > 1 and in_graph:
                sums = updates(iterator, leaving, tf.constant(count))
            else:
                sums = update(iterator, leaving)
                for _ in range(count - 1):
                    sums = add(sums, iterator, leaving)
            return {name: value / count for name, value in sums.items()} if count > 1 else sums

        self.train_function = function
        return function

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

    def finished(self, gradients: list) -> list:
        """What this device gives to the sum over devices, of the gradients of all its parts."""
        return gradients

    def train_step(self, data, leaving=None):
        """One update; returns the sums of `losses_of` and, with several workers, of "leaving" over all devices."""

        def sum_over_devices(value):
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)

        totals = sum_over_devices(self.weight_sums(data))
        # Sums over devices stay outside, for XLA has no place for NCCL's nor for rows of embeddings; so does the
        # update, which would be compiled anew for each length of a batch.
        compute = self._all_gradients
        if self.xla:
            compute = tf.function(compute, jit_compile=True, autograph=False)
            self.optimizer.compiled = self.distribute_strategy.num_replicas_in_sync == 1
        losses, gradients = compute(data, totals)
        gradients = self.finished(gradients)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        if worker_count(self.distribute_strategy) > 1:
            # Made here, on this device; reductions refuse a tensor that comes from none.
            losses["leaving"] = tf.identity(leaving)
        # Of some models nothing is told.
        return sum_over_devices(losses) if losses else losses

    def _all_gradients(self, data, totals):
        """Sums of the losses, and of their gradients, over the parts of a batch."""
        inputs, count = data[0], self.accumulation
        if CHUNKS in inputs and self.chunks_at_once is not None:
            texts = data[-1].shape[0]
            if is_ragged(inputs):
                count = parts_within(inputs[CHUNKS], self.chunks_at_once, texts, count)
                with _counting_alike(counters(self), texts):
                    return self._accumulated_gradients(lambda i: share(data, i, count), count, totals)
            count = equal_parts(inputs["token_ids"].shape[0] // texts, self.chunks_at_once, texts, count)
        if count == 1:
            return self._gradients(data, totals)
        parts = tf.nest.map_structure(
            lambda tensor: tf.reshape(tensor, tf.concat([[count, -1], tf.shape(tensor)[1:]], axis=0)), data
        )
        return self._accumulated_gradients(lambda i: self._part(parts, i), count, totals)

    def _part(self, parts, i):
        """That of a number, of the parts of a batch one after the other: tensors [parts, rows, ...]."""
        return tf.nest.map_structure(lambda tensor: tensor[i], parts)

    def _gradients(self, data, totals):
        with tf.GradientTape() as tape:
            losses = self.losses_of(data, totals)
        return losses, tape.gradient(losses["loss"], self.trainable_variables)

    def _accumulated_gradients(self, part_of, count, totals):
        """The sum of the parts' gradients; sparse ones stay sparse, as rows of all parts one after the other.

        Args:
            part_of: from the number of a part to its data.
            count: of the parts, int or int32 scalar; their gradients have the same rows where it is an int.
            totals: as `losses_of`.
        """

        def part(i):
            return self._gradients(part_of(i), totals)

        equal = isinstance(count, int)
        # The first part outside the loop tells which gradients are sparse.
        losses, gradients = part(0)
        sparse = [isinstance(gradient, tf.IndexedSlices) for gradient in gradients]

        def start(gradient):
            if not isinstance(gradient, tf.IndexedSlices):
                return gradient
            tensors = gradient.values, gradient.indices
            shapes = (t.shape if equal else [None, *t.shape[1:]] for t in tensors)
            arrays = (
                tf.TensorArray(t.dtype, count, element_shape=shape, infer_shape=equal)
                for t, shape in zip(tensors, shapes, strict=True)
            )
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
            lambda i, *_: i < count, step, (tf.constant(1), losses, [start(g) for g in gradients])
        )

        def joined(array):
            if not equal:
                return array.concat()
            # Its outcome would have no static shape.
            stacked = array.stack()
            return tf.reshape(stacked, tf.concat([[-1], tf.shape(stacked)[2:]], axis=0))

        return losses, [
            tf.IndexedSlices(joined(s[0]), joined(s[1]), g.dense_shape) if rows else s
            for s, g, rows in zip(sums, gradients, sparse, strict=True)
        ]


@contextmanager
def _counting_alike(drawn: Sequence[keras.Variable], most: int) -> Iterator[None]:
    """Let the counters of dropout be the same on all devices behind an update, however many parts each has made: a
    checkpoint holds those of one.

    Args:
        drawn: from `counters`.
        most: parts that any device may make.
    """
    before = [tf.identity(state.value) for state in drawn]
    yield
    for state, start in zip(drawn, before, strict=True):
        state.assign(start + tf.constant([0, most], start.dtype))


class TrainableClassifier(ExactModel):
    """A classifier or the like; compile it with a loss of reduction=None, as Task.loss. Its data: inputs, targets and
    weights [batch]."""

    def weight_sums(self, data):
        _, _, weights = data
        return [tf.reduce_sum(weights)]

    def losses_of(self, data, totals):
        inputs, targets, weights = data
        logits = self(inputs, training=True)
        return {"loss": tf.reduce_sum(self.loss(targets, logits) * weights) / totals[0]}
