"""Rows dealt into folds, so that each is once among those that a model has not learned from."""

from dataclasses import replace

import numpy as np

from pipeline.data.split import Split, mix


def fold_numbers(split: Split, folds: int, seed: int) -> np.ndarray:
    """int [n], the fold of each row, from 0: of each stratum (label) every fold gets its share, equal texts are in one.

    The order in which rows are dealt is a hash of text and seed, so neither row order nor library versions matter.
    """
    hashes, first, group = np.unique(split.hashes(), return_index=True, return_inverse=True)
    strata = split.strata()[first]
    draw = mix(hashes ^ mix(np.array([(seed + 2) % 2**64], np.uint64)))
    # One after the other over all strata, so that rare labels do not all begin with the first fold.
    dealt = np.empty(len(hashes), np.int64)
    dealt[np.lexsort((draw, strata))] = np.arange(len(hashes)) % folds
    return dealt[group]


def part(split: Split, chosen: np.ndarray) -> Split:
    """The rows of a split where `chosen`, bool [n], is true."""
    return replace(split, rows=split.rows[chosen])
