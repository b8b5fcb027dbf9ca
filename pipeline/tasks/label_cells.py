"""From a cell to the labels of a row: what all tasks with named classes share."""

import ast
import numbers
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.data.config import DataConfig

# More different labels than this are no labels: the wrong column was named.
MOST_LABELS = 100_000
# Between the labels of a cell or an answer.
DEFAULT_SEPARATOR = "|"


def label_of(value: Any) -> str:
    """A label as a string, "" where there is none; white space at its ends is dropped, 3.0 is 3, and NaN is none.

    Raises:
        ValueError: neither a string nor an integer; the message is the end of a sentence about the row.
    """
    if isinstance(value, str):
        return _label_of_string(value)
    if value is None:
        return ""
    if isinstance(value, bytes):
        return _label_of_string(value.decode("utf-8", "replace"))
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        number = float(value)
        if number != number:
            return ""
        if number.is_integer():
            return str(int(number))
        raise ValueError(
            f"has a label that is neither a string nor an integer: {value} (data.task number predicts numbers)"
        )
    raise ValueError(f"has a label that is neither a string nor an integer: a {type(value).__name__}")


@lru_cache(maxsize=10_000)
def _label_of_string(value: str) -> str:
    if "\0" in value:
        raise ValueError("has a NUL character in its label (is the file's encoding right?)")
    # Half a surrogate pair becomes a question mark, as in texts.
    return value.strip().encode("utf-8", "replace").decode()


def list_in(value: Any) -> list | None:
    """The list that a cell holds: as it is, or written as text as Python and JSON do ("['a', 'b']"); None: no list."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return list(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str) or not (value.strip().startswith("[") and value.strip().endswith("]")):
        return None
    try:
        found = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, list) else None


class LabelReader:
    """Labels of rows as numbers, in the order in which they are first seen.

    Fills label_starts, int64 [rows + 1], and label_ids, int32: the labels of row i are
    label_ids[label_starts[i] : label_starts[i + 1]].
    """

    @property
    def dtypes(self) -> dict[str, type]:
        return {"label_starts": np.int64, "label_ids": np.int32}

    def __init__(self, data: "DataConfig"):
        self.data = data
        self.ids: dict[str, int] = {}
        self.end = 0
        self.begun = False

    def add(self, target: list[str], arrays: dict[str, list]) -> None:
        if not self.begun:
            arrays["label_starts"].append(0)
            self.begun = True
        self.end += len(target)
        arrays["label_starts"].append(self.end)
        arrays["label_ids"] += [self.ids.setdefault(label, len(self.ids)) for label in target]
        if len(self.ids) > MOST_LABELS:
            raise UserError(
                f"{self.data.label_column!r} has more than {MOST_LABELS} different labels; "
                "is data.label_column the right one?"
            )

    def summary(self) -> dict[str, Any]:
        labels = list(self.ids)
        if self.data.task is None:
            refuse_numbers(labels, self.data.label_column)
        return {"labels": labels}


class OneLabelReader(LabelReader):
    """The one label of a row."""

    def read(self, cells: Sequence[Any]) -> list[str]:
        (cell,) = cells
        if list_in(cell) is not None:
            raise ValueError("has a list of labels (for several labels a row set data.task to multi_label)")
        name = label_of(cell)
        if not name:
            raise ValueError("has no label")
        return [name]


class SeveralLabelsReader(LabelReader):
    """Labels divided by a separator, or a list of them, in one cell."""

    def __init__(self, data: "DataConfig"):
        super().__init__(data)
        self.separator = data.label_separator
        self.names = [name.strip() for name in data.labels or ()]
        # Whether all cells so far may be multi-hot lists, and how long they are.
        self.hot_lengths: set[int] | None = set()

    def read(self, cells: Sequence[Any]) -> list[str]:
        (cell,) = cells
        found = list_in(cell)
        if found is None:
            self.hot_lengths = None
            text = label_of(cell)
            parts = text.split(self.separator) if self.separator else [text]
            # An empty cell is a row without any label.
            return sorted({name for name in map(label_of, parts) if name})
        if self._is_hot(found):
            if self.names and len(found) == len(self.names) and not set(self.names) <= {"0", "1"}:
                return sorted(name for name, given in zip(self.names, found, strict=True) if given)
            if self.hot_lengths is not None:
                self.hot_lengths.add(len(found))
        else:
            self.hot_lengths = None
        labels = sorted({name for name in map(label_of, found) if name})
        holding = [name for name in labels if (self.separator or DEFAULT_SEPARATOR) in name]
        if holding:
            raise ValueError(
                f"has a label {holding[0]!r} that holds {self.separator or DEFAULT_SEPARATOR!r}, which divides the "
                "labels of an answer: set data.label_separator to what no label holds"
            )
        return labels

    def _is_hot(self, found: list) -> bool:
        kinds = (int, bool, float, np.bool_, np.integer, np.floating)
        return len(found) > 1 and all(isinstance(value, kinds) and value in (0, 1) for value in found)

    def summary(self) -> dict[str, Any]:
        if self.hot_lengths and len(self.hot_lengths) == 1 and self.end:
            (length,) = self.hot_lengths
            raise UserError(
                f"the column {self.data.label_column!r} holds lists of {length} zeros and ones, one for each label: "
                f"name the {length} labels, in that order, with data.labels."
            )
        return {"labels": list(self.ids)}


def refuse_numbers(labels: Sequence[str], column: str) -> None:
    """Numbers with fractions are no classes, in whatever format they come.

    Raises:
        UserError: all labels are numbers, and some of them have fractions.
    """
    try:
        values = [float(label) for label in labels]
    except ValueError:
        return
    fractions = [label for label, value in zip(labels, values, strict=True) if not value.is_integer()]
    if fractions:
        raise UserError(
            f"the column {column!r} holds numbers such as {fractions[0]} ({len(labels)} different ones): set data.task "
            "to number to predict them, or to single_label if each is the name of a class."
        )
