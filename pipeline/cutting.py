"""Which tokens of a long text are read, in the graph: those of its beginning and its end, or chunks of it."""

from typing import NamedTuple

import tensorflow as tf

from pipeline.long_texts import LongTexts

# Tokens that end a sentence.
SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？", "؟", "।")
# Of a chunk: in its last tenth it may end with a sentence.
LAST_PART = 10


class Chunks(NamedTuple):
    """Where the chunks of texts are, in their order.

    Attributes:
        begins, ends: places among the tokens of all texts, one after the other, int64 [chunks].
        counts: of each text, int64 [batch]; at least 1.
    """

    begins: tf.Tensor
    ends: tf.Tensor
    counts: tf.Tensor

    def tokens(self, text: tf.RaggedTensor) -> tf.RaggedTensor:
        """int32 [chunks, None], of the texts that they are of."""
        places = tf.ragged.range(self.begins, self.ends)
        return places.with_values(tf.gather(text.values, places.values))


def chunks_of(text: tf.RaggedTensor, room: int, long: LongTexts, sentence_ends: list[int]) -> Chunks:
    """Cut texts into chunks of at most `room` tokens.

    Args:
        text: int32 [batch, None].
        room: tokens of a chunk.
        long: stride and max_chunks.
        sentence_ends: ids of tokens that end a sentence.
    """
    if long.stride is not None:
        over = tf.maximum(text.row_lengths() - room, 0)
        counts = tf.minimum(1 - (-over // long.stride), long.max_chunks)
        numbers = tf.ragged.range(counts)
        rows = numbers.value_rowids()
        begins = tf.gather(text.row_starts(), rows) + numbers.values * long.stride
        return Chunks(begins, tf.minimum(begins + room, tf.gather(text.row_limits(), rows)), counts)
    first, limits = text.row_starts(), text.row_limits()
    is_end = tf.reduce_any(text.values[:, tf.newaxis] == tf.constant(sentence_ends, tf.int32), axis=1)
    # Places behind the ends of sentences; the first is before all texts.
    stops = tf.concat([[-1], tf.where(is_end)[:, 0] + 1], axis=0)

    def step(number, begins, ends):
        full = begins + room
        stop = tf.gather(stops, tf.searchsorted(stops, full, side="right") - 1)
        end = tf.where(full >= limits, limits, tf.where(stop > full - room // LAST_PART, stop, full))
        return number + 1, end, ends.write(number, end)

    _, _, ends = tf.while_loop(
        lambda number, begins, _: (number == 0) | ((number < long.max_chunks) & tf.reduce_any(begins < limits)),
        step,
        (0, first, tf.TensorArray(tf.int64, 0, dynamic_size=True, element_shape=[None])),
    )
    ends = tf.transpose(ends.stack())
    begins = tf.concat([first[:, tf.newaxis], ends[:, :-1]], axis=1)
    there = (begins < limits[:, tf.newaxis]) | (tf.range(tf.shape(begins)[1]) == 0)
    return Chunks(begins[there], ends[there], tf.reduce_sum(tf.cast(there, tf.int64), axis=1))


def source_places(places: tf.Tensor, kept: tf.Tensor, lengths: tf.Tensor, head_share: float) -> tf.Tensor:
    """Where in its text a kept token stands.

    Args:
        places: int [...], of kept tokens among the kept.
        kept, lengths: of the texts that they are of, tokens that are kept and all, int of the same shape and dtype.
        head_share: LongTexts.head_share.

    Returns:
        As `places`.
    """
    head = tf.cast(tf.floor(tf.cast(kept, tf.float64) * head_share + 0.5), places.dtype)
    return places + tf.where(places >= head, lengths - kept, 0)


def kept_tokens(text: tf.RaggedTensor, kept: tf.Tensor, head_share: float) -> tf.RaggedTensor:
    """Of each row so many tokens, of its beginning and its end.

    Args:
        text: int32 [batch, None].
        kept: int64 [batch], at most as many as there are.
        head_share: LongTexts.head_share.
    """
    places = tf.ragged.range(kept)
    rows = places.value_rowids()
    lengths = tf.gather(text.row_lengths(), rows)
    own = source_places(places.values, tf.gather(kept, rows), lengths, head_share)
    return places.with_values(tf.gather(text.values, tf.gather(text.row_starts(), rows) + own))
