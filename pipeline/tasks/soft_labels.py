"""Probabilities of labels as targets, such as the votes of several annotators: a column for each label."""

import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.tasks.label_cells import LabelReader, label_of

if TYPE_CHECKING:
    from pipeline.data.config import DataConfig

SOFT = "soft"
"""Array of a store whose source has a column for each label: float32 [rows * C], their probabilities."""
_YES, _NO = ("true", "yes"), ("false", "no", "", "nan")


class SoftLabels(list[str]):
    """The labels that a row has when each is decided, with the probabilities of all."""

    def __init__(self, labels: Sequence[str], probabilities: Sequence[float]):
        super().__init__(labels)
        self.probabilities = list(probabilities)

    def __repr__(self) -> str:
        """With the probabilities where they say more than the labels: a store's digest is made of it."""
        plain = all(value in (0.0, 1.0) for value in self.probabilities)
        return super().__repr__() if plain else f"{super().__repr__()}{self.probabilities}"


class ColumnReader(LabelReader):
    """One column for each label: zeros and ones, or probabilities."""

    @property
    def dtypes(self) -> dict[str, type]:
        return super().dtypes | {SOFT: np.float32}

    @property
    def names(self) -> list[str]:
        return self.data.label_columns or []

    def __init__(self, data: "DataConfig", one: bool = False):
        """`one`: whether the columns are of one label a row, whose probabilities add up to 1."""
        super().__init__(data)
        self.one = one

    def read(self, cells: Sequence[Any]) -> SoftLabels:
        shares = [_share(cell, name) for name, cell in zip(self.names, cells, strict=True)]
        if not self.one:
            return SoftLabels(sorted(n for n, share in zip(self.names, shares, strict=True) if share >= 0.5), shares)
        if abs(sum(shares) - 1) > 0.02:
            raise ValueError(
                f"has in data.label_columns no probabilities that add up to 1: they add up to {sum(shares):g}"
            )
        # The first of equally probable ones, as the model decides.
        return SoftLabels([self.names[int(np.argmax(shares))]], [share / sum(shares) for share in shares])

    def add(self, target: SoftLabels, arrays: dict[str, list]) -> None:
        super().add(target, arrays)
        arrays[SOFT] += target.probabilities

    def summary(self) -> dict[str, Any]:
        # A label that no row has is a label all the same.
        for name in self.names:
            self.ids.setdefault(name, len(self.ids))
        return {"labels": list(self.ids), "columns": list(self.names)}


def _share(cell: Any, name: str) -> float:
    """The probability that a cell holds; 0 where it is empty or NaN."""
    number = isinstance(cell, numbers.Real) and not isinstance(cell, (bool, np.bool_))
    text = f"{float(cell):g}" if number else label_of(cell).lower()
    if text in (*_YES, *_NO):
        return float(text in _YES)
    try:
        value = float(cell) if number else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(
            f"has {text!r} in the column {name!r} of data.label_columns, where 0 or 1 is expected, or between"
        )
    return value
