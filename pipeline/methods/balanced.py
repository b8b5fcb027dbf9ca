"""Batches with the same number of rows of every class, in which all pairs are compared."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pipeline.data.batching import BatchOptions, shaped, trim
from pipeline.data.split import Split
from pipeline.data.untuned import unconverted, untuned
from pipeline.tasks.task import Task
from pipeline.text import TextEncoder

# Rows of a class in a batch: two make a pair.
LEAST_ROWS = 2


class BalancedRows:
    """Which rows a batch has: as many of each class or, where classes are many, of as many as have room for two rows.

    Classes come in cycles, each in an order of its own, and so do the rows of a class, so that none is seen again
    before all others have been. All follows from the seed and the number of the batch.

    Args:
        classes: int64 [m] each, the rows of each class, of which there are some.
        batch_size: rows a batch.
        seed: of the orders.
    """

    def __init__(self, classes: Sequence[np.ndarray], batch_size: int, seed: int):
        self.classes, self.batch_size, self.seed = classes, batch_size, seed
        self.rows_a_class = max(LEAST_ROWS, batch_size // len(classes))
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def __call__(self, step: int) -> np.ndarray:
        """int64 [batch_size], the rows of the batch of this number, from 0."""
        places = -(-self.batch_size // self.rows_a_class)
        rows = [self._rows_at(place) for place in range(step * places, (step + 1) * places)]
        return np.concatenate(rows)[: self.batch_size]

    def _rows_at(self, place: int) -> np.ndarray:
        """The rows of the class at a place in the sequence of all batches' classes."""
        cycle, at = divmod(place, len(self.classes))
        number = int(self._order(0, cycle, len(self.classes))[at])
        rows = self.classes[number]
        seen = [divmod(i, len(rows)) for i in range(cycle * self.rows_a_class, (cycle + 1) * self.rows_a_class)]
        return rows[[self._order(1 + number, turn, len(rows))[i] for turn, i in seen]]

    def _order(self, stream: int, turn: int, count: int) -> np.ndarray:
        """The order of a stream (that of the classes, or of the rows of one) in one of its turns."""
        kept, order = self._orders.get(stream, (-1, np.empty(0, np.int64)))
        if kept != turn:
            order = np.random.Generator(np.random.Philox(key=[self.seed, (stream << 32) + turn])).permutation(count)
            self._orders[stream] = turn, order
        return order


def rows_by_class(task: Task, values: np.ndarray) -> list[np.ndarray]:
    """The rows of each class that has any; those of no class are one, too."""
    groups = task.groups(values)
    of_member = np.repeat(np.arange(len(groups.counts)), groups.counts)
    order = np.argsort(groups.members, kind="stable")
    bounds = np.searchsorted(groups.members[order], np.arange(1, len(groups.names)))
    found = np.split(of_member[order], bounds)
    return [rows for rows in [*found, np.flatnonzero(groups.counts == 0)] if len(rows)]


def balanced_batches(
    split: Split, encoder: TextEncoder, task: Task, options: BatchOptions, *, epoch: int, skip: int = 0
) -> tf.data.Dataset:
    """Class-balanced batches without end, which are one epoch; else as training_batches. All weights are 1, or the
    rows' own."""
    (index, _), size = options.shard, options.slice
    rows_of = BalancedRows(rows_by_class(task, split.targets()), options.batch_size, options.seed)
    kinds = (tf.string,) * split.store.meta.columns + (tf.float32, tf.float32)

    def numpy_batch(step: np.ndarray) -> tuple:
        rows = rows_of(int(step))[index * size : (index + 1) * size]
        weights = np.ones(size, np.float32) if split.weights is None else split.weights[rows]
        return *split.cells(rows), split.training_targets(task, rows), weights

    @unconverted
    def batch(step: tf.Tensor) -> tuple:
        *texts, targets, weights = tf.numpy_function(numpy_batch, [step], kinds, stateful=False)
        for text in texts:
            text.set_shape([size])
        inputs = encoder(*texts, fixed_length=True)
        if options.lengths != ():
            inputs = trim(inputs, options.lengths)
        inputs = shaped(inputs, size, options.filled_to(encoder))
        return inputs, tf.ensure_shape(targets, [size, task.outputs]), tf.ensure_shape(weights, [size])

    return untuned(tf.data.Dataset.range(skip, np.iinfo(np.int64).max).map(batch).prefetch(4))
