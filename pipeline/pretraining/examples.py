"""Batches for masked-LM and sentence-pair pre-training, each made from its number alone."""

from functools import lru_cache

import numpy as np
import tensorflow as tf

from pipeline.data.batching import LENGTH_MULTIPLE, steps_per_epoch
from pipeline.data.untuned import untuned
from pipeline.errors import UserError
from pipeline.pretraining import masking
from pipeline.pretraining.plan import NO_PAIR, OTHER, Examples, Objective, plan
from pipeline.pretraining.tokens import TokenCorpus, ranges, vocabulary_digest
from pipeline.text import TextEncoder

# The stretches between two looks at held-out text share the plan of their pass.
_plan = lru_cache(maxsize=2)(plan)


def pretraining_batches(
    corpus: TokenCorpus,
    encoder: TextEncoder,
    *,
    batch_size: int,
    sequence_length: int,
    max_predictions: int,
    objective: Objective = "nsp",
    masked_share: float = 0.15,
    whole_words: bool = False,
    seed: int,
    epoch: int,
    skip: int = 0,
    shard: tuple[int, int] = (0, 1),
    fixed_length: bool = True,
    short_share: float = 0.1,
) -> tf.data.Dataset:
    """One epoch of batches in an order decided by `seed` and `epoch`.

    Each batch is made from its number alone: `skip` costs nothing, and a run that is taken up again sees the batches
    it would have seen. The number of batches differs a little from epoch to epoch; `len` of the dataset tells it.

    Args:
        corpus: prepared.
        encoder: the one whose tokens these are; its vocabulary tells special tokens and word pieces.
        batch_size: rows a batch, over all workers. Every batch has exactly this many.
        sequence_length: columns, with [CLS] and [SEP].
        max_predictions: slots for masked tokens a row.
        objective: "nsp", "sop" or "none", see `plan`.
        masked_share: share of the tokens to predict.
        whole_words: predict all pieces of a word; words are the splitter's where the corpus was prepared with one.
        skip: leave out this many batches at the start.
        shard: (index, count): of each batch, the index-th of `count` equal slices, so that `count` workers together
            see each example once.
        fixed_length: all batches have sequence_length columns; else as many as the longest row of the slice needs.
        short_share: see `plan`.

    Returns:
        A dataset of (inputs, targets, weights), dicts of tensors whose rows are batch_size / count:
        inputs: token_ids, segment_ids, padding_mask int32 [rows, length];
        masked_positions int32 [rows, max_predictions];
        targets: masked_ids int32 [rows, max_predictions]; next_sentence int32 [rows] (0: B follows A, 1: it does not);
        weights: masked_weights float32 [rows, max_predictions], 0 in unused slots; next_sentence_weights float32
        [rows], 0 on rows without a pair. Both are 0 on rows that only fill the last batch.

    Raises:
        UserError: see `plan`; a vocabulary that the tokens are not of; settings that are out of range.
    """
    index, count = shard
    if corpus.vocabulary != vocabulary_digest(encoder):
        raise UserError("The corpus was prepared with another vocabulary or letter case: prepare it with this one.")
    if not 0 <= index < count or batch_size % count:
        raise UserError(f"A batch of {batch_size} rows has no {index}-th of {count} equal slices.")
    if not 0 < masked_share < 1 or max_predictions < 1:
        raise UserError(
            f"masked_share {masked_share} must be between 0 and 1, max_predictions {max_predictions} above 0."
        )
    examples = _plan(corpus, sequence_length, objective, seed, epoch, short_share)
    steps = steps_per_epoch(len(examples), batch_size)
    pieces = masking.Pieces.of(encoder.vocabulary)
    rows = batch_size // count

    def build(step: np.ndarray) -> tuple:
        first = int(step) * batch_size + index * rows
        numbers = np.arange(first, first + rows)
        real = numbers < len(examples)
        token_ids, segment_ids, padding_mask, text, begins_word = _assemble(
            corpus, examples, numbers % len(examples), sequence_length, objective, encoder, pieces, whole_words
        )
        draws = masking.draws(seed, epoch, first, rows, sequence_length)
        token_ids, positions, ids, weights = masking.mask(
            token_ids, text, begins_word, draws, pieces, masked_share, max_predictions
        )
        labels = examples.labels[numbers % len(examples)]
        paired = (real & (labels != NO_PAIR)).astype(np.float32)
        if not fixed_length:
            longest = -(-padding_mask.sum(axis=1).max() // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
            token_ids, segment_ids, padding_mask = (x[:, :longest] for x in (token_ids, segment_ids, padding_mask))
        label = (labels == OTHER).astype(np.int32)
        return token_ids, segment_ids, padding_mask, positions, ids, label, weights * real[:, np.newaxis], paired

    def batch(step: tf.Tensor) -> tuple:
        kinds = (tf.int32,) * 6 + (tf.float32,) * 2
        values = tf.numpy_function(build, [step], kinds, stateful=False)
        wide, slots = [rows, sequence_length if fixed_length else None], [rows, max_predictions]
        for value, shape in zip(values, (wide, wide, wide, slots, slots, [rows], slots, [rows]), strict=True):
            value.set_shape(shape)
        inputs = dict(zip(("token_ids", "segment_ids", "padding_mask", "masked_positions"), values[:4], strict=True))
        targets = {"masked_ids": values[4], "next_sentence": values[5]}
        return inputs, targets, {"masked_weights": values[6], "next_sentence_weights": values[7]}

    return untuned(tf.data.Dataset.range(min(skip, steps), steps).map(batch).prefetch(4))


def held_out_batches(corpus: TokenCorpus, encoder: TextEncoder, **settings) -> tf.data.Dataset:
    """`pretraining_batches` that are the same every time, to compare scores: seed and epoch are fixed."""
    return pretraining_batches(corpus, encoder, seed=0, epoch=0, **settings)


def _assemble(
    corpus: TokenCorpus,
    examples: Examples,
    numbers: np.ndarray,
    length: int,
    objective: str,
    encoder: TextEncoder,
    pieces: masking.Pieces,
    whole_words: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """[CLS] A [SEP] B [SEP] [PAD]... of some examples.

    Returns:
        token_ids, segment_ids, padding_mask int32, text bool (false for special tokens), begins_word bool or None,
        each [numbers, length].
    """
    a_starts, b_starts = (column[numbers].astype(np.int64) for column in (examples.a_starts, examples.b_starts))
    a_lengths, b_lengths = (column[numbers].astype(np.int64) for column in (examples.a_lengths, examples.b_lengths))
    rows, column = np.arange(len(numbers)), np.arange(length)
    separators = np.zeros((len(numbers), length), bool)
    first_end = a_lengths + 1  # column of the [SEP] after A
    if objective == "none":
        bounds, row = _inner_documents(corpus, a_starts, a_lengths)
        before = np.arange(len(row)) - np.searchsorted(row, row)  # [SEP] in the row already
        separators[row, 1 + bounds - a_starts[row] + before] = True
        first_end += np.bincount(row, minlength=len(numbers))
    separators[rows, first_end] = True
    last = first_end + np.where(b_lengths > 0, b_lengths + 1, 0)
    separators[rows, last] = True
    padding_mask = column <= last[:, np.newaxis]
    text = padding_mask & ~separators
    text[:, 0] = False
    spans = np.stack([a_starts, b_starts], axis=1).ravel(), np.stack([a_lengths, b_lengths], axis=1).ravel()
    token_ids = np.full((len(numbers), length), encoder.pad_id, np.int32)
    token_ids[:, 0] = encoder.cls_id
    token_ids[separators] = encoder.sep_id
    token_ids[text] = corpus.read(*spans)
    segment_ids = (padding_mask & (column > first_end[:, np.newaxis])).astype(np.int32)
    begins_word = None
    if whole_words and corpus.has_words:
        begins_word = np.ones_like(text)
        begins_word[text] = corpus.read_word_starts(*spans)
    elif whole_words:
        begins_word = pieces.begins_word[token_ids]
    return token_ids, segment_ids, padding_mask.astype(np.int32), text, begins_word


def _inner_documents(corpus: TokenCorpus, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First tokens of documents that begin inside spans, and the span of each: two int64 arrays, span by span."""
    found = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    where = np.searchsorted(corpus.token_offsets, starts, side="right") - 1
    for number in np.unique(where):
        rows = np.flatnonzero(where == number)
        offset, begins = corpus.token_offsets[number], corpus.stores[number].document_tokens
        low = np.searchsorted(begins, starts[rows] - offset, side="right")
        high = np.searchsorted(begins, starts[rows] - offset + lengths[rows])
        found[0].append(begins[ranges(low, high - low)] + offset)
        found[1].append(np.repeat(rows, high - low))
    bounds, row = (np.concatenate(parts) for parts in found)
    order = np.argsort(row, kind="stable")
    return bounds[order], row[order]
