"""Masked-LM: which tokens of a batch to predict, and what replaces them.

Everything is index arithmetic over the whole batch in numpy, on the host: on one core that was 1.4 times as fast as the
same in TensorFlow ops, and whole words need a loop over ranks besides. All randomness comes from `draws`, one number a
token, addressed by (seed, epoch, example number): what is masked in an example depends neither on the batch it is in,
nor on how many workers share the batch.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.pretraining.tokens import word_beginnings
from pipeline.tokenizer_rules import SPECIAL_TOKENS

# Shares of the chosen tokens that become [MASK] and another token; the rest stay (Devlin et al. 2018, section 3.1).
MASKED, REPLACED = 0.8, 0.1
# Philox has a counter of 256 bits; its top word keeps these streams and those of the plan apart.
DRAWS_STREAM = 1
HIGH = np.uint64(0xFFFFFFFF00000000)
NEVER = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class VocabularyMasks:
    """What masking needs to know of a vocabulary.

    Attributes:
        begins_word: bool [vocabulary], false for tokens with "##".
        ordinary: bool [vocabulary], false for the special tokens, which are never predicted.
        replacements: int32, ids a token may be replaced by: neither special nor [unusedN].
        mask_id: of [MASK].
    """

    begins_word: np.ndarray
    ordinary: np.ndarray
    replacements: np.ndarray
    mask_id: int

    @classmethod
    def of(cls, vocabulary: Sequence[str]) -> "VocabularyMasks":
        ordinary = np.array([token not in SPECIAL_TOKENS for token in vocabulary])
        used = np.array([not re.fullmatch(r"\[unused\d+\]", token) for token in vocabulary])
        replacements = np.flatnonzero(ordinary & used).astype(np.int32)
        return cls(word_beginnings(vocabulary), ordinary, replacements, list(vocabulary).index("[MASK]"))


def draws(seed: int, epoch: int, first: int, rows: int, length: int) -> np.ndarray:
    """Uniform numbers of the examples `first`, `first` + 1, ...: uint64 [rows, length], whatever else is drawn."""
    blocks = -(-length // 4)  # Philox makes four numbers from each value of its counter
    key = np.array([seed, epoch], np.uint64)
    philox = np.random.Philox(key=key, counter=np.array([first * blocks, 0, 0, DRAWS_STREAM], np.uint64))
    return philox.random_raw(rows * blocks * 4).reshape(rows, blocks * 4)[:, :length]


def mask(
    token_ids: np.ndarray,
    text: np.ndarray,
    begins_word: np.ndarray | None,
    draws: np.ndarray,
    vocabulary: VocabularyMasks,
    share: float,
    max_predictions: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Choose tokens to predict and put [MASK], another token or the same in their place.

    Of each row round(share * candidates) tokens are chosen, at least one and at most `max_predictions`, where
    candidates are tokens of text that are no special token. Whole words are taken in random order as long as they fit
    into what is left of that number (`create_masked_lm_predictions` of google-research/bert), so that a few less may
    be chosen, and none where every word is too long.

    Args:
        token_ids: int32 [rows, length].
        text: bool [rows, length], false for [CLS], [SEP] and padding.
        begins_word: bool [rows, length], for whole words; None: each token alone.
        draws: uint64 [rows, length].
        vocabulary: what masking needs to know of it.
        share: of the candidates.
        max_predictions: slots a row.

    Returns:
        token_ids int32 [rows, length]; positions int32, ids int32 and weights float32 [rows, max_predictions],
        positions in rising order; position, id and weight are 0 in slots without a prediction.
    """
    candidates = text & vocabulary.ordinary[token_ids]
    counts = candidates.sum(axis=1)
    budget = np.minimum(np.clip(np.rint(share * counts), 1, max_predictions).astype(np.int64), counts)
    # The upper half of a draw ranks, the lower half carries the column through the sort.
    keys = (draws & HIGH) | np.arange(token_ids.shape[1], dtype=np.uint64)
    if begins_word is None:
        chosen = _tokens(keys, candidates, budget, max_predictions)
    else:
        chosen = _words(keys, candidates, text, begins_word, budget)
    rows, columns = np.nonzero(chosen)
    taken = chosen.sum(axis=1)
    slots = np.arange(len(rows)) - np.repeat(np.cumsum(taken) - taken, taken)
    original = token_ids[rows, columns]
    positions = np.zeros((len(token_ids), max_predictions), np.int32)
    ids, weights = np.zeros_like(positions), np.zeros(positions.shape, np.float32)
    positions[rows, slots], ids[rows, slots], weights[rows, slots] = columns, original, 1.0

    # The lower half of the draw, which did not rank, decides what replaces the token.
    chance = (draws[rows, columns] & ~HIGH) / 2.0**32
    other = ((chance - MASKED) / REPLACED * len(vocabulary.replacements)).astype(np.int64)
    other = vocabulary.replacements[np.clip(other, 0, len(vocabulary.replacements) - 1)]
    new = np.where(chance < MASKED, vocabulary.mask_id, np.where(chance < MASKED + REPLACED, other, original))
    token_ids = token_ids.copy()
    token_ids[rows, columns] = new
    return token_ids, positions, ids, weights


def _tokens(keys: np.ndarray, candidates: np.ndarray, budget: np.ndarray, most: int) -> np.ndarray:
    """The `budget` candidates of each row with the lowest keys: bool [rows, length]."""
    keys = np.where(candidates, keys, NEVER)
    most = min(most, keys.shape[1])
    lowest = np.sort(np.partition(keys, most - 1, axis=1)[:, :most], axis=1)
    limit = lowest[np.arange(len(keys)), np.maximum(budget - 1, 0)]
    return candidates & (keys <= limit[:, np.newaxis])


def _words(
    keys: np.ndarray, candidates: np.ndarray, text: np.ndarray, begins_word: np.ndarray, budget: np.ndarray
) -> np.ndarray:
    """Candidates of words taken in the order of their first token's key, as long as they fit: bool [rows, length]."""
    rows, length = keys.shape
    # Special tokens begin "words" of their own; text after them does so too, even where truncation cut a word.
    starts = begins_word | ~text
    starts[:, 1:] |= ~text[:, :-1]
    word = np.maximum.accumulate(np.where(starts, np.arange(length), 0), axis=1)  # column where each one's word begins
    word += np.arange(rows)[:, np.newaxis] * length
    sizes = np.bincount(word[candidates], minlength=keys.size)
    order = np.sort(np.where(sizes.reshape(keys.shape) > 0, keys, NEVER), axis=1)
    words = (order != NEVER).sum(axis=1).max(initial=0)
    order = order[:, :words].T.astype(np.uint32).astype(np.int64)  # the column; one array a rank, over all rows
    real = order < length
    order = np.where(real, order, 0) + np.arange(rows) * length
    left = budget.copy()
    taken = np.zeros(keys.size, bool)
    for place, size in zip(order, np.where(real, sizes[order], length + 1), strict=True):
        fits = size <= left
        left -= np.where(fits, size, 0)
        taken[place[fits]] = True
        if not left.any():
            break
    return candidates & taken[word]
