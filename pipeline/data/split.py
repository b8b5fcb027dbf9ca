"""Splits: rows of a store, and rows split off by target, with equal texts together, the same on every machine."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pipeline.data.extra_columns import LANGUAGE, WEIGHT
from pipeline.data.sampling import draw, quotas
from pipeline.data.store import Store
from pipeline.errors import UserError
from pipeline.tasks.targets import Targets
from pipeline.tasks.task import Task


@dataclass
class Split:
    """Some rows of a store.

    Attributes:
        name: "train", "validation" or "test".
        store: the converted source.
        rows: int64 [n], which rows of the store.
        of_store: the targets of all its rows.
        temperature: data.language_temperature; 1: an epoch has each row once.
    """

    name: str
    store: Store
    rows: np.ndarray
    of_store: Targets
    temperature: float = 1.0

    def __len__(self) -> int:
        return len(self.rows)

    def cells(self, indices: np.ndarray | slice) -> tuple[np.ndarray, ...]:
        """What a model reads: the texts, then the columns beside them, each an object array of UTF-8 bytes."""
        return self.store.cells(self.rows[indices])

    def texts(self, indices: np.ndarray | slice) -> tuple[np.ndarray, ...]:
        """One object array of UTF-8 bytes a text column."""
        return self.store.texts(self.rows[indices])

    def beside(self) -> Iterator[np.ndarray]:
        """The columns beside the texts, of all rows: one object array of UTF-8 bytes after the other."""
        return self.store.beside(self.rows)

    def targets(self, indices: np.ndarray | slice = slice(None)) -> np.ndarray:
        """What is to be predicted, as the task gives it: [n] or [n, C]; by default of all rows."""
        return self.of_store.values(self.rows[indices])

    def extra(self, role: str) -> np.ndarray:
        """A column beside text and target, [n]: numbers, or codes of the names in store.columns[role]."""
        return np.asarray(self.store.extra[role])[self.rows]

    @cached_property
    def weights(self) -> np.ndarray | None:
        """float32 [n], in units of the mean of the source's rows, so that none is too large for the dtype; None: there
        are none."""
        if WEIGHT not in self.store.columns:
            return None
        of_store = np.asarray(self.store.extra[WEIGHT])
        # First to at most 1: the sum of large weights may be more than float64 holds.
        of_store = of_store / (of_store.max() or 1.0)
        return (of_store[self.rows] / (of_store.mean() or 1.0)).astype(np.float32)

    def epoch_order(self, chance: np.random.Generator) -> np.ndarray:
        """int64 [n]: which of the rows an epoch has, in its order; `chance` and the rows alone decide it."""
        if self.temperature == 1:
            return chance.permutation(len(self))
        languages = self.extra(LANGUAGE)
        return draw(languages, quotas(np.bincount(languages), self.temperature), chance)

    def training_targets(self, task: Task, indices: np.ndarray | slice) -> np.ndarray:
        """float32 [n, outputs], as the task's loss takes them: probabilities, where the data has them."""
        soft = self.of_store.probabilities(self.rows[indices])
        return task.training_targets(self.targets(indices)) if soft is None else soft

    def strata(self) -> np.ndarray:
        """int [n]; a split takes its share of the rows of each value."""
        return self.of_store.strata(self.rows)

    def hashes(self) -> np.ndarray:
        """uint64 [n], equal for equal texts."""
        return np.asarray(self.store.hashes)[self.rows]


def split_off(split: Split, name: str, fraction: float, seed: int) -> tuple[Split, Split]:
    """Take about `fraction` of the rows of each stratum (label) away, at random.

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
    strata = split.strata()[first]
    chance = mixed(hashes, seed)
    taken = np.zeros(len(hashes), bool)
    order = np.lexsort((chance, strata))
    bounds = np.flatnonzero(np.diff(strata[order])) + 1
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


def mixed(values: np.ndarray, seed: int) -> np.ndarray:
    """uint64 [n], a random order of uint64 values that they and the seed decide."""
    return _mix(values ^ _mix(np.array([(seed + 1) % 2**64], np.uint64)))


def _mix(values: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele, Lea and Flood, 2014): a well-mixed 64-bit hash of 64 bits."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))
