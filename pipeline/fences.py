"""Parts of texts found by RE2 and set between fences, in the TensorFlow graph; each is then kept or replaced.

A fenced text has a noncharacter before and behind each part. Cut at the fences, its segments are by turns what lies
between parts (the first, the third ...) and a part.
"""

import tensorflow as tf

from pipeline import alignment

FENCE = "\U000bffff"


def cut(fenced: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
    """Fenced texts, string [batch], cut at their fences: segments, string [batch, segments], and of all of them in a
    row the number within their text, int64 [n]."""
    segments = tf.strings.split(fenced, sep=FENCE)
    first = tf.repeat(segments.row_starts(), segments.row_lengths())
    return segments, tf.range(tf.size(segments.flat_values, tf.int64)) - first


def replaced_with_places(
    fenced: tf.Tensor, accepted: tf.Tensor, stand_ins: tf.Tensor, places: tf.RaggedTensor, around: str = ""
) -> tuple[tf.Tensor, tf.RaggedTensor]:
    """Texts with some of their parts replaced, and the places of the outcome (see alignment.py).

    Args:
        fenced: string [batch], valid UTF-8.
        accepted: bool [n], of all segments in a row, whether it is a part that is replaced.
        stand_ins: string [n], by what.
        places: of the text without fences.
        around: what takes the place of the fences of a replaced part.
    """
    characters, starts = tf.strings.unicode_split_with_offsets(fenced, "UTF-8")
    values, row = characters.flat_values, characters.value_rowids()
    fence = tf.cast(values == FENCE, tf.int64)
    # Every row has an even number of fences, and one segment more than fences.
    fences = tf.cumsum(fence)
    segment = fences + row
    inside = fences % 2 == 1
    opening, closing = inside & (fence == 1), ~inside & (fence == 1)
    segment = tf.where(closing, segment - 1, segment)
    accepted, stand_ins = tf.gather(accepted, segment), tf.gather(stand_ins, segment)
    first = inside & ~opening & (alignment.previous(fence) == 1) & accepted
    values = tf.where(first, stand_ins, tf.where(fence == 1, around, values))
    kept = tf.where(fence == 1, accepted, first | ~(inside & accepted))
    # The bytes of fences are not in the text that the places are of.
    before = tf.cumsum(fence, exclusive=True)
    in_row = before - tf.gather(tf.concat([before, [0]], axis=0), tf.gather(characters.row_starts(), row))
    starts = starts.with_values(starts.flat_values - len(FENCE.encode()) * in_row)
    return alignment.rebuilt(characters.with_values(values), starts, characters.with_values(kept), places)
