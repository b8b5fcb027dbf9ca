"""From labels to classes: what all tasks with named classes share."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import UserError
from pipeline.tasks.soft_labels import SOFT

if TYPE_CHECKING:
    from pipeline.config import DataConfig
    from pipeline.data.store import Store

_WHOLE_NUMBER = re.compile(r"[+-]?\d+(\.0*)?")


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
