"""Batches whose texts may each be several rows of tokens: the texts of such a batch, their lengths and their shares.

What a batch is: a dict as TextEncoder gives it. Where it has no "chunks", each row of tokens is a text. A chunk without
a token, as `filled` adds them, counts for nothing.
"""

from typing import Any

import tensorflow as tf

from pipeline.features.columns import COLUMNS
from pipeline.long_texts import CHUNKS

# Of a batch, what has a row a text, also where texts have several rows of tokens.
OF_TEXTS = (CHUNKS, COLUMNS)


def take(inputs: dict[str, tf.Tensor], texts: tf.Tensor) -> dict[str, tf.Tensor]:
    """The texts of these numbers, int [n], in their order, with all their chunks."""
    if CHUNKS not in inputs:
        return {name: tf.gather(tensor, texts) for name, tensor in inputs.items()}
    rows = tf.range(tf.shape(inputs["token_ids"])[0])
    rows = tf.gather(tf.RaggedTensor.from_row_lengths(rows, inputs[CHUNKS], validate=False), texts).values
    return {name: tf.gather(tensor, texts if name in OF_TEXTS else rows) for name, tensor in inputs.items()}


def token_counts(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    """int32 [texts], with the special tokens of each chunk."""
    counts = tf.reduce_sum(inputs["padding_mask"], axis=1)
    return sums_of_texts(counts, inputs[CHUNKS]) if CHUNKS in inputs else counts


def sums_of_texts(values: tf.Tensor, chunks: tf.Tensor) -> tf.Tensor:
    """[texts, ...], of values of all their chunks, [rows, ...]."""
    return tf.math.unsorted_segment_sum(values, text_of_chunk(chunks, tf.shape(values)[0]), tf.size(chunks))


def text_of_chunk(chunks: tf.Tensor, rows: int | tf.Tensor) -> tf.Tensor:
    """int32 [rows], the number of the text that each chunk is of; of static shape where `rows` is known, for TPUs.

    Args:
        chunks: int32 [texts], how many each text has.
        rows: how many they are together.
    """
    return tf.searchsorted(tf.cumsum(chunks), tf.range(rows), side="right")


def filled(inputs: dict[str, tf.Tensor], texts: int, each: int) -> dict[str, tf.Tensor]:
    """The same texts with as many chunks each, of which those behind their own have no token: a batch of static shape.

    Args:
        inputs: of texts in chunks.
        texts: how many they are.
        each: chunks, at least as many as any text has.
    """

    def of_all(rows: tf.Tensor) -> tf.Tensor:
        length = rows.shape[1]
        ragged = tf.RaggedTensor.from_row_lengths(rows, inputs[CHUNKS], validate=False)
        return tf.reshape(ragged.to_tensor(shape=[texts, each, length]), [texts * each, length or tf.shape(rows)[1]])

    chunks = tf.fill([texts], each)
    return {name: t if name in OF_TEXTS else of_all(t) for name, t in inputs.items()} | {CHUNKS: chunks}


def is_ragged(inputs: dict) -> bool:
    """Whether the texts of a batch, tensors or their specs, are of no fixed number of chunks: it is not `filled`."""
    return CHUNKS in inputs and inputs["token_ids"].shape[0] is None


def share(data: tuple, index: int | tf.Tensor, count: int | tf.Tensor) -> tuple:
    """One of `count` equal shares of a batch in chunks, the index-th.

    Args:
        data: inputs, then nests of tensors with a row a text.
        index, count: int scalars; the texts divide into `count`.
    """
    inputs, *others = data
    texts = inputs[CHUNKS].shape[0]
    known = texts // count if texts is not None and isinstance(count, int) else None
    size = tf.size(inputs[CHUNKS]) // count
    first = index * size
    begin = tf.reduce_sum(inputs[CHUNKS][:first])
    end = begin + tf.reduce_sum(inputs[CHUNKS][first : first + size])

    def of_texts(tensor: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tensor[first : first + size], [known, *tensor.shape[1:]])

    own = {name: of_texts(t) if name in OF_TEXTS else t[begin:end] for name, t in inputs.items()}
    return own, *tf.nest.map_structure(of_texts, others)


def parts_within(chunks: tf.Tensor, budget: int, texts: int, at_least: int) -> tf.Tensor:
    """Into how many equal parts to divide texts so that none has more chunks than the budget, if any number does.

    Args:
        chunks: int32 [texts], of each text.
        budget: chunks of a part.
        texts: how many there are.
        at_least: parts; divides `texts`.

    Returns:
        int32 scalar, a multiple of `at_least` that divides `texts`.
    """
    counts = [count for count in range(at_least, texts + 1, at_least) if texts % count == 0]
    largest = [tf.reduce_max(tf.reduce_sum(tf.reshape(chunks, [count, -1]), axis=1)) for count in counts[:-1]]
    fits = tf.stack([*(size <= budget for size in largest), True])
    return tf.gather(counts, tf.argmax(fits, output_type=tf.int32))


def equal_parts(each: int, budget: int, texts: int, at_least: int) -> int:
    """`parts_within` of texts with `each` chunks."""
    counts = [count for count in range(at_least, texts + 1, at_least) if texts % count == 0]
    return next((count for count in counts if texts // count * each <= budget), texts)


def within(chunks: Any, budget: int) -> list[slice]:
    """Texts that follow each other, in parts of at most `budget` chunks, or of one text.

    Args:
        chunks: int [texts], of each text.
        budget: chunks of a part.
    """
    parts, start, size = [], 0, 0
    for number, count in enumerate(chunks):
        if size + count > budget and number > start:
            parts.append(slice(start, number))
            start, size = number, 0
        size += count
    return [*parts, slice(start, len(chunks))]
