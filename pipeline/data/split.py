"""Splitting rows off: by label, with equal texts kept together, the same on every machine."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.data.load import Split


def split_off(split: "Split", name: str, fraction: float, seed: int) -> tuple["Split", "Split"]:
    """Take about `fraction` of the rows of each label away, at random.

    Rows of equal text go to the same side, so that no text of the one is in the other; the order that chooses is a
    hash of text and seed, so neither row order nor library versions matter. With several labels a row the first counts.
    A label keeps at least one text on the left side. What rounding leaves out for one label is given to the next, so
    that many rare labels still add up to `fraction`.

    Returns:
        (what is left, what was taken).

    Raises:
        UserError: `fraction` is less than one row, or no text can be spared.
    """
    hashes, first, group, sizes = np.unique(split.hashes(), return_index=True, return_inverse=True, return_counts=True)
    labels = split.first_labels()[first]
    draw = _mix(hashes ^ _mix(np.array([(seed + 1) % 2**64], np.uint64)))
    taken = np.zeros(len(hashes), bool)
    order = np.lexsort((draw, labels))
    bounds = np.flatnonzero(np.diff(labels[order])) + 1
    left_out = 0.0
    for groups in np.split(order, bounds):
        wanted = fraction * sizes[groups].sum() + left_out
        # A group is taken when at least half of it still fits.
        count = int(((np.cumsum(sizes[groups]) - sizes[groups] / 2) <= wanted).sum())
        chosen = groups[: min(count, len(groups) - 1)]
        taken[chosen] = True
        # Bounded: labels that can spare nothing must not make one later label pay for all of them.
        left_out = min(max(wanted - sizes[chosen].sum(), -0.5), 0.5)
    if not taken.any():
        raise UserError(
            f"{len(split)} training rows with {len(hashes)} different texts are too few to split off {name} rows: "
            f"set data.{name}, a larger data.{name}_fraction, or 0 for none."
        )
    mask = taken[group]
    return replace(split, rows=split.rows[~mask]), replace(split, name=name, rows=split.rows[mask])


def _mix(values: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele, Lea and Flood, 2014): a well-mixed 64-bit hash of 64 bits."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))
