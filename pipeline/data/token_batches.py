"""Batches of about as many tokens each, in place of as many rows: of long texts few, of short ones many.

The rows, sorted by length, are cut where a batch is full. Where depends on the lengths alone, so each pass has as many
batches; which rows of one length stand on which side of a cut, and the order of the batches, are drawn anew.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import tensorflow as tf

from pipeline.data.batching import LENGTH_MULTIPLE, BatchOptions, numbered_batches, order_of_pass
from pipeline.data.split import Split
from pipeline.data.untuned import untuned
from pipeline.errors import UserError
from pipeline.tasks.task import Task
from pipeline.text import TextEncoder

# Texts that are tokenized at once to learn their lengths.
CHUNK = 4096
# A batch of as many rows or more has a multiple of them, which divides among the usual numbers of devices.
ROWS_MULTIPLE = 8


@dataclass(frozen=True)
class TokenBatches:
    """How the rows of a split are cut.

    Args:
        lengths: int [n], tokens of each row.
        tokens: that a batch has at most, padding included.
    """

    lengths: np.ndarray
    tokens: int

    @cached_property
    def ends(self) -> np.ndarray:
        """int [batches], where each ends in the rows sorted by length, the longest first."""
        falling, ends = np.sort(self.lengths)[::-1], [0]
        while ends[-1] < len(falling):
            padded = -(-int(falling[ends[-1]]) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
            rows = max(1, self.tokens // padded)
            rows -= rows % ROWS_MULTIPLE if rows > ROWS_MULTIPLE else 0
            ends.append(min(ends[-1] + rows, len(falling)))
        return np.array(ends[1:])

    @property
    def count(self) -> int:
        """Batches that a pass has."""
        return len(self.ends)

    def rows(self, order: np.ndarray, chance: np.random.Generator) -> list[np.ndarray]:
        """The rows of each batch of a pass.

        Args:
            order: int64 [n], all rows in random order.
            chance: decides the order of the batches.
        """
        falling = order[np.argsort(-self.lengths[order], kind="stable")]
        batches = np.split(falling, self.ends[:-1])
        return [batches[number] for number in chance.permutation(len(batches))]


def cut_by_tokens(split: Split, encoder: TextEncoder, tokens: int) -> TokenBatches:
    """Tokenize all rows of a split for their lengths.

    Args:
        tokens: that a batch has at most.

    Raises:
        UserError: one text may have more.
    """
    if tokens < encoder.sequence_length:
        raise UserError(
            f"training.tokens_per_batch {tokens} is less than the {encoder.sequence_length} tokens of one text: give "
            "more, or a smaller text.sequence_length."
        )
    lengths = [
        tf.reduce_sum(encoder(*map(tf.constant, split.cells(slice(start, start + CHUNK))))["padding_mask"], axis=1)
        for start in range(0, len(split), CHUNK)
    ]
    return TokenBatches(np.concatenate(lengths), tokens)


def batches_by_tokens(
    cut: TokenBatches,
    split: Split,
    encoder: TextEncoder,
    task: Task,
    options: BatchOptions,
    *,
    epoch: int,
    skip: int = 0,
) -> tf.data.Dataset:
    """As `training_batches`, of batches by tokens: the same for any number of devices, but for rows of weight 0, which
    fill them up until they divide into options.parts.

    Args:
        cut: of this split.
        options: their batch_size, by_length and lengths have no meaning here.
    """
    passes = [_pass(cut, split, options, epoch, number) for number in range(options.passes)]
    batches = [rows for one in passes for rows in one]
    index, workers = options.shard

    def of_worker(number: int) -> tuple[np.ndarray, np.ndarray]:
        rows = batches[number]
        size = -(-len(rows) // options.parts) * options.parts // workers
        own = slice(index * size, (index + 1) * size)
        return np.resize(rows, size * workers)[own], (np.arange(size * workers) < len(rows))[own]

    options, numbers = replace(options, lengths=None), range(skip, len(batches))
    return untuned(numbered_batches(split, encoder, task, options, of_worker, numbers).prefetch(4))


def _pass(cut: TokenBatches, split: Split, options: BatchOptions, epoch: int, number: int) -> list[np.ndarray]:
    order = order_of_pass(split, options, epoch, number)
    # Another key than that of the order.
    key = np.array([options.seed, 2**63 + epoch * options.passes + number], np.uint64)
    chance = np.random.Generator(np.random.Philox(key=key))
    return cut.rows(order, chance)


def maker(cut: TokenBatches) -> Callable[..., tf.data.Dataset]:
    """`batches_by_tokens` in the form of `training_batches`."""
    return partial(batches_by_tokens, cut)
