"""Batches for masked-LM and sentence-pair pre-training, each computed from its number alone."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import tensorflow as tf

from pipeline.data.batching import LENGTH_MULTIPLE, steps_per_epoch
from pipeline.data.untuned import unconverted, untuned
from pipeline.errors import UserError
from pipeline.pretraining import masking
from pipeline.pretraining.plan import NO_PAIR, OTHER, Examples, Objective, plan
from pipeline.pretraining.tokens import TokenCorpus, ranges, vocabulary_digest
from pipeline.text import TextEncoder

# The intervals between two evaluations share the plan of their pass over the corpus.
_plan = lru_cache(maxsize=2)(plan)


@dataclass(frozen=True)
class ExampleSettings:
    """What the batches of pre-training are made of."""

    batch_size: int
    """Rows a batch, over all workers. Every batch has exactly this many."""
    sequence_length: int
    """Columns, with [CLS] and [SEP]."""
    max_predictions: int
    """Slots for masked tokens a row."""
    objective: Objective = "nsp"
    """"nsp", "sop" or "none", see `plan`."""
    masked_share: float = 0.15
    """Share of the tokens to predict."""
    whole_words: bool = False
    """Predict all tokens of a word; words are the splitter's where the corpus was prepared with one."""
    short_share: float = 0.1
    """See `plan`."""
    fixed_length: bool = True
    """All batches have sequence_length columns; else as many as the longest row of the slice needs."""


def pretraining_batches(
    corpus: TokenCorpus,
    encoder: TextEncoder,
    settings: ExampleSettings,
    *,
    seed: int,
    epoch: int,
    skip: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """One epoch of batches in an order decided by `seed` and `epoch`.

    Each batch is made from its number alone: `skip` costs nothing, and a resumed run sees the batches that it would
    have seen. The number of batches differs a little from epoch to epoch; `len` of the dataset tells it.

    Args:
        corpus: prepared.
        encoder: the one whose tokens these are; its vocabulary tells special tokens and continuations (##).
        settings, seed, epoch: decide the examples, and everything that is random.
        skip: leave out this many batches at the start.
        shard: (index, count): the index-th of `count` equal slices of each batch, one for each worker.

    Returns:
        A dataset of (inputs, targets, weights), dicts of tensors whose rows are batch_size / count:
        inputs: token_ids, segment_ids, padding_mask int32 [rows, length];
        masked_positions int32 [rows, max_predictions];
        targets: masked_ids int32 [rows, max_predictions]; next_sentence int32 [rows] (0: B follows A, 1: it does not);
        weights: masked_weights float32 [rows, max_predictions], 0 in unused slots; next_sentence_weights float32
        [rows], 0 on rows without a pair. Both are 0 on rows that only fill the last batch.

    Raises:
        UserError: see `plan`; the tokens are of another vocabulary; settings that are out of range.
    """
    _check(corpus, encoder, settings, shard)
    (index, count), length = shard, settings.sequence_length
    examples = _plan(corpus, length, settings.objective, seed, epoch, settings.short_share)
    steps, rows = steps_per_epoch(len(examples), settings.batch_size), settings.batch_size // count
    vocabulary = masking.VocabularyMasks.of(encoder.vocabulary)

    def build(step: np.ndarray) -> tuple:
        first = int(step) * settings.batch_size + index * rows
        numbers = np.arange(first, first + rows)
        real = numbers < len(examples)
        token_ids, segment_ids, padding_mask, text, begins_word = _assemble(
            corpus, encoder, settings, examples, numbers % len(examples), vocabulary
        )
        draws = masking.draws(seed, epoch, first, rows, length)
        token_ids, positions, ids, weights = masking.mask(
            token_ids, text, begins_word, draws, vocabulary, settings.masked_share, settings.max_predictions
        )
        labels = examples.labels[numbers % len(examples)]
        paired = (real & (labels != NO_PAIR)).astype(np.float32)
        if not settings.fixed_length:
            longest = -(-padding_mask.sum(axis=1).max() // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
            token_ids, segment_ids, padding_mask = (x[:, :longest] for x in (token_ids, segment_ids, padding_mask))
        inputs = token_ids, segment_ids, padding_mask, positions
        return *inputs, ids, (labels == OTHER).astype(np.int32), weights * real[:, np.newaxis], paired

    numbers = tf.data.Dataset.range(min(skip, steps), steps)
    return untuned(numbers.map(partial(_tensors, build, settings, rows)).prefetch(4))


def held_out_batches(corpus: TokenCorpus, encoder: TextEncoder, settings: ExampleSettings) -> tf.data.Dataset:
    """`pretraining_batches` that are the same every time, to compare scores: seed and epoch are fixed."""
    return pretraining_batches(corpus, encoder, settings, seed=0, epoch=0)


def _check(corpus: TokenCorpus, encoder: TextEncoder, settings: ExampleSettings, shard: tuple[int, int]) -> None:
    index, count = shard
    if corpus.vocabulary != vocabulary_digest(encoder):
        raise UserError("The corpus was prepared with another vocabulary or letter case: prepare it with this one.")
    if not 0 <= index < count or settings.batch_size % count:
        raise UserError(f"A batch of {settings.batch_size} rows has no {index}-th of {count} equal slices.")
    if not 0 < settings.masked_share < 1 or settings.max_predictions < 1:
        raise UserError(
            f"masked_share {settings.masked_share} must be between 0 and 1, "
            f"max_predictions {settings.max_predictions} above 0."
        )


@unconverted
def _tensors(build: Callable, settings: ExampleSettings, rows: int, step: tf.Tensor) -> tuple:
    """What `build` makes of the number of a batch, as an element of the dataset."""
    kinds = (tf.int32,) * 6 + (tf.float32,) * 2
    values = tf.numpy_function(build, [step], kinds, stateful=False)
    wide = [rows, settings.sequence_length if settings.fixed_length else None]
    slots = [rows, settings.max_predictions]
    for value, shape in zip(values, (wide, wide, wide, slots, slots, [rows], slots, [rows]), strict=True):
        value.set_shape(shape)
    inputs = dict(zip(("token_ids", "segment_ids", "padding_mask", "masked_positions"), values[:4], strict=True))
    targets = {"masked_ids": values[4], "next_sentence": values[5]}
    return inputs, targets, {"masked_weights": values[6], "next_sentence_weights": values[7]}


def _assemble(
    corpus: TokenCorpus,
    encoder: TextEncoder,
    settings: ExampleSettings,
    examples: Examples,
    numbers: np.ndarray,
    vocabulary: masking.VocabularyMasks,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """[CLS] A [SEP] B [SEP] [PAD]... of some examples.

    Returns:
        token_ids, segment_ids, padding_mask int32, text bool (false for special tokens), begins_word bool or None,
        each [numbers, length].
    """
    a_starts, b_starts = (column[numbers].astype(np.int64) for column in (examples.a_starts, examples.b_starts))
    a_lengths, b_lengths = (column[numbers].astype(np.int64) for column in (examples.a_lengths, examples.b_lengths))
    length = settings.sequence_length
    rows, column = np.arange(len(numbers)), np.arange(length)
    separators = np.zeros((len(numbers), length), bool)
    first_end = a_lengths + 1  # column of the [SEP] after A
    if settings.objective == "none":
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
    if settings.whole_words and corpus.has_words:
        begins_word = np.ones_like(text)
        begins_word[text] = corpus.read_word_starts(*spans)
    elif settings.whole_words:
        begins_word = vocabulary.begins_word[token_ids]
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
