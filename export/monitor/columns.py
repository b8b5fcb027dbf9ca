"""Columns beside the texts as features: numbers, known categories, and of anything else whether it is there."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.features import Features
from pipeline.features.columns import KINDS, Category, Column, FeatureColumn, Number

# Of a category's names those of most rows; others share a bin with names that nobody has seen.
MOST_NAMES = 100
MISSING, GIVEN = "(missing)", "(given)"


@dataclass(frozen=True)
class WatchedColumn:
    """A column that a model reads beside its texts.

    Attributes:
        column: its name in files of rows.
        input: its name in requests.
        kind: as of pipeline.features.columns.
    """

    column: str
    input: str
    kind: str

    @property
    def feature(self) -> str:
        """Its name in a reference."""
        return f"column {self.column}"

    def read(self, cells: Iterable[Any]) -> list[str]:
        """Cells as the model's training kept them; "" where one is missing or is none of the kind."""
        wanted = FeatureColumn(self.column, next(kind for kind in KINDS if kind.kind == self.kind), "")
        return [_read(wanted, cell) for cell in cells]

    def names(self, cells: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
        """The bins of a feature that is no number.

        Args:
            cells: of `read`.
            known: names of categories that the model knows.
        """
        if self.kind != Category.kind:
            return GIVEN, MISSING
        counts = Counter(cells)
        common = sorted(set(known), key=lambda name: (-counts[name], name))[:MOST_NAMES]
        return *sorted(common), MISSING

    def values(self, cells: Sequence[str], names: Sequence[str]) -> np.ndarray:
        """Of n cells of `read` n numbers, NaN where one is missing, or n numbers of `names`, -1 of another."""
        if self.kind == Number.kind:
            return np.array([float(cell or "nan") for cell in cells])
        places = {name: place for place, name in enumerate(names)}
        if self.kind != Category.kind:
            return np.array([places[GIVEN if cell else MISSING] for cell in cells], np.int64)
        return np.array([places.get(cell or MISSING, -1) for cell in cells], np.int64)


def watched_columns(features: Features) -> list[tuple[WatchedColumn, Column]]:
    """The columns of a model, each with what its training rows said of it."""
    inputs = features.inputs[len(features.inputs) - len(features.columns) :]
    found = zip(features.columns, inputs, strict=True)
    return [(WatchedColumn(column.name, name, column.kind), column) for column, name in found]


def _read(wanted: FeatureColumn, cell: Any) -> str:
    try:
        return wanted.read(cell).decode()
    except ValueError:
        return ""
