"""One feature of many rows as counts in bins: enough to compare rows with others, and nothing of a single row.

A number's bins end at quantiles of the rows that the sketch is of (2, 5, 10, 20, ... 90, 95, 98 %), each half-way to
the next value that occurs; a value that more than 5 % of the rows have has a bin of its own. Behind them is a bin for
missing values. Numbers are compared to four digits, as many as every file of answers has. A name has a bin for itself,
and behind the known names there is one for all others.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np

QUANTILES = (0.02, 0.05, *np.arange(1, 10) / 10, 0.95, 0.98)
OWN_BIN = 0.05
DIGITS = 4


@dataclass(frozen=True)
class Sketch:
    """A feature and the counts of the reference's rows.

    Attributes:
        name: of the feature.
        counts: rows in each bin.
        edges: between the bins of a number, ascending.
        names: of the bins of a name; none: it is a number.
        decimals: that a number is rounded to.
        mean: of a number's values that are not missing; 0: there are none.
    """

    name: str
    counts: tuple[int, ...]
    edges: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    decimals: int = DIGITS
    mean: float = 0.0

    @classmethod
    def of_numbers(cls, name: str, values: np.ndarray) -> Self:
        """Of float values [n]; NaN is missing."""
        known = values[np.isfinite(values)]
        largest = float(np.abs(known).max(initial=0))
        decimals = DIGITS - 1 - math.floor(math.log10(largest)) if largest else DIGITS
        different, counts = np.unique(np.round(known, decimals), return_counts=True)
        sketch = cls(
            name, (), _edges(different, counts, decimals), (), decimals, float(known.mean()) if len(known) else 0.0
        )
        return sketch.with_counts(sketch.bins(values))

    @classmethod
    def of_names(cls, name: str, values: np.ndarray, names: Sequence[str]) -> Self:
        """Of numbers of names, int [n]; what is outside of `names` is another name."""
        sketch = cls(name, (), names=tuple(names))
        return sketch.with_counts(sketch.bins(values))

    @classmethod
    def read(cls, content: dict[str, Any]) -> Self:
        """The inverse of `asdict`.

        Raises:
            ValueError, TypeError: it is no sketch.
        """
        lists = {key: tuple(content[key]) for key in ("counts", "edges", "names")}
        sketch = cls(**{**content, **lists})
        if len(sketch.counts) != sketch.size or min(sketch.counts) < 0 or not sum(sketch.counts):
            raise ValueError(f"{sketch.name!r} has {len(sketch.counts)} counts for {sketch.size} bins, or no rows")
        return sketch

    def metadata(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @property
    def numeric(self) -> bool:
        """Whether it is of numbers, whose bins have an order."""
        return not self.names

    @property
    def size(self) -> int:
        """Bins, the last one included."""
        return len(self.names) + 1 if self.names else len(self.edges) + 2

    def with_counts(self, bins: np.ndarray) -> Self:
        """The same bins with the counts of rows."""
        counts = np.bincount(bins, minlength=self.size).tolist()
        return type(self)(**{**vars(self), "counts": tuple(counts)})

    def bins(self, values: np.ndarray) -> np.ndarray:
        """int64 [n], the bin of each of n values: floats, or numbers of names."""
        if self.names:
            return np.where((values >= 0) & (values < len(self.names)), values, len(self.names)).astype(np.int64)
        found = np.searchsorted(self.edges, np.round(values, self.decimals), side="right")
        found[~np.isfinite(values)] = self.size - 1
        return found

    def bin_names(self) -> list[str]:
        """What to call each bin."""
        if self.names:
            return [*self.names, "other"]
        shown = [f"{edge:.4g}" for edge in self.edges]
        between = [f"{low} to {high}" for low, high in pairwise(shown)]
        return [*([f"below {shown[0]}", *between, f"above {shown[-1]}"] if shown else ["any"]), "missing"]


def _edges(values: np.ndarray, counts: np.ndarray, decimals: int) -> tuple[float, ...]:
    """Half-way between neighbours of different values, ascending."""
    if len(values) < 2:
        # Whatever differs from the only value can be told from it.
        half = 0.5 * 10.0**-decimals
        return tuple(edge for value in values.tolist() for edge in (value - half, value + half))
    below = np.cumsum(counts) / counts.sum()
    places = np.searchsorted(below, QUANTILES, side="left")
    own = np.flatnonzero(counts > OWN_BIN * counts.sum())
    wanted = np.unique(np.concatenate([places, own, own - 1]))
    wanted = wanted[(wanted >= 0) & (wanted < len(values) - 1)]
    return tuple(((values[wanted] + values[wanted + 1]) / 2).tolist())
