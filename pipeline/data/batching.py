"""From rows of text to the batches that training and prediction take.

Rows are read in windows of many batches: strings are tokenized once a window, sorted by length, and cut
into batches each padded only to its own longest row. Which rows fall into which batch depends on nothing
but the seed, the epoch and the row count, so a run taken up again at any batch sees the same data.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from pipeline.data.documents import OF_TEXTS, filled, take, token_counts, within
from pipeline.data.split import Split
from pipeline.data.untuned import unconverted, untuned
from pipeline.errors import UserError
from pipeline.long_texts import CHUNKS, CHUNKS_AT_ONCE
from pipeline.tasks.task import Task
from pipeline.text import TextEncoder

# Batches a window: enough to find rows of like length, few enough that the order stays random.
WINDOW_BATCHES = 64
# Lengths are rounded up to a multiple of this, so that kernels see few shapes. Of texts of 13 tokens, in batches of 32,
# 6 % of what is computed is padding then; with multiples of 8 it was 23 %.
LENGTH_MULTIPLE = 2


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Batches that cover all rows; the last one is filled up with rows of weight 0."""
    return -(-rows // batch_size)


@dataclass(frozen=True)
class BatchOptions:
    """How training rows become batches.

    Args:
        batch_size: rows a batch, over all devices. Every batch has exactly this many.
        seed: decides the order, with the epoch.
        by_length: put rows of like length into one batch; else take them as they come.
        lengths: of batches, rising; a batch has the first that its rows fit into, or else the encoder's
            sequence_length, which () leaves as the only one. None: multiples of LENGTH_MULTIPLE.
        passes: over the rows in an epoch, each in an order of its own; several where rows are few, without by_length.
        shard: (index, count): of each batch, the index-th of `count` equal slices, so that `count` workers together
            see each row once. With by_length each tokenizes the rows of all, whose lengths decide on the batches.
        weigh: from targets to weights of rows, float32 [n]; None: 1.
        parts: equal ones that a batch by tokens divides into, of all devices and of each update (see token_batches).
    """

    batch_size: int
    seed: int = 0
    by_length: bool = True
    lengths: tuple[int, ...] | None = None
    passes: int = 1
    shard: tuple[int, int] = (0, 1)
    weigh: Callable[[np.ndarray], np.ndarray] | None = None
    parts: int = 1

    def filled_to(self, encoder: TextEncoder) -> int | None:
        """How many chunks each text of a batch of fixed length has; None: as many as it takes."""
        return encoder.long.max_chunks if encoder.long.in_chunks and self.lengths == () else None

    @property
    def slice(self) -> int:
        """Rows of a batch that this worker has."""
        return self.batch_size // self.shard[1]


def training_batches(
    split: Split, encoder: TextEncoder, task: Task, options: BatchOptions, *, epoch: int, skip: int = 0
) -> tf.data.Dataset:
    """One epoch of training batches in an order decided by seed and epoch.

    Args:
        split: the rows.
        encoder: strings to token ids.
        task: whose targets they have.
        options: what a batch is.
        epoch: from 0.
        skip: leave out this many batches at the start, without reading their rows.

    Returns:
        A dataset of (inputs, targets, weights) of rows = batch_size / workers: inputs a dict of int32 [rows, length]
        (in chunks: [their chunks, length], and chunks, int32 [rows], which says how many each text has); targets
        float32 [rows, outputs], as the task's loss takes them; weights float32 [rows], the split's times those of
        options.weigh, 0 on rows that only fill the last batch.

    Raises:
        UserError: batch_size does not divide among the workers.
    """
    batch_size, size, (index, workers) = options.batch_size, options.slice, options.shard
    if not 0 <= index < workers or batch_size % workers:
        raise UserError(f"A batch of {batch_size} rows has no {index}-th of {workers} equal slices.")
    own = slice(index * size, (index + 1) * size)
    order = np.concatenate([order_of_pass(split, options, epoch, number) for number in range(options.passes)])
    steps = steps_per_epoch(len(order), batch_size)
    filled = np.resize(order, steps * batch_size).astype(np.int64)
    real = np.arange(filled.size) < order.size
    if not options.by_length:
        # The batches are known beforehand: nobody else's rows are even read.
        filled, real = (array.reshape(steps, batch_size)[:, own].ravel() for array in (filled, real))
    read = _window_reader(split, task, options, filled, real)

    @unconverted
    def encode(window: tf.Tensor) -> tf.data.Dataset:
        texts, targets, weights = read(window)
        inputs = encoder(*texts, fixed_length=options.lengths is not None)
        if options.by_length:
            draw = tf.stack([options.seed, epoch * (1 + steps // WINDOW_BATCHES) + tf.cast(window, tf.int32)])
            batches = _batches_of_like_length(inputs, batch_size, draw)[:, own]
        else:
            batches = tf.reshape(tf.range(tf.shape(weights)[0]), [-1, size])

        def batch(rows: tf.Tensor) -> tuple:
            picked = take(inputs, rows)
            if options.lengths != ():
                picked = trim(picked, options.lengths)
            return (
                shaped(picked, size, options.filled_to(encoder)),
                tf.ensure_shape(tf.gather(targets, rows), [size, task.outputs]),
                tf.ensure_shape(tf.gather(weights, rows), [size]),
            )

        return tf.data.Dataset.from_tensor_slices(batches).map(batch)

    windows = tf.data.Dataset.range(skip // WINDOW_BATCHES, steps_per_epoch(steps, WINDOW_BATCHES))
    batches = windows.flat_map(encode).skip(skip % WINDOW_BATCHES)
    return untuned(batches.apply(tf.data.experimental.assert_cardinality(steps - skip)).prefetch(4))


def order_of_pass(split: Split, options: BatchOptions, epoch: int, number: int) -> np.ndarray:
    """int64 [n], which rows one of the passes of an epoch has, in its order."""
    key = [options.seed, epoch * options.passes + number]
    return split.epoch_order(np.random.Generator(np.random.Philox(key=key)))


def _window_reader(
    split: Split, task: Task, options: BatchOptions, filled: np.ndarray, real: np.ndarray
) -> Callable[[tf.Tensor], tuple]:
    """`rows_reader` by the number of a window.

    Args:
        filled: int64, the rows of all windows, one after the other.
        real: bool, which of them do not only fill the last batch.
    """
    window_rows = WINDOW_BATCHES * (options.batch_size if options.by_length else options.slice)

    def window(number: int) -> tuple[np.ndarray, np.ndarray]:
        rows = slice(number * window_rows, (number + 1) * window_rows)
        return filled[rows], real[rows]

    return rows_reader(split, task, options, window)


def rows_reader(
    split: Split, task: Task, options: BatchOptions, rows_of: Callable[[int], tuple[np.ndarray, np.ndarray]]
) -> Callable[[tf.Tensor], tuple]:
    """From a number to texts, string [rows] a column, targets and weights.

    Args:
        rows_of: from a number to rows, int64, and which of them do not only fill a batch, bool.
    """
    kinds = (tf.string,) * split.store.meta.columns + (tf.float32, tf.float32)

    def numpy_rows(number: np.ndarray) -> tuple:
        rows, real = rows_of(int(number))
        weights = real.astype(np.float32)
        if options.weigh is not None:
            weights *= options.weigh(split.targets(rows))
        if split.weights is not None:
            weights *= split.weights[rows]
        return *split.cells(rows), split.training_targets(task, rows), weights

    def read(number: tf.Tensor) -> tuple:
        *texts, targets, weights = tf.numpy_function(numpy_rows, [number], kinds, stateful=False)
        for text in texts:
            text.set_shape([None])
        targets.set_shape([None, task.outputs])
        weights.set_shape([None])
        return texts, targets, weights

    return read


def numbered_batches(
    split: Split,
    encoder: TextEncoder,
    task: Task,
    options: BatchOptions,
    rows_of: Callable[[int], tuple[np.ndarray, np.ndarray]],
    numbers: range,
) -> tf.data.Dataset:
    """A batch for each number, as `training_batches` gives them but for the shapes, of rows that follow from it alone.

    Args:
        rows_of: as of `rows_reader`.
        numbers: without a step.
    """
    read = rows_reader(split, task, options, rows_of)

    @unconverted
    def batch(number: tf.Tensor) -> tuple:
        texts, targets, weights = read(number)
        inputs = encoder(*texts, fixed_length=options.lengths is not None)
        return inputs if options.lengths == () else trim(inputs, options.lengths), targets, weights

    return tf.data.Dataset.range(numbers.start, numbers.stop).map(batch)


def _batches_of_like_length(inputs: dict[str, tf.Tensor], batch_size: int, draw: tf.Tensor) -> tf.Tensor:
    """int32 [batches, batch_size], the rows of a window in batches of like length, in an order that `draw` decides."""
    lengths = token_counts(inputs)
    count = tf.shape(lengths)[0] // batch_size
    # The rows come in random order, so a stable sort leaves ties random.
    batches = tf.reshape(tf.argsort(lengths, stable=True), [count, batch_size])
    return tf.gather(batches, tf.argsort(tf.random.stateless_uniform([count], draw)))


def prediction_batches(
    split: Split,
    encoder: TextEncoder,
    *,
    batch_size: int,
    fixed_length: bool = False,
    shard: tuple[int, int] = (0, 1),
    chunks_at_once: int = CHUNKS_AT_ONCE,
) -> Iterator[tuple[np.ndarray, dict[str, tf.Tensor]]]:
    """All rows once, like lengths together; each batch comes with the numbers of its rows.

    Args:
        split: the rows.
        encoder: strings to token ids.
        batch_size: rows a batch; the last batch of a window may have fewer.
        fixed_length: pad all batches to the encoder's sequence_length.
        shard: (index, count): only each count-th batch, from the index-th on; they are the same batches for any count.
        chunks_at_once: of texts in chunks, how many a batch has at most, if it has several texts.

    Yields:
        (int64 [batch] row numbers, dict of int32 [batch, length] inputs, as the encoder gives them).
    """
    index, workers = shard
    for start in range(0, len(split), WINDOW_BATCHES * batch_size):
        rows = np.arange(start, min(start + WINDOW_BATCHES * batch_size, len(split)))
        inputs = encoder(*(tf.constant(text, tf.string) for text in split.cells(rows)), fixed_length=fixed_length)
        order = np.argsort(-token_counts(inputs).numpy(), kind="stable")
        for first in range(index * batch_size, len(rows), workers * batch_size):
            chosen = order[first : first + batch_size]
            whole = [slice(None)]
            parts = within(inputs[CHUNKS].numpy()[chosen], chunks_at_once) if CHUNKS in inputs else whole
            for part in parts:
                batch = take(inputs, chosen[part])
                yield rows[chosen[part]], batch if fixed_length else trim(batch)


def shaped(inputs: dict[str, tf.Tensor], texts: int, each: int | None = None) -> dict[str, tf.Tensor]:
    """Inputs with what is known of their shapes.

    Args:
        inputs: as an encoder gives them.
        texts: how many they are.
        each: of texts in chunks, how many each is to have; None: as many as it has.
    """
    rows = None if CHUNKS in inputs else texts
    known = {
        name: tf.ensure_shape(tensor, [texts, *tensor.shape[1:]] if name in OF_TEXTS else [rows, None])
        for name, tensor in inputs.items()
    }
    return known if each is None else filled(known, texts, each)


def batch_lengths(split: Split, encoder: TextEncoder, options: BatchOptions) -> np.ndarray:
    """int [n], tokens of the longest row of batches as `training_batches` makes them, from a sample of the rows.

    One window of batches, of rows taken evenly from all: the same for every epoch.
    """
    count = min(steps_per_epoch(len(split), options.batch_size), WINDOW_BATCHES)
    rows = np.linspace(0, len(split), count * options.batch_size, endpoint=False, dtype=np.int64)
    lengths = tf.reduce_sum(encoder(*map(tf.constant, split.cells(rows)))["padding_mask"], axis=1).numpy()
    if options.by_length:
        lengths = np.sort(lengths)
    else:
        lengths = np.random.Generator(np.random.Philox(options.seed)).permutation(lengths)
    return lengths.reshape(count, options.batch_size).max(axis=1)


def trim(inputs: dict[str, tf.Tensor], lengths: tuple[int, ...] | None = None) -> dict[str, tf.Tensor]:
    """Cut the columns that are padding in every row, but for those up to one of the lengths."""
    longest = tf.reduce_max(tf.reduce_sum(inputs["padding_mask"], axis=1))
    width = tf.shape(inputs["padding_mask"])[1]
    if lengths is None:
        length = tf.minimum(-(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE, width)
    else:
        possible = tf.concat([lengths, [width]], axis=0)
        length = possible[tf.searchsorted(possible, [longest])[0]]
    return {name: tensor if name in OF_TEXTS else tensor[:, :length] for name, tensor in inputs.items()}
