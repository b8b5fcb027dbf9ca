"""Batches by Poisson sampling: each row, or group of rows, is in each batch with one probability, by itself.

It is what the accounting is of: a shuffled order, where each row comes once an epoch, tells much more (Chua et al.,
2024, arXiv:2403.17673). Who knew which rows were drawn could not be told less either, so a secret decides them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import tensorflow as tf

from pipeline.data.batching import BatchOptions, numbered_batches, shaped, steps_per_epoch
from pipeline.data.extra_columns import GROUP
from pipeline.data.split import Split
from pipeline.data.untuned import unconverted, untuned
from pipeline.tasks.task import Task
from pipeline.text import TextEncoder


@dataclass(frozen=True)
class PoissonSampling:
    """Which rows each update has.

    Attributes:
        members: int64 [rows], the rows of each unit one after the other.
        starts: int64 [units + 1], where those of each unit begin.
        rate: probability with which a unit is drawn.
        updates: in all.
        secret: decides, with the number of an update.
    """

    members: np.ndarray
    starts: np.ndarray
    rate: float
    updates: int
    secret: int

    @property
    def units(self) -> int:
        """Of which each may be drawn."""
        return len(self.starts) - 1

    def rows(self, update: int) -> np.ndarray:
        """int64, of the units that are drawn: of each one row, which is drawn too."""
        chance = self._chance(update)
        # A binomial number of units, any as likely as others, is each unit by itself.
        drawn = chance.choice(self.units, self._count(chance), replace=False, shuffle=False)
        sizes = self.starts[drawn + 1] - self.starts[drawn]
        return self.members[self.starts[drawn] + chance.integers(0, sizes)]

    @cached_property
    def largest(self) -> int:
        """Rows of the largest batch of all updates."""
        return max((self._count(self._chance(update)) for update in range(self.updates)), default=0)

    def _chance(self, update: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(self.secret, spawn_key=(update,))))

    def _count(self, chance: np.random.Generator) -> int:
        return int(chance.binomial(self.units, self.rate))


def units_of(rows: Split) -> tuple[np.ndarray, np.ndarray]:
    """Members and starts of PoissonSampling: of the groups of data.group_column, where there are any, else of rows."""
    if GROUP not in rows.store.columns:
        return np.arange(len(rows)), np.arange(len(rows) + 1)
    groups = rows.extra(GROUP)
    members = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[members], prepend=-1))
    return members, np.append(starts, len(rows))


def sampled_batches(
    sampling: PoissonSampling,
    split: Split,
    encoder: TextEncoder,
    task: Task,
    options: BatchOptions,
    *,
    epoch: int,
    skip: int = 0,
) -> tf.data.Dataset:
    """As `training_batches`, all of one number of rows: those that are drawn, filled up with rows of weight 0, of which
    each worker has its slice.

    Args:
        sampling: of this split.
        options: their batch_size is what batches have on average; by_length has no meaning here.
    """
    steps = steps_per_epoch(options.passes * len(split), options.batch_size)
    first, end = epoch * steps, min((epoch + 1) * steps, sampling.updates)
    # The parts are of all devices, so that workers divide them too.
    whole, (index, workers) = max(1, -(-sampling.largest // options.parts)) * options.parts, options.shard
    size = whole // workers
    own = slice(index * size, (index + 1) * size)

    def of_update(number: int) -> tuple[np.ndarray, np.ndarray]:
        rows = sampling.rows(number)
        filled = np.resize(rows if len(rows) else [0], whole).astype(np.int64)
        return filled[own], (np.arange(whole) < len(rows))[own]

    @unconverted
    def of_one_size(inputs: dict, targets: tf.Tensor, weights: tf.Tensor) -> tuple:
        return shaped(inputs, size), tf.ensure_shape(targets, [size, task.outputs]), tf.ensure_shape(weights, [size])

    batches = numbered_batches(split, encoder, task, options, of_update, range(first + skip, end))
    return untuned(batches.map(of_one_size).prefetch(4))


def maker(sampling: PoissonSampling) -> Callable[..., tf.data.Dataset]:
    """`sampled_batches` in the form of `training_batches`."""
    return partial(sampled_batches, sampling)
