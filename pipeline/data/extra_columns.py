"""Columns beside text and target that travel with the rows: weights, groups, times, languages.

Each is stored once, as an array named after its role; a split gives it by rows.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.cell_values import category_of, moment_of, number_of, shown

if TYPE_CHECKING:
    from pipeline.data.config import DataConfig
    from pipeline.evaluation.config import EvaluationConfig

# Before the names of their arrays in a store.
EXTRA = "extra_"
WEIGHT, GROUP, TIME, LANGUAGE = "weight", "group", "time", "language"
NO_NAME = "(none)"
"""What the rows are called whose cell is empty, where no other cell says so."""


@dataclass(frozen=True)
class ExtraColumn:
    """A column of a source, to be read beside text and target.

    Attributes:
        role: what it is for, and the name of its array.
        column: its name in the source.
        setting: that names it, for messages.
    """

    role: str
    column: str
    setting: str


@dataclass(frozen=True)
class Column:
    """A column of a store.

    Attributes:
        role, column: as in `ExtraColumn`.
        digest: changes with any of its cells.
        names: of the categories that its codes count; none for numbers. An empty cell is "".
        dated: whether numbers are seconds since 1970, UTC.
    """

    role: str
    column: str
    digest: str
    names: Sequence[str] = ()
    dated: bool = False

    def shown(self, value: float) -> str:
        """A value of a time column, for messages."""
        if not self.dated:
            return f"{value:.12g}"
        moment = datetime.fromtimestamp(value, UTC)
        return moment.date().isoformat() if moment.time() == time.min else moment.replace(tzinfo=None).isoformat(" ")


def wanted_columns(data: "DataConfig", evaluation: "EvaluationConfig | None", split: str) -> list[ExtraColumn]:
    """The columns to read of data.train, data.validation or data.test; the last name is `split`.

    Weights are read of the training rows alone, evaluation.group_columns where the rows come from that are scored.
    """
    found = []
    for role, column in (
        (WEIGHT, data.weight_column if split == "train" else None),
        (GROUP, data.group_column),
        (TIME, data.time_column),
        (LANGUAGE, data.language_column),
    ):
        if column is not None:
            found.append(ExtraColumn(role, column, f"data.{role}_column"))
    if evaluation is not None and split == _scored_source(data, evaluation):
        for number, column in enumerate(evaluation.group_columns):
            if column != data.language_column:
                found.append(ExtraColumn(f"scored{number}", column, "evaluation.group_columns"))
    return found


def scored_roles(columns: dict[str, Column]) -> list[str]:
    """The roles of the columns by whose groups scores are given, the language first."""
    return [role for role in columns if role == LANGUAGE] + [role for role in columns if role.startswith("scored")]


def _scored_source(data: "DataConfig", evaluation: "EvaluationConfig") -> str:
    """The source that the rows are of whose scores a report shows."""
    if evaluation.score_test and data.test:
        return "test"
    if evaluation.score_test and data.train and data.test_fraction:
        return "train"
    return "validation" if data.validation else "train"


def shown_names(names: Sequence[str]) -> list[str]:
    """Names of categories, all different, as they are shown: the empty one as NO_NAME, in as many brackets as tell it
    from the others."""
    empty = NO_NAME
    while empty in names:
        empty = f"({empty})"
    return [name or empty for name in names]


class ExtraReader:
    """Reads the wanted columns of a source, row by row, while it is converted."""

    def __init__(self, wanted: Sequence[ExtraColumn]):
        self.wanted = wanted
        self.cells = [_CELLS.get(one.role, _Categories)(one.setting) for one in wanted]
        self.digests = [hashlib.sha256() for _ in wanted]

    @property
    def dtypes(self) -> dict[str, type]:
        """The arrays that it fills."""
        return {EXTRA + one.role: cells.dtype for one, cells in zip(self.wanted, self.cells, strict=True)}

    def read(self, row: Sequence[Any]) -> list[Any]:
        """The values of a row.

        Raises:
            ValueError: a cell cannot be used; the message is the end of a sentence about the row.
        """
        return [cells.read(cell) for cells, cell in zip(self.cells, row, strict=True)]

    def add(self, values: Sequence[Any], arrays: dict[str, list]) -> None:
        """Append what `read` gave for the next row."""
        for one, cells, digest, value in zip(self.wanted, self.cells, self.digests, values, strict=True):
            arrays[EXTRA + one.role].append(cells.stored(value))
            digest.update(repr(value).encode())

    def summary(self) -> list[dict[str, Any]]:
        """The `Column`s, JSON-able."""
        return [
            asdict(Column(one.role, one.column, digest.hexdigest(), **cells.about()))
            for one, cells, digest in zip(self.wanted, self.cells, self.digests, strict=True)
        ]


class _Categories:
    """Names as codes, in the order in which they are first seen; an empty cell is the name ""."""

    dtype = np.int32

    def __init__(self, setting: str):
        self.codes: dict[str, int] = {}

    def read(self, cell: Any) -> str:
        return category_of(cell)

    def stored(self, name: str) -> int:
        return self.codes.setdefault(name, len(self.codes))

    def about(self) -> dict[str, Any]:
        return {"names": list(self.codes)}


class _Numbers:
    """What float64 arrays are filled with."""

    dtype = np.float64

    def __init__(self, setting: str):
        self.setting = setting

    def stored(self, value: float) -> float:
        return value

    def about(self) -> dict[str, Any]:
        return {}


class _Weights(_Numbers):
    """Numbers that are not negative."""

    def read(self, cell: Any) -> float:
        value = number_of(cell)
        if value is None or not 0 <= value < math.inf:
            raise ValueError(f"has no number of at least 0 in {self.setting}: {shown(cell)}")
        return value


class _Times(_Numbers):
    """Dates, as seconds since 1970, or numbers, as they are; a date without a zone is UTC's."""

    def __init__(self, setting: str):
        super().__init__(setting)
        self.dated: bool | None = None

    def read(self, cell: Any) -> float:
        value = number_of(cell)
        moment = moment_of(cell) if value is None else None
        if moment is not None:
            value = moment.timestamp()
        if value is None or not math.isfinite(value):
            raise ValueError(
                f"has neither a date as ISO writes it (such as 2024-05-31) nor a number in {self.setting}: "
                f"{shown(cell)}"
            )
        dated = moment is not None
        if self.dated is None:
            self.dated = dated
        if self.dated != dated:
            found, before = ("a date", "numbers") if dated else ("a number", "dates")
            raise ValueError(f"has {found} in {self.setting}, where the rows before have {before}: {shown(cell)}")
        return value

    def about(self) -> dict[str, Any]:
        return {"dated": bool(self.dated)}


_CELLS: dict[str, Any] = {WEIGHT: _Weights, TIME: _Times}
