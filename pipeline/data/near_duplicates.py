"""Documents that are nearly the same, by MinHash; arrays to arrays, without TensorFlow.

Documents are alike by the share of their shingles (five words one after the other) that they have in common: Jaccard's
index. HASHES hash functions each keep the smallest value of a document's shingles, and two documents have the same with
the probability of that share (Broder, On the resemblance and containment of documents, 1997). Only documents that agree
in all values of one of BANDS bands are compared: with 16 bands of 8, 95 % of those of 0.8, and 6 % of those of 0.5.
"""

import re
from functools import lru_cache
from hashlib import blake2b

import numpy as np

SHINGLE, HASHES, BANDS, ALIKE = 5, 128, 16, 0.8
# Writing without spaces: each ideograph is a word.
_WORD = re.compile("[\u3040-\u30ff\u3400-\u9fff]|[^\\W_\u3040-\u30ff\u3400-\u9fff]+")
_RANDOM = np.random.default_rng(2024)
_FACTORS, _TERMS = (_RANDOM.integers(0, 2**63, HASHES, np.uint64) | np.uint64(1) for _ in range(2))
_PLACES = _RANDOM.integers(0, 2**63, max(SHINGLE, HASHES // BANDS), np.uint64) | np.uint64(1)
# Shingles hashed at a time, and pairs compared at a time.
_SHINGLES, _PAIRS = 4096, 1 << 16


def signature(text: str) -> np.ndarray | None:
    """The smallest value of each hash function: uint32 [HASHES]; None: there is no word in the text."""
    shingles = _shingles(text)
    if not len(shingles):
        return None
    found = np.full(HASHES, 2**32 - 1, np.uint64)
    for start in range(0, len(shingles), _SHINGLES):
        values = (shingles[start : start + _SHINGLES, None] * _FACTORS + _TERMS) >> np.uint64(32)
        found = np.minimum(found, values.min(axis=0))
    return found.astype(np.uint32)


def near_duplicates(signatures: np.ndarray) -> np.ndarray:
    """Which documents are nearly the same as an earlier one, which stays: bool [n].

    A document is compared, in each band, with the first that has its values there; of several that are alike in turn,
    a to b and b to c, the first stays.

    Args:
        signatures: uint32 [n, HASHES], in the order of the documents.
    """
    rows = HASHES // BANDS
    left_out = np.zeros(len(signatures), bool)
    for start in range(0, HASHES, rows):
        band = _mixed(signatures[:, start : start + rows].astype(np.uint64) @ _PLACES[:rows])
        _, first, group = np.unique(band, return_index=True, return_inverse=True)
        earlier = first[group]
        later = np.flatnonzero((earlier != np.arange(len(band))) & ~left_out)
        for begin in range(0, len(later), _PAIRS):
            some = later[begin : begin + _PAIRS]
            equal = (signatures[some] == signatures[earlier[some]]).mean(axis=1)
            left_out[some[equal >= ALIKE]] = True
    return left_out


def _shingles(text: str) -> np.ndarray:
    """uint64, each once; a text of fewer words is one shingle."""
    words = np.array([_hashed(word) for word in _WORD.findall(text.lower())], np.uint64)
    size = min(SHINGLE, len(words))
    if not size:
        return words
    windows = np.lib.stride_tricks.sliding_window_view(words, size)
    return np.unique(_mixed((windows * _PLACES[:size]).sum(axis=1, dtype=np.uint64)))


@lru_cache(1 << 20)
def _hashed(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def _mixed(values: np.ndarray) -> np.ndarray:
    """Each bit of the result depends on all of the value (the end of MurmurHash3)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        values = (values ^ (values >> np.uint64(33))) * np.uint64(factor)
    return values ^ (values >> np.uint64(33))
