"""Splitting rows off: by label, with equal texts kept together, the same on every machine."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pipeline.data.load import Split


def split_off(split: "Split", name: str, fraction: float, seed: int) -> tuple["Split", "Split"]:
    """Take about `fraction` of the rows of each label away, at random.

    Rows of equal text go to the same side, so that no text of the one is in the other; the order that chooses is a
    hash of text and seed, so neither row order nor library versions matter. With several labels a row the first counts.
    A label keeps at least one text on the left side.

    Returns:
        (what is left, what was taken).
    """
    hashes, first, group, sizes = np.unique(split.hashes(), return_index=True, return_inverse=True, return_counts=True)
    single = isinstance(split.targets, np.ndarray)
    labels = split.targets if single else np.array([row[0] if len(row) else -1 for row in split.targets], np.int32)
    draw = _mix(hashes ^ _mix(np.array([seed + 1], np.uint64)))
    taken = np.zeros(len(hashes), bool)
    for label in np.unique(labels):
        groups = np.flatnonzero(labels[first] == label)
        groups = groups[np.argsort(draw[groups])]
        wanted = fraction * sizes[groups].sum()
        # A group is taken when at least half of it still fits.
        chosen = groups[(np.cumsum(sizes[groups]) - sizes[groups] / 2) <= wanted]
        taken[chosen[: len(groups) - 1]] = True
    mask = taken[group]
    return _choose(split, split.name, ~mask), _choose(split, name, mask)


def _choose(split: "Split", name: str, mask: np.ndarray) -> "Split":
    chosen = np.flatnonzero(mask)
    single = isinstance(split.targets, np.ndarray)
    targets = split.targets[chosen] if single else [split.targets[i] for i in chosen]
    return replace(split, name=name, rows=split.rows[chosen], targets=targets)


def _mix(values: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele, Lea and Flood, 2014): a well-mixed 64-bit hash of 64 bits."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))
