"""Which bytes of a text a part of its normalised form came from.

A text on its way through normalisation is a pair: strings, string [batch], and `places`, ragged int64 [batch, bytes +
1]: of each of its bytes the one of the original text at which the character began that it comes from, and at the end
the original's length.
"""

import tensorflow as tf


def valid_text(strings: tf.Tensor) -> tuple[tf.Tensor, tf.RaggedTensor]:
    """Strings without the bytes that are not UTF-8, and the places of the rest."""
    characters, starts = tf.strings.unicode_split_with_offsets(strings, "UTF-8", errors="ignore")
    ends = tf.cast(tf.strings.length(strings), tf.int64)
    return tf.strings.reduce_join(characters, axis=1), _places(characters, starts, ends)


def moved(places: tf.RaggedTensor, offsets: tf.RaggedTensor) -> tf.RaggedTensor:
    """Places of a text made from another: `offsets` are each of its bytes' in the other, `places` are the other's."""
    return tf.gather(places, offsets, batch_dims=1)


def with_long_words_replaced(
    strings: tf.Tensor, places: tf.RaggedTensor, breaks: str, limit: int, replacement: str
) -> tuple[tf.Tensor, tf.RaggedTensor]:
    """Each run of more than `limit` characters without one of `breaks` (RE2 ranges) becomes `replacement`."""
    characters, starts = tf.strings.unicode_split_with_offsets(strings, "UTF-8")
    within = tf.cast(~tf.strings.regex_full_match(characters.flat_values, rf"[{breaks}]"), tf.int64)
    row = characters.value_rowids()
    # Each break is a run of its own.
    starts_run = (within == 0) | (previous(within) == 0) | (row != previous(row))
    run = tf.cumsum(tf.cast(starts_run, tf.int64)) - 1
    runs = tf.math.reduce_max(tf.concat([[-1], run], axis=0)) + 1
    long = tf.gather(tf.math.unsorted_segment_sum(within, run, runs) > limit, run) & (within == 1)
    # The first character of a long run stands for all.
    first = long & starts_run
    values = tf.where(first, replacement, characters.flat_values)
    kept = ~long | first
    return rebuilt(characters.with_values(values), starts, characters.with_values(kept), places)


def rebuilt(
    characters: tf.RaggedTensor, starts: tf.RaggedTensor, kept: tf.RaggedTensor, places: tf.RaggedTensor
) -> tuple[tf.Tensor, tf.RaggedTensor]:
    """The text of those characters that are kept, and its places.

    Args:
        characters: string [batch, characters], each as it is to be.
        starts: int64 [batch, characters], where each began, or what it stands for, in the text that `places` is of.
        kept: bool [batch, characters].
        places: of the text so far.
    """
    characters = tf.ragged.boolean_mask(characters, kept)
    starts = tf.ragged.boolean_mask(moved(places, starts), kept)
    return tf.strings.reduce_join(characters, axis=1), _places(characters, starts, _lengths(places))


def spans(
    places: tf.RaggedTensor, begins: tf.RaggedTensor, ends: tf.RaggedTensor
) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
    """Begin and end in the original text of parts that are known by their bytes in the normalised one.

    A span reaches from the first byte of the original's first character to that of the next character that is left
    in the normalised text: marks that were stripped, and characters that were dropped, belong to what they follow.

    Args:
        places: of the normalised text.
        begins, ends: int64 [batch, parts]; no part is empty.

    Returns:
        int64 [batch, parts] each.
    """
    flat = places.flat_values
    row = places.value_rowids()
    new = (flat != previous(flat)) | (row != previous(row))
    characters = places.with_values(tf.cumsum(tf.cast(new, tf.int64)) - 1)  # number of each byte's character
    starts = tf.boolean_mask(flat, new)
    last = tf.gather(characters, ends - 1, batch_dims=1)
    # Behind the last character of a text stands its length.
    return tf.gather(places, begins, batch_dims=1), last.with_values(tf.gather(starts, last.values + 1))


def _places(characters: tf.RaggedTensor, starts: tf.RaggedTensor, ends: tf.Tensor) -> tf.RaggedTensor:
    """The places of joined characters that began at `starts` in texts of `ends` bytes."""
    sizes = characters.with_values(tf.cast(tf.strings.length(characters.flat_values), tf.int64))
    repeated = tf.RaggedTensor.from_row_lengths(
        tf.repeat(starts.flat_values, sizes.flat_values), tf.reduce_sum(sizes, axis=1), validate=False
    )
    return tf.concat([repeated, tf.RaggedTensor.from_tensor(ends[:, tf.newaxis])], axis=1)


def previous(values: tf.Tensor) -> tf.Tensor:
    """Of each the one before it; of the first -1."""
    return tf.concat([[tf.constant(-1, values.dtype)], values[:-1]], axis=0)


def _lengths(places: tf.RaggedTensor) -> tf.Tensor:
    """Bytes of the original texts."""
    return tf.gather(places.flat_values, places.row_limits() - 1)
