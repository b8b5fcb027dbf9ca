"""Rows of a log as features: numbers, and numbers of names, [n] each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from export.monitor.characters import Characters, Tables, Words
from export.monitor.columns import WatchedColumn
from export.monitor.reference import Reference, feature_name


@dataclass(frozen=True)
class Rows:
    """n rows of a log.

    Attributes:
        texts: a list of n texts for each input that is text.
        outputs: by name, n values each: strings or numbers, None where there is none.
        times: when each was answered, as ISO writes it, None where it is not known; None: of a file of rows whose
            column of times is not known.
        place: of the first, for messages and for people.
        columns: cells beside the texts by the name of the column, n each.
    """

    texts: Sequence[list[str]]
    outputs: Mapping[str, Any]
    times: Sequence[str | None] | None
    place: str
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts[0])


class Features:
    """Turns rows into features; remembers what it has learned of characters.

    Args:
        inputs: names of the texts.
        labels: names that `label` may have.
        outputs: names of the numbers.
        words: of the vocabulary; None: not known.
        columns: beside the texts, with the names of their bins; none of a number.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        labels: Sequence[str],
        outputs: Sequence[str],
        words: Words | None,
        columns: Mapping[WatchedColumn, Sequence[str]] | None = None,
    ):
        self._columns = columns or {}
        self._inputs, self._outputs, self._words = inputs, outputs, words
        self._labels = {name: number for number, name in enumerate(labels)}
        self._tables = Tables(words is None or words.lowercase)

    @classmethod
    def like(cls, reference: Reference) -> "Features":
        """Those that a reference has."""
        names = {sketch.name: sketch.names for sketch in reference.sketches}
        columns = {column: names[column.feature] for column in reference.columns}
        return cls(reference.inputs, reference.labels, reference.outputs, reference.words, columns)

    def __call__(self, rows: Rows) -> dict[str, np.ndarray]:
        """Features by name, [n]; those of outputs and columns that the rows do not have are left out.

        Raises:
            ValueError: an output is no number where one is expected.
        """
        found = {}
        for name, texts in zip(self._inputs, rows.texts, strict=True):
            of_text = Characters(texts, self._tables).features(self._words)
            found |= {feature_name(name, feature, self._inputs): values for feature, values in of_text.items()}
        if self._labels and "label" in rows.outputs:
            known = self._labels
            found["label"] = np.array([known.get(str(label), -1) for label in rows.outputs["label"]], np.int64)
        for name in self._outputs:
            if name in rows.outputs:
                found[name] = _numbers(name, rows)
        for column, names in self._columns.items():
            if column.column in rows.columns:
                found[column.feature] = column.values(column.read(rows.columns[column.column]), names)
        return found


def _numbers(name: str, rows: Rows) -> np.ndarray:
    values = rows.outputs[name]
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return values.astype(float)
    try:
        return np.array([np.nan if value is None or value == "" else value for value in values], float)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{rows.place} or below: {name} is no number: {error}.") from error
