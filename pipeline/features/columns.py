"""Columns beside the text: what their cells mean, and what the training rows say of them. No TensorFlow.

A cell is kept as UTF-8, empty where it is missing: a number as the shortest text that is the same float32, a category
as its name, a date as ISO writes it, a vector as its numbers with spaces between.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from pipeline.data.cell_values import category_of, is_missing, moment_of, number_of, shown
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.data.config import DataConfig

# Of the names of a column of categories as many as are kept, those of most rows; and how many rows one has at least.
MOST_NAMES, LEAST_ROWS = 1000, 2
# The name of the tensor beside the tokens with the columns' numbers, float32 [texts, width].
COLUMNS = "columns"
Kind = Literal["number", "category", "date", "vector"]
EPOCH = date(1970, 1, 1)
# A date as Python's datetime reads it; what else may stand behind the day is cut off.
DATE_PATTERN = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([T ].*)?"


@dataclass(frozen=True)
class Number:
    """Numbers, as sign(x) log(1 + |x|), centred and scaled.

    Attributes:
        name: of the column.
        mean, scale: of the training rows' values in that form, without the missing ones.
        missing: whether any is missing there; then a number is two values, of which the second says so. Otherwise, and
            beside it, a missing number is the mean.
    """

    name: str
    mean: float = 0.0
    scale: float = 1.0
    missing: bool = False

    kind: ClassVar[Kind] = "number"
    as_text: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """Values that a cell becomes."""
        return 1 + self.missing

    @classmethod
    def fitted(cls, name: str, cells: Sequence[bytes]) -> Self:
        """Of the training rows' cells."""
        values = np.array([float(cell) for cell in cells if cell])
        return cls(name, *_centre(np.sign(values) * np.log1p(np.abs(values))), len(values) < len(cells))


@dataclass(frozen=True)
class Category:
    """Names, one value each that is 1 where the cell has it, and one more for others.

    Attributes:
        name: of the column.
        names: those that LEAST_ROWS training rows have, at most MOST_NAMES.
        rare: whether training rows have others; then the model knows what to make of names that it has not seen.
        missing: whether a training row has none; without, a missing name is one that was not seen.
    """

    name: str
    names: tuple[str, ...] = ()
    rare: bool = False
    missing: bool = False

    kind: ClassVar[Kind] = "category"
    as_text: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """Values that a cell becomes."""
        return len(self.names) + self.rare + self.missing

    @classmethod
    def fitted(cls, name: str, cells: Sequence[bytes]) -> Self:
        """Of the training rows' cells."""
        counts = Counter(cell.decode() for cell in cells)
        missing = counts.pop("", 0)
        # Those of most rows first, equal ones by name: the order of the rows has no say.
        common = sorted(counts, key=lambda one: (-counts[one], one))[:MOST_NAMES]
        kept = tuple(sorted(one for one in common if counts[one] >= LEAST_ROWS))
        return cls(name, kept, len(kept) < len(counts), missing > 0)


@dataclass(frozen=True)
class Date:
    """Dates as they are written, whatever their zone: days since 1970, centred and scaled, and where in the year, in
    the week and, where training rows have times, in the day they are, each as a sine and a cosine.

    Attributes:
        name: of the column.
        mean, scale: of the training rows' days.
        clock: whether training rows have times of day.
        missing: whether a training row has none; then one more value says so. Where one is missing the others are 0.
    """

    name: str
    mean: float = 0.0
    scale: float = 1.0
    clock: bool = False
    missing: bool = False

    kind: ClassVar[Kind] = "date"
    as_text: ClassVar[bool] = True

    @property
    def width(self) -> int:
        """Values that a cell becomes."""
        return 5 + 2 * self.clock + self.missing

    @classmethod
    def fitted(cls, name: str, cells: Sequence[bytes]) -> Self:
        """Of the training rows' cells."""
        moments = [datetime.fromisoformat(cell.decode()) for cell in cells if cell]
        days = np.array([(moment.date() - EPOCH).days for moment in moments], np.float64)
        clock = any(moment.hour or moment.minute for moment in moments)
        return cls(name, *_centre(days), clock, len(moments) < len(cells))


