"""From a cell to labels, and from labels to classes: what all tasks with named classes share."""

import ast
import numbers
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.config import DataConfig
    from pipeline.data.store import Store

SOFT = "soft"
"""Array of a store whose source has a column for each label: float32 [rows * C], their probabilities."""
# More different labels than this are no labels: the wrong column was named.
MOST_LABELS = 100_000
_WHOLE_NUMBER = re.compile(r"[+-]?\d+(\.0*)?")


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


def whole_numbers(labels: Sequence[str]) -> bool:
    """Whether all labels are integers, with or without a decimal point and zeros after it."""
    return bool(labels) and all(_WHOLE_NUMBER.fullmatch(label) for label in labels)


def integer_form(label: str) -> str:
    """3 for 3.0; other labels, 007 too, as they are."""
    return label.partition(".")[0] if "." in label and _WHOLE_NUMBER.fullmatch(label) else label


def names_of(data: "DataConfig", labels: Sequence[str], sources: Sequence[str]) -> tuple[str, ...]:
    """The classes in the order of the model's outputs: data.labels, or the sorted labels of the training rows.

    Raises:
        UserError: a name twice, or less than two.
    """
    if data.labels:
        names = [name.strip() for name in data.labels]
    elif whole_numbers(labels):
        names = sorted({integer_form(label) for label in labels}, key=lambda name: (int(name), name))
    else:
        names = sorted(labels)
    if len(set(names)) < len(names):
        name, count = Counter(names).most_common(1)[0]
        raise UserError(f"data.labels has {name!r} {count} times: name each label once.")
    if len(names) < 2:
        found = f"all rows have the one label {names[0]!r}" if names else "no row has a label"
        raise UserError(f"{', '.join(sources)}: {found}; a classifier needs at least two.")
    return tuple(names)


class LabelTargets:
    """Classes of the rows of a store.

    Args:
        store: with what a LabelReader has written.
        names: of the classes.
        known: where they are known from, for messages.

    Raises:
        UserError: a row has a label that is none of the names.
    """

    def __init__(self, store: "Store", names: Sequence[str], known: str):
        self.starts, self.ids = store.arrays["label_starts"], store.arrays["label_ids"]
        self.count = len(names)
        labels = store.meta.target["labels"]
        places = {label: i for i, label in enumerate(names)}
        found = [places.get(label, places.get(integer_form(label), -1)) for label in labels]
        self.classes = np.array(found, np.int32)
        self.soft = _in_order(store, names) if SOFT in store.arrays else None
        unknown = self.classes[self.ids] < 0 if len(labels) else np.zeros(0, bool)
        if unknown.any():
            position = int(np.argmax(unknown))
            row = int(np.searchsorted(self.starts, position, side="right")) - 1
            label = labels[self.ids[position]]
            raise UserError(f"{store.where(row)}: the label {label!r} is not among those of {known}.")

    def probabilities(self, rows: np.ndarray) -> np.ndarray | None:
        """float32 [n, C], the labels' in the data; None: the data has none."""
        return None if self.soft is None else self.soft[rows]

    def strata(self, rows: np.ndarray) -> np.ndarray:
        """int32 [n], the first class of each row, -1 where it has none."""
        starts = self.starts[rows]
        some = self.starts[rows + 1] > starts
        first = np.full(len(rows), -1, np.int32)
        first[some] = self.classes[self.ids[starts[some]]]
        return first


def _in_order(store: "Store", names: Sequence[str]) -> np.ndarray:
    """float32 [rows, C], the probabilities of a store in the order of the classes."""
    columns = store.meta.target["columns"]
    return np.asarray(store.arrays[SOFT]).reshape(-1, len(columns))[:, [columns.index(name) for name in names]]


class OneLabel(LabelTargets):
    """One class a row."""

    def values(self, rows: np.ndarray) -> np.ndarray:
        """int32 [n] classes."""
        # Each row has one label: row i's is the i-th.
        return self.classes[self.ids[rows]]


class SeveralLabels(LabelTargets):
    """Any number of classes a row."""

    def values(self, rows: np.ndarray) -> np.ndarray:
        """float32 [n, C], multi-hot."""
        starts = self.starts[rows]
        counts = self.starts[rows + 1] - starts
        places = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        hot = np.zeros((len(rows), self.count), np.float32)
        hot[np.repeat(np.arange(len(rows)), counts), self.classes[self.ids[places]]] = 1.0
        return hot
