"""Rows dealt into folds, so that each is once among those that a model has not learned from."""

from dataclasses import replace

import numpy as np

from pipeline.data.apart import group_keys
from pipeline.data.extra_columns import GROUP
from pipeline.data.split import Split, mixed


def fold_numbers(split: Split, folds: int, seed: int) -> np.ndarray:
    """int [n], the fold of each row, from 0: of each stratum (label) every fold gets its share, equal texts are in
    one, and so are the rows of a group (data.group_column), with what either is together with.

    The order in which rows are dealt is a hash of text and seed, so neither row order nor library versions matter.
    Groups are dealt by their rows, so that folds are of like size as far as the groups allow it; the first fold is the
    one that is nearest to its share.
    """
    return (_by_groups if GROUP in split.store.columns else _by_texts)(split, folds, seed)


def inner_fold_numbers(split: Split, folds: int, seed: int) -> np.ndarray:
    """As `fold_numbers`; where all rows are of one group, which may be what another fold leaves, by their texts
    alone. One number where they also have one text."""
    found = fold_numbers(split, folds, seed)
    if GROUP in split.store.columns and len(np.unique(found)) < 2:
        return _by_texts(split, folds, seed)
    return found


def _by_texts(split: Split, folds: int, seed: int) -> np.ndarray:
    """int [n], the fold of each row: texts one after the other over all strata, so that rare labels do not all begin
    with the first fold."""
    keys, first, group = np.unique(split.hashes(), return_index=True, return_inverse=True)
    strata, draw = split.strata()[first], mixed(keys, seed + 1)
    dealt = np.empty(len(keys), np.int64)
    dealt[np.lexsort((draw, strata))] = np.arange(len(keys)) % folds
    return dealt[group]


def _by_groups(split: Split, folds: int, seed: int) -> np.ndarray:
    """int [n], the fold of each row: groups, the largest first, each to the fold that has the least of its labels and
    of all rows."""
    keys, group, sizes = np.unique(_joined(group_keys(split), split.hashes()), return_inverse=True, return_counts=True)
    _, stratum, totals = np.unique(split.strata(), return_inverse=True, return_counts=True)
    # How many rows of which strata each group has, one group after the other.
    pairs, counts = np.unique(group * len(totals) + stratum, return_counts=True)
    strata, bounds = pairs % len(totals), np.searchsorted(pairs, np.arange(len(keys) + 1) * len(totals))
    dealt, of_strata, rows = np.empty(len(keys), np.int64), np.zeros((folds, len(totals))), np.zeros(folds)
    for number in np.lexsort((mixed(keys, seed + 1), -sizes)):
        own = slice(bounds[number], bounds[number + 1])
        labels, of_group = strata[own], counts[own]
        # By which shares of labels that belong together would grow, and rows.
        crowded = of_strata[:, labels] @ (of_group / totals[labels]) + rows * (sizes[number] / len(split))
        fold = dealt[number] = np.lexsort((rows, crowded))[0]
        of_strata[fold, labels] += of_group
        rows[fold] += sizes[number]
    # A fold without rows, of which there may be some, cannot be asked about.
    nearest_first = np.lexsort((np.abs(rows - len(split) / folds), rows == 0))
    return np.argsort(nearest_first)[dealt][group]


def _joined(groups: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """uint64 [n], equal for rows that are together by their group or their text, or through other rows: the smallest
    key of their groups, both given as uint64 [n]."""
    # Slow to import, and not needed at the start.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, group = np.unique(groups, return_inverse=True)
    different, text = np.unique(texts, return_inverse=True)
    size = len(names) + len(different)
    links = coo_array((np.ones(len(group)), (group, len(names) + text)), shape=(size, size))
    number, together = connected_components(links, directed=False)
    smallest = np.full(number, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest, together[: len(names)], names)
    return smallest[together[group]]


def part(split: Split, chosen: np.ndarray) -> Split:
    """The rows of a split where `chosen`, bool [n], is true."""
    return replace(split, rows=split.rows[chosen])
