"""Tokens of texts to the rows that a model takes: cut to what there is room for, with BERT's special tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from pipeline.cutting import kept_tokens


@dataclass(frozen=True)
class Packing:
    """[CLS] first [SEP], or [CLS] first [SEP] second [SEP], and padding.

    Attributes:
        cls_id, sep_id, pad_id: of the special tokens.
        head_share: of what is kept of a long text, the share that is of its beginning (`LongTexts`).
    """

    cls_id: int
    sep_id: int
    pad_id: int
    head_share: float

    def __call__(
        self, texts: Sequence[tf.RaggedTensor], room: int | tf.Tensor, fixed_length: bool = False
    ) -> dict[str, tf.Tensor]:
        """One or two texts a row.

        Args:
            texts: int32 [batch, None], the tokens of the first text of each row, and those of the second.
            room: tokens at most beside the special ones.
            fixed_length: pad to what there is room for; else to the longest row.

        Returns:
            token_ids, segment_ids and padding_mask, each int32 [batch, length].
        """
        kept = _kept([text.row_lengths() for text in texts], room)
        if self.head_share < 1:
            texts = [kept_tokens(*pair, self.head_share) for pair in zip(texts, kept, strict=True)]
        if len(texts) == 1:
            token_ids = self._framed(texts[0], room, fixed_length)
        else:
            token_ids = self._joined(texts, kept, room if fixed_length else None)
        position = tf.range(tf.shape(token_ids)[1])
        last = tf.cast(kept[0][:, tf.newaxis], tf.int32) + 1  # place of the last token, [SEP]
        segment_ids = tf.zeros_like(token_ids)
        if len(texts) == 1:
            token_ids = tf.where(position == last, self.sep_id, token_ids)
        else:
            first_last, last = last, last + tf.cast(kept[1][:, tf.newaxis], tf.int32) + 1
            segment_ids = tf.cast((position > first_last) & (position <= last), tf.int32)
        return {
            "token_ids": token_ids,
            "segment_ids": segment_ids,
            "padding_mask": tf.cast(position <= last, tf.int32),
        }

    def _framed(self, text: tf.RaggedTensor, room: int | tf.Tensor, fixed_length: bool) -> tf.Tensor:
        """[CLS], the first `room` tokens, and a column for the last [SEP]: int32 [batch, length].

        In few operations: in a small batch each costs as much as the tokens of several texts.
        """
        dense = text.to_tensor(self.pad_id, shape=[None, room if fixed_length else None])
        dense = tf.pad(dense[:, :room], [[0, 0], [1, 0]], constant_values=self.cls_id)
        return tf.pad(dense, [[0, 0], [0, 1]], constant_values=self.pad_id)

    def _joined(
        self, texts: Sequence[tf.RaggedTensor], kept: Sequence[tf.Tensor], room: int | tf.Tensor | None
    ) -> tf.Tensor:
        """[CLS], then of each text the first `kept` tokens and [SEP]: int32 [batch, length], of the length that `room`
        makes, or of the longest row's."""
        # The output is gathered, as plain copies of slices, from a pool of ragged rows: [CLS], [SEP], then each
        # text's row in two, what is kept and what is not.
        numbers = tf.range(texts[0].nrows())
        cls = tf.zeros_like(numbers)
        splits, order, size = [[0, 1]], [cls], 2
        for text, count in zip(texts, kept, strict=True):
            start = text.row_starts() + size
            splits.append(tf.reshape(tf.stack([start, start + count], axis=1), [-1]))
            order += [2 * (numbers + 1 + (len(splits) - 2) * tf.size(numbers, tf.int64)), cls + 1]
            size += tf.size(text.values, tf.int64)
        pool = tf.RaggedTensor.from_row_splits(
            tf.concat([[self.cls_id, self.sep_id], *(text.values for text in texts)], axis=0),
            tf.concat([*splits, [size]], axis=0),
            validate=False,
        )
        parts = tf.gather(pool, tf.reshape(tf.stack(order, axis=1), [-1]))
        rows = tf.RaggedTensor.from_row_splits(parts.values, parts.row_splits[:: len(order)], validate=False)
        special = len(texts) + 1
        token_ids = rows.to_tensor(self.pad_id, shape=[None, None if room is None else room + special])
        # An empty batch has the width of an empty text, not none.
        return tf.reshape(token_ids, [-1, tf.maximum(tf.shape(token_ids)[1], special)])


def _kept(lengths: Sequence[tf.Tensor], room: int | tf.Tensor) -> list[tf.Tensor]:
    """How many tokens of texts of so many, one or two a row, are kept where there is room for `room`."""
    if len(lengths) == 1:
        return [tf.minimum(lengths[0], room)]
    # Popping from the longer until both fit leaves no more than half to a text whose other has more than that.
    return [
        tf.minimum(lengths[0], tf.maximum(room - lengths[1], room - room // 2)),
        tf.minimum(lengths[1], tf.maximum(room - lengths[0], room // 2)),
    ]
