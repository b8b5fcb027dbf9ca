"""Splits that keep groups (authors, patients, documents) on one side, or the newest rows for the test."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pipeline.data.extra_columns import GROUP, TIME
from pipeline.data.split import Split, mixed, split_off
from pipeline.errors import UserError

Splitter = Callable[[Split, str, float, int], tuple[Split, Split]]
"""From rows, the name of what is split off, its share and a seed to (what is left, what was taken)."""


def splitter(split: Split) -> Splitter:
    """How rows are split off: by the column that the data section names for it, else as they come."""
    columns = split.store.columns
    return split_by_group if GROUP in columns else split_by_time if TIME in columns else split_off


def split_by_group(split: Split, name: str, fraction: float, seed: int) -> tuple[Split, Split]:
    """Take about `fraction` of the rows of each stratum (label) away, at random, in whole groups.

    A group is taken if that brings all rows and those of its labels nearer to what is wanted, and leaves a row of each
    label. Names of groups and seed decide the order in which they are asked, those of each label evenly spread; a row
    without a group is in one with equal texts.

    Returns:
        (what is left, what was taken).

    Raises:
        UserError: no group can be spared.
    """
    keys, group = np.unique(group_keys(split), return_inverse=True)
    _, stratum, totals = np.unique(split.strata(), return_inverse=True, return_counts=True)
    # How many rows of which strata each group has, one group after the other.
    pairs, counts = np.unique(group * len(totals) + stratum, return_counts=True)
    strata = pairs % len(totals)
    bounds = np.searchsorted(pairs, np.arange(len(keys) + 1) * len(totals))
    wanted, taken = fraction * totals, np.zeros(len(totals))
    chosen = np.zeros(len(keys), bool)
    for number in _spread(mixed(keys, seed), strata, counts, bounds):
        own = slice(bounds[number], bounds[number + 1])
        labels, rows = strata[own], counts[own]
        off = taken[labels] - wanted[labels]
        nearer = ((rows**2 + 2 * rows * off) / totals[labels]).sum() <= 0
        nearer = nearer and taken.sum() + rows.sum() / 2 <= wanted.sum()
        if nearer and (taken[labels] + rows < totals[labels]).all():
            chosen[number] = True
            taken[labels] += rows
    if not chosen.any():
        raise UserError(
            f"data.group_column {split.store.columns[GROUP].column!r} has {len(keys)} groups in {len(split)} training "
            f"rows, of which none is small enough to split off {fraction:.1%} as {name} rows: set data.{name}, a "
            f"larger data.{name}_fraction, or 0 for none."
        )
    return _divided(split, name, chosen[group])


def _spread(chance: np.ndarray, strata: np.ndarray, counts: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """int64 [groups]: an order in which the first part of the groups has that part of the rows of each stratum, about.

    Args:
        chance: uint64 [groups], decides the order within a stratum.
        strata, counts: int, the strata of all groups and their rows in them, one group after the other.
        bounds: int [groups + 1], where each group begins and ends in these.
    """
    groups = np.repeat(np.arange(len(chance)), np.diff(bounds))
    largest_first = np.lexsort((-counts, groups))
    main = strata[largest_first[bounds[:-1]]]
    sizes = np.add.reduceat(counts, bounds[:-1])
    place = np.zeros(len(chance))
    order = np.lexsort((chance, main))
    for own in np.split(order, np.flatnonzero(np.diff(main[order])) + 1):
        place[own] = (np.cumsum(sizes[own]) - sizes[own] / 2) / sizes[own].sum()
    return np.lexsort((chance, place))


def group_keys(split: Split) -> np.ndarray:
    """uint64 [n], equal for rows of one group; of rows without a group, for equal texts."""
    names = split.store.columns[GROUP].names
    hashes = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    keys = np.array([int.from_bytes(found, "little") for found in hashes], np.uint64)
    codes = split.extra(GROUP)
    nameless = np.array([not name for name in names], bool)[codes]
    return np.where(nameless, split.hashes(), keys[codes])


def split_by_time(split: Split, name: str, fraction: float, seed: int) -> tuple[Split, Split]:
    """Take about the newest `fraction` of the rows away; rows of one time stay together.

    Returns:
        (what is left, what was taken), every row of the one older than every row of the other.

    Raises:
        UserError: all rows have one time.
    """
    times = split.extra(TIME)
    values, counts = np.unique(times, return_counts=True)
    column = split.store.columns[TIME]
    if len(values) < 2:
        raise UserError(
            f"data.time_column {column.column!r}: all {len(split)} training rows that are left have the time "
            f"{column.shown(values[0])}, so no {name} rows can be split off: set data.{name}, or "
            f"data.{name}_fraction to 0."
        )
    newer = np.cumsum(counts[::-1])[:-1]
    cut = int(np.abs(newer - fraction * len(split)).argmin())
    return _divided(split, name, times >= values[::-1][cut])


def _divided(split: Split, name: str, taken: np.ndarray) -> tuple[Split, Split]:
    return replace(split, rows=split.rows[~taken]), replace(split, name=name, rows=split.rows[taken])


def apart_reason(split: Split) -> str | None:
    """Why a split may be of another size than asked for; None: by nothing here."""
    columns = split.store.columns
    if GROUP in columns:
        return f"rows of one {columns[GROUP].column!r} stay together, and each label keeps a row to train on"
    return f"rows of one {columns[TIME].column!r} stay together" if TIME in columns else None


def apart_warnings(splits: list[Split]) -> list[str]:
    """Sentences on groups that two splits share, and on rows that are not newer than what was trained on; the first
    split is the training rows'."""
    found = []
    for number, split in enumerate(splits):
        if GROUP in split.store.columns:
            for earlier in splits[:number]:
                found += _shared_groups(earlier, split)
        if TIME in split.store.columns and number:
            found += _not_newer(splits[0], split)
    return found


def _shared_groups(one: Split, other: Split) -> list[str]:
    names = [set(_names(split)) for split in (one, other)]
    shared = names[0] & names[1]
    if not shared:
        return []
    column = other.store.columns[GROUP]
    codes = [code for code, name in enumerate(column.names) if name in shared]
    rows = int(np.isin(other.extra(GROUP), codes).sum())
    return [
        f"{len(shared)} of {len(names[1])} groups of data.group_column {column.column!r} in {other.name} are also in "
        f"{one.name}, with {rows} of {len(other)} {other.name} rows: the {other.name} score may be too good by as much."
    ]


def _names(split: Split) -> list[str]:
    """Of the groups that its rows have."""
    names = split.store.columns[GROUP].names
    codes: list[int] = np.unique(split.extra(GROUP)).tolist()
    return [names[code] for code in codes if names[code]]


def _not_newer(train: Split, other: Split) -> list[str]:
    newest, column = train.extra(TIME).max(), other.store.columns[TIME]
    if train.store.columns[TIME].dated != column.dated:
        return [
            f"data.time_column {column.column!r} has dates in one of train and {other.name}, and numbers in the other."
        ]
    rows = int((other.extra(TIME) <= newest).sum())
    if not rows:
        return []
    return [
        f"{rows} of {len(other)} {other.name} rows are not newer than the newest training row ({column.shown(newest)}, "
        f"data.time_column {column.column!r}): the {other.name} score does not tell how well the model does on rows to "
        "come."
    ]