@dataclass(frozen=True)
class Vector:
    """Lists of as many numbers each, such as what another model makes of an image, centred and scaled.

    Attributes:
        name: of the column.
        means: of the training rows' vectors.
        scale: one for all numbers, so that a vector's parts keep their proportions.
        missing: whether training rows have none; then one more value says so. A missing vector is the mean.
    """

    name: str
    means: tuple[float, ...] = ()
    scale: float = 1.0
    missing: bool = False

    kind: ClassVar[Kind] = "vector"
    as_text: ClassVar[bool] = False

    @property
    def size(self) -> int:
        """Numbers of a vector."""
        return len(self.means)

    @property
    def width(self) -> int:
        """Values that a cell becomes."""
        return self.size + self.missing

    @classmethod
    def fitted(cls, name: str, cells: Sequence[bytes]) -> Self:
        """Of the training rows' cells, which are of one size as they are read.

        Raises:
            UserError: there is no vector.
        """
        if not any(cells):
            raise UserError(f"data.vector_columns {name!r}: no training row has a vector.")
        values = np.array([cell.split() for cell in cells if cell], np.float64)
        centred = values - values.mean(axis=0)
        scale = float(np.sqrt((centred**2).mean())) or 1.0
        return cls(name, tuple(values.mean(axis=0).tolist()), scale, len(values) < len(cells))


Column = Number | Category | Date | Vector
KINDS: tuple[type[Column], ...] = (Number, Category, Date, Vector)


def metadata_of(column: Column) -> dict[str, Any]:
    """JSON-able: what `column_from` needs."""
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(column).items()}
    return {"kind": column.kind, **settings}


def column_from(metadata: dict[str, Any]) -> Column:
    """The inverse of `metadata_of`."""
    settings: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in metadata.items()}
    kinds = {kind.kind: kind for kind in KINDS}
    return kinds[settings.pop("kind")](**settings)


@dataclass(frozen=True)
class FeatureColumn:
    """A column to be read beside the texts."""

    column: str
    kind: type[Column]
    setting: str
    """That names it, for messages."""
    size: int | None = None
    """Numbers that a vector has; None: any."""

    def read(self, cell: Any) -> bytes:
        """A cell as it is kept.

        Raises:
            ValueError: it is none of the kind; the message is the end of a sentence about the row.
        """
        if is_missing(cell):
            return b""
        return _READERS[self.kind.kind](self, cell).encode()


def wanted_features(data: "DataConfig", sizes: Mapping[str, int] = MappingProxyType({})) -> list[FeatureColumn]:
    """The columns beside the texts, in the order of a model's inputs; `sizes` are those of vectors, as far as they are
    known, by column."""
    return [
        FeatureColumn(name, kind, f"data.{setting}", sizes.get(name))
        for setting, kind in (
            ("numeric_columns", Number),
            ("categorical_columns", Category),
            ("date_columns", Date),
            ("vector_columns", Vector),
        )
        for name in getattr(data, setting)
    ]


def _number(wanted: FeatureColumn, cell: Any) -> str:
    value = number_of(cell)
    if value is None or math.isinf(value) or abs(value) > float(np.finfo(np.float32).max):
        raise ValueError(f"has no number in {wanted.setting} {wanted.column!r}: {shown(cell)}")
    return "" if math.isnan(value) else str(np.float32(value))


def _category(wanted: FeatureColumn, cell: Any) -> str:
    return category_of(cell)


def _date(wanted: FeatureColumn, cell: Any) -> str:
    moment = moment_of(cell)
    if moment is None:
        raise ValueError(
            f"has no date as ISO writes it (such as 2024-05-31) in {wanted.setting} {wanted.column!r}: {shown(cell)}"
        )
    plain = moment.replace(tzinfo=None, microsecond=0)
    return plain.date().isoformat() if not (plain.hour or plain.minute or plain.second) else plain.isoformat()


def _vector(wanted: FeatureColumn, cell: Any) -> str:
    try:
        if isinstance(cell, bytes):
            cell = cell.decode()
        if isinstance(cell, str):
            cell = json.loads(cell) if cell.lstrip().startswith("[") else cell.split()
        with np.errstate(over="ignore"):
            values = np.asarray(cell, np.float32)
    except (ValueError, TypeError, OverflowError):
        values = np.array(np.nan)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"has no list of numbers in {wanted.setting} {wanted.column!r}: {shown(cell)}")
    if wanted.size not in (None, values.size):
        raise ValueError(
            f"has a list of another length in {wanted.setting} {wanted.column!r} than others: {values.size} "
            f"in place of {wanted.size}"
        )
    return " ".join(map(str, values))


_READERS: dict[Kind, Callable[[FeatureColumn, Any], str]] = {
    "number": _number, "category": _category, "date": _date, "vector": _vector,
}  # fmt: skip


def _centre(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation, 1 where that is 0."""
    if not len(values):
        return 0.0, 1.0
    return float(values.mean()), float(values.std()) or 1.0
