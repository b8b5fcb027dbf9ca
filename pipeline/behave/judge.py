"""Answers held against what the tests of a suite expect of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.behave.perturb import Change, changed_rows
from pipeline.behave.rows import Rows
from pipeline.behave.suite import Behaviour, Suite, change_of
from pipeline.behave.templates import filled
from pipeline.errors import UserError
from pipeline.evaluation.interval import wilson
from pipeline.tasks.task import Outputs, Task

# Share of a probability, or of the standard deviation of a number, that counts as no move.
TOLERANCE = 0.1


@dataclass(frozen=True)
class Model:
    """Who is asked.

    Attributes:
        task: of the answers.
        answer: rows of cells to outputs of serving_default.
        texts: how many cells of a row are texts.
        beside: names of the columns of its other cells.
        kept: parts of texts that no change touches.
    """

    task: Task
    answer: Callable[[Sequence[tuple]], Outputs]
    texts: int
    beside: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a test.

    Attributes:
        test: what was tested.
        about: on which rows.
        tried: how many of them it applies to.
        failed: how many of these fail.
        examples: of failures, the worst first: texts, changed (where they were), before (of changed texts the answer
            before), after and place (file and line of a row of the run); none where texts must not be shown.
    """

    test: Behaviour
    about: str
    tried: int
    failed: int
    examples: list[dict[str, Any]]

    @property
    def rate(self) -> float | None:
        """Share of failures; None: nothing was tried."""
        return self.failed / self.tried if self.tried else None

    @property
    def interval(self) -> list[float] | None:
        """Of the rate, 95 %."""
        return wilson(self.failed / self.tried, self.tried) if self.tried else None

    @property
    def passed(self) -> bool:
        """Whether no limit is broken."""
        return self.test.limit is None or self.rate is None or self.rate <= self.test.limit

    def summary(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "name": self.test.name,
            "kind": self.test.kind,
            "about": self.about,
            "tried": self.tried,
            "failed": self.failed,
            "failure_rate": self.rate,
            "interval": self.interval,
            "limit": self.test.limit,
            "passed": self.passed,
            "examples": self.examples,
        }


def check_tests(task: Task, tests: Sequence[Behaviour]) -> None:
    """Refuse, before anything is asked, what answers of a task cannot tell.

    Raises:
        UserError: naming the test.
    """
    # What nobody has answered is judged as any answer is.
    none = task.answer_of(np.zeros((0, task.outputs), np.float32))
    for test in tests:
        if test.kind != "invariance":
            with _named(test):
                _judged(task, test, none, none)


@contextmanager
def _named(test: Behaviour) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"test {test.name}: {error}") from None


class Judge:
    """Runs tests of a suite on a model.

    Args:
        model: who is asked.
        suite: whose lexicons the tests use.
        rows: of the run; None: it has none.
        seed: of changes, and of which templates are filled with what.
        shown: examples of each test.
    """

    def __init__(self, model: Model, suite: Suite, rows: Rows | None, seed: int, shown: int = 5):
        self.model, self.suite, self.rows, self.seed, self.shown = model, suite, rows, seed, shown
        # Many tests change the same rows.
        self._before = model.answer(rows.cells) if rows is not None and rows.cells else None

    def outcome(self, test: Behaviour, count: int) -> Outcome:
        """What becomes of a test.

        Args:
            test: of the suite.
            count: at most about so many rows are made of templates.

        Raises:
            UserError: the test does not suit the model.
        """
        with _named(test):
            rows, before = self._rows(test, count)
        change = change_of(test, self.suite.lexicons, self.model.kept)
        if change is None:
            changed, touched = [], np.arange(len(rows.cells))
        else:
            changed = _changed(rows, change, f"{self.seed} {test.name}")
            touched = np.array([i for i, cells in enumerate(changed) if cells != rows.cells[i]], np.int64)
        if not len(touched):
            return Outcome(test, rows.about, 0, 0, [])
        before = {name: np.asarray(values)[touched] for name, values in before.items()}
        after = self.model.answer([changed[i] for i in touched]) if changed else before
        failed, badness = _judged(self.model.task, test, before, after)
        examples = []
        # The worst first; of equals the first row.
        worst = [i for i in np.argsort(-badness, kind="stable").tolist() if failed[i]][: self.shown]
        for i in worst if rows.shown else ():
            row = int(touched[i])
            found: dict[str, Any] = {"texts": list(rows.cells[row][: rows.texts])}
            if changed:
                found |= {"changed": list(changed[row][: rows.texts]), "before": _answer(self.model.task, before, i)}
            found["after"] = _answer(self.model.task, after, i)
            examples.append(found | ({"place": rows.places[row]} if rows.places else {}))
        return Outcome(test, rows.about, len(touched), int(failed.sum()), examples)

    def _rows(self, test: Behaviour, count: int) -> tuple[Rows, Outputs]:
        """The rows that a test is about, and their answers."""
        if not test.templates:
            if self.rows is None or self._before is None:
                raise UserError("the run has no rows to change: give the test templates.")
            return self.rows, self._before
        texts = filled(test.templates, self.suite.lexicons, count, f"{self.seed} {test.name}")
        for one in texts:
            if len(one) != self.model.texts:
                raise UserError(f"the template {' | '.join(one)!r} has {len(one)} texts, and a row of the model has "
                                f"{self.model.texts}.")  # fmt: skip
        for name in test.columns:
            if name not in self.model.beside:
                raise UserError(f"columns: the model reads no column {name!r} beside its texts.")
        beside = tuple(test.columns.get(name) for name in self.model.beside)
        rows = Rows([(*one, *beside) for one in texts], self.model.texts, [], f"{len(texts)} texts of templates")
        return rows, self.model.answer(rows.cells)


def _changed(rows: Rows, change: Change, seed: str) -> list[tuple]:
    texts = changed_rows([cells[: rows.texts] for cells in rows.cells], change, seed)
    return [(*one, *cells[rows.texts :]) for one, cells in zip(texts, rows.cells, strict=True)]


def _judged(task: Task, test: Behaviour, before: Outputs, after: Outputs) -> tuple[np.ndarray, np.ndarray]:
    """bool [n], what fails, and float [n], how badly."""
    if test.kind == "direction":
        moved = task.quantity(after, test.label) - task.quantity(before, test.label)
        against = -moved if test.moves == "up" else moved
        tolerance = TOLERANCE * task.scale if test.tolerance is None else test.tolerance
        return against > tolerance, against
    if test.kind == "invariance":
        both = (task.predictions_of("serving_default", outputs) for outputs in (before, after))
        one, other = (np.asarray(found, np.float64) for found in both)
        return ~task.same_answers(before, after), np.abs(one - other).max(axis=1)
    if test.not_label is not None:
        return task.gives(after, test.not_label), task.quantity(after, test.not_label)
    if test.at_least is None and test.at_most is None:
        assert test.label is not None, "suite._check_kind has seen to it"
        return ~task.gives(after, test.label), 1 - task.quantity(after, test.label)
    found = task.quantity(after, test.label)
    low = -np.inf if test.at_least is None else test.at_least
    high = np.inf if test.at_most is None else test.at_most
    outside = np.maximum(low - found, found - high)
    return outside > 0, outside


def _answer(task: Task, outputs: Outputs, row: int) -> dict[str, Any]:
    """One answer, JSON-able."""
    cells = {name: outputs[name][row] for name in task.answer_names}
    return {name: cell if isinstance(cell, str) else round(float(cell), 4) for name, cell in cells.items()}
