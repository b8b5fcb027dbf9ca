"""Tokens as clients send them, made fit for the model whatever the numbers are.

A server's batches are of several clients: what one sends must neither fail nor change what the others get.
"""

import tensorflow as tf

from pipeline.text import TextEncoder


def known_tokens(
    token_ids: tf.Tensor, segment_ids: tf.Tensor, padding_mask: tf.Tensor, encoder: TextEncoder, segments: int
) -> dict[str, tf.Tensor]:
    """Tokens as the encoder could have given them, in the length of the longest row.

    An id that the vocabulary does not have becomes [UNK], a segment that the model does not have becomes 0, and a
    token counts where its mask is not 0. The first token of a row always counts: the answer to a row of nothing but
    padding would follow from the length of the batch.

    Args:
        token_ids, segment_ids, padding_mask: int32 [batch, encoder.sequence_length]; where a server has let another
            width through, what lies beyond is left out.
        encoder: the model's.
        segments: that the model has.

    Returns:
        The three by name, int32 [batch, length].
    """
    position = tf.range(tf.shape(padding_mask)[1])
    counts = (padding_mask != 0) | (position == 0)
    length = tf.reduce_max(tf.where(counts, position + 1, 1))
    # Of no rows the maximum is less than 1.
    length = tf.clip_by_value(length, 1, encoder.sequence_length)
    ids, segment_ids, counts = (values[:, :length] for values in (token_ids, segment_ids, counts))
    return {
        "token_ids": tf.where((ids >= 0) & (ids < len(encoder.vocabulary)), ids, encoder.unk_id),
        "segment_ids": tf.where((segment_ids >= 0) & (segment_ids < segments), segment_ids, 0),
        "padding_mask": tf.cast(counts, tf.int32),
    }
