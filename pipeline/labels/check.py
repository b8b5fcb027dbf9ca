"""Labels that are likely to be wrong, for a person to look at: nothing is deleted or changed."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Literal

import numpy as np

from pipeline.data.health import label_set_keys
from pipeline.data.load import DataSplits, load
from pipeline.data.split import Split
from pipeline.data.store import Store
from pipeline.errors import UserError
from pipeline.labels.confident import Doubts
from pipeline.labels.rows import Source
from pipeline.labels.twins import MOST_ROWS, Twin, equal_twins, near_twins
from pipeline.labels.vectors import frozen
from pipeline.methods.learned import learn
from pipeline.redaction.kinds import Redaction
from pipeline.redaction.rows import redacted_texts
from pipeline.tasks.task import Task

Name = Literal["train", "validation", "test"]
# Cosine of nearly equal texts.
NEAR = 0.9
PAIRS_SHOWN = 5


@dataclass(frozen=True)
class Checked:
    """What was found in the rows of a split.

    Attributes:
        task: of the rows.
        rows: n of them.
        doubts: what predictions for them say that have not learned them.
        twins: equal and nearly equal texts under another label, by the number of a row.
        strength: C of the layer that predicted.
        redaction: what is replaced in texts that are written.
    """

    task: Task
    rows: Split
    doubts: Doubts
    twins: dict[int, Twin]
    strength: float
    redaction: Redaction

    @property
    def suspicious(self) -> np.ndarray:
        """int64, numbers of the rows that are named, the worst first."""
        named = np.union1d(np.flatnonzero(self.doubts.wrong), np.array(sorted(self.twins), np.int64))
        return named[np.argsort(self.doubts.quality[named], kind="stable")]

    @property
    def columns(self) -> list[str]:
        """Of `table`."""
        count = len(self.rows.texts(slice(0)))
        texts = ["text"] if count == 1 else [f"text_{letter}" for letter in ascii_lowercase[:count]]
        return ["file", "line", "given", "suggested", "quality", "reason", *texts]

    def table(self) -> Iterator[list]:
        """A row of cells for each suspicious row."""
        named = self.suspicious
        given = self.task.written(self.rows.targets())
        suggested = self.task.written(self.doubts.suggested)
        raw = [tuple(text.decode() for text in row) for row in zip(*self.rows.texts(named), strict=True)]
        for row, texts in zip(named.tolist(), redacted_texts(raw, self.redaction), strict=True):
            yield [
                *file_and_line(self.rows.store, int(self.rows.rows[row])),
                given[row],
                suggested[row] if self.doubts.wrong[row] else "",
                round(float(self.doubts.quality[row]), 4),
                "; ".join(self._reasons(row, given)),
                *texts,
            ]

    def _reasons(self, row: int, given: list[str]) -> Iterator[str]:
        if self.doubts.wrong[row]:
            yield "predicted otherwise"
        if twin := self.twins.get(row):
            like = "equal text" if twin.cosine is None else f"nearly equal text ({twin.cosine:.2f})"
            where = self.rows.store.where(int(self.rows.rows[twin.row]))
            yield f"{like} under {given[twin.row]!r}: {where}"

    def lines(self) -> list[str]:
        """For the terminal."""
        total, wrong = len(self.rows), int(self.doubts.wrong.sum())
        equal = sum(twin.cosine is None for twin in self.twins.values())
        found = [
            f"{total} {self.rows.name} rows, predicted by a linear layer (C = {self.strength:g}) that has not learned "
            "them, on the checkpoint as it is",
            f"{wrong} rows ({wrong / total:.1%}) are predicted otherwise, {equal} have an equal text under another "
            f"label, {len(self.twins) - equal} a nearly equal one",
        ]
        if total > MOST_ROWS:
            found.append(f"nearly equal texts are not looked for among more than {MOST_ROWS} rows")
        rows = np.flatnonzero(self.doubts.wrong)
        given = self.task.written(self.rows.targets(rows))
        pairs = Counter(zip(given, self.task.written(self.doubts.suggested[rows]), strict=True)).most_common()
        often = [f"{one!r} for {other!r} ({count})" for (one, other), count in pairs[:PAIRS_SHOWN] if count > 1]
        return [*found, *([f"most often given: {', '.join(often)}"] if often else [])]


def check(source: Source, name: Name = "train", near: float = NEAR) -> Checked:
    """Look at the labels of a split. Predictions for the training rows are those of a layer that has learned from
    the other folds; for other rows, of one that has learned from all training rows.

    Args:
        source: of the rows.
        name: of the split.
        near: cosine of the vectors of nearly equal texts.

    Raises:
        UserError: there are no such rows, or they cannot be read.
    """
    config = source.config
    if not source.labelled:
        raise UserError("data.train is not set: there are no labelled rows to check.")
    data = load(config.data, source.cache, source.begun, evaluation=config.evaluation, redaction=config.kept_redaction)
    rows = split_named(data, name)
    assert data.train is not None
    forward = frozen(config, data.features)
    vectors = forward(data.train)
    learned = learn(data.task, data.train, vectors, config.training.seed)
    predictions = learned.held_out
    if name != "train":
        vectors = forward(rows)
        predictions = learned.predict(vectors)
    doubts, twins = data.task.doubts(rows.targets(), predictions), _twins(data.task, rows, vectors, near)
    return Checked(data.task, rows, doubts, twins, learned.strength, config.text.redaction)


def split_named(data: DataSplits, name: Name) -> Split:
    """The rows of one split.

    Raises:
        UserError: there are none.
    """
    found = next((split for split in data.splits if split.name == name), None)
    if found is None:
        raise UserError(
            f"--split {name}: there are no {name} rows; there are {', '.join(s.name for s in data.splits)}."
        )
    return found


def _twins(task: Task, rows: Split, vectors: np.ndarray, near: float) -> dict[int, Twin]:
    groups = task.groups(rows.targets())
    answers = label_set_keys(groups.counts, groups.members)
    texts = [" \x1f ".join(text.decode() for text in row) for row in zip(*rows.texts(slice(None)), strict=True)]
    found = near_twins(vectors, answers, near) if len(rows) <= MOST_ROWS else {}
    return found | equal_twins(texts, answers)


def file_and_line(store: Store, row: int) -> tuple[str, int]:
    """Of a row of a store; of a folder of texts the file of the text."""
    source = store.meta.sources[store.origins[row]]
    if Path(source).is_dir():
        return store.where(row), 1
    return source, int(store.numbers[row])
