"""Rows with their answers, a window at a time, and how they are written: what predict and batch share."""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

from export.answers import HIGHEST, REASON, columns_of, is_share, refuse_late, rounded
from export.texts import Row
from pipeline.data.formats import FORMATS
from pipeline.errors import UserError

# Texts taken at a time from a large input; within them, texts of like length share a forward pass.
WINDOW = 4096


class Window(NamedTuple):
    """Consecutive rows of an input, answered."""

    rows: list[Row]
    answers: dict[str, list]
    """Columns by name, of as many cells as there are rows; None where a row has no answer."""
    types: dict[str, type]
    """Of these columns: str or float."""
    known: int
    """Columns of the input that were known when the last of the rows had been read."""


@dataclass(frozen=True)
class Asking:
    """How rows are answered.

    Attributes:
        batch_size: texts a forward pass.
        top: give so many of the most probable labels.
        calls: batches at once; None: as many as keep the processor busy.
        ahead: whether the next window is read while one is answered; else a full window is answered before another row
            is read, as whoever sends rows may wait for their answers.
        columns: of the input, to which reading may append.
        highest: whether rows that are given no label get a column with the most probable one.
        progress: called with the number of rows that are answered, or have no text, since it was called before.
    """

    batch_size: int
    top: int = 1
    calls: int | None = None
    ahead: bool = True
    columns: Sequence[str] = ()
    highest: bool = False
    progress: Callable[[int], Any] = lambda rows: None


def answered(predictor: Any, rows: Iterable[Row], asking: Asking) -> Iterator[Window]:
    """The answers of a Classifier to rows, in their order, window by window. There are never more than three: one that
    is read, one that is answered, and one with the caller.

    Args:
        predictor: export.loading.Classifier.
        rows: of export.texts; those without texts get a reason in place of an answer.
        asking: how.

    Raises:
        ValueError: `top` of answers that are no classes; or whatever `rows` raises, after the windows that were full
            before.
    """
    # It imports TensorFlow.
    from export.at_once import threads_for_calls

    failures: list[Exception] = []
    window: list[Row] = []
    before: _Begun | None = None
    with threads_for_calls(asking.batch_size, asking.calls) as threads:
        for row in _until_failure(rows, failures):
            window.append(row)
            if len(window) < WINDOW:
                continue
            following = _begin(predictor, window, asking, threads)
            window = []
            if before:
                yield _complete(predictor, before, asking)
            before = following
            if not asking.ahead:
                yield _complete(predictor, before, asking)
                before = None
        if before:
            yield _complete(predictor, before, asking)
        if failures:
            raise failures[0]
        if window:
            yield _complete(predictor, _begin(predictor, window, asking, threads), asking)


class _Begun(NamedTuple):
    rows: list[Row]
    asked: Any
    """export.at_once.Asked."""
    known: int


def _until_failure(rows: Iterable[Row], failures: list[Exception]) -> Iterator[Row]:
    iterator = iter(rows)
    while True:
        try:
            row = next(iterator)
        except StopIteration:
            return
        except Exception as error:  # whatever a reader raises
            failures.append(error)
            return
        yield row


def _begin(predictor: Any, rows: list[Row], asking: Asking, threads: Executor) -> _Begun:
    texts = [row.texts for row in rows if row.texts]
    columns = map(list, zip(*texts, strict=True)) if texts else [[] for _ in predictor.inputs]
    return _Begun(rows, predictor.begin(threads, *columns, batch_size=asking.batch_size), len(asking.columns))


def _complete(predictor: Any, begun: _Begun, asking: Asking) -> Window:
    window, outputs = begun.rows, begun.asked.complete(asking.progress).outputs
    found = columns_of(outputs, predictor.task.answer_names, getattr(predictor.task, "names", ()), asking.top)
    types = {name: str if isinstance(column, list) else float for name, column in found.items()}
    answers = {}
    for name, column in found.items():
        cells = iter(column if isinstance(column, list) else [rounded(value, is_share(name)) for value in column])
        answers[name] = [next(cells) if row.texts else None for row in window]
    answers[REASON] = [row.reason or None for row in window]
    if asking.highest and {"label", "probabilities"} <= outputs.keys():
        best = iter(zip(outputs["label"], outputs["probabilities"].argmax(axis=1), strict=True))
        labels = (next(best) if row.texts else (None, 0) for row in window)
        answers[HIGHEST] = [predictor.task.names[most] if label == "" else None for label, most in labels]
    asking.progress(sum(not row.texts for row in window))
    return Window(window, answers, {**types, REASON: str}, begun.known)


class Input(NamedTuple):
    """What is known of the columns of an input."""

    columns: list[str]
    """JSON may bring more on the way, at the end, which are appended to this list."""
    types: dict[str, Any]
    """As Arrow has them, where the format has types."""
    early: int | None = None
    """So many of the columns were known when the file was opened, of which these rows are a part; None: the rows are
    all, and what is known with their first window is early."""


def store(
    windows: Iterator[Window],
    given: Input,
    form: str,
    file: Any,
    prefix: Callable[[list[str], Collection[str]], str],
) -> Iterator[int]:
    """Write windows in a format, answers behind the columns of the input; gives the rows of each.

    Args:
        windows: of `answered`, which was told the columns too.
        given: the input's columns.
        form: one of FORMATS that can be written.
        file: binary, open for writing.
        prefix: of the names of the input's columns and of the answers', what stands before each of the latter.

    Raises:
        UserError: a row has a column that none at the beginning has, which the format cannot hold, or which has the
            name of an answer.
    """
    with ExitStack() as stack:
        columns: list[str] = []
        added: dict[str, type] = {}
        write: Any = None
        known = 0
        # Columns of rows that are read ahead are in the list too, but not in `now`.
        for window, answers, types, now in windows:
            if write is None:
                known = now if given.early is None else given.early
                before = prefix(given.columns[:known], answers)
                added = {f"{before}{name}": kind for name, kind in types.items()}
                columns += [*given.columns[:known], *added]
                make = FORMATS[form].write
                assert make is not None, "whoever chose the format has seen to it"
                write = stack.enter_context(make(file, columns, {**given.types, **added}))
            if late := next((row for row in window if len(row.cells) > known), None):
                new = given.columns[known:now]
                refuse_late(new, added, late.place)
                if form != "jsonl":
                    raise UserError(f"{late.place}: {', '.join(new)}: no row at the beginning has it; write a .jsonl.")
                columns[known:known] = new
                known = now
            cells = ([*row.cells, *[None] * (known - len(row.cells))] for row in window)
            write([[*cell, *more] for cell, more in zip(cells, zip(*answers.values(), strict=True), strict=True)])
            yield len(window)


def warn(sentences: Iterable[str]) -> None:
    """Say on standard error what should be known."""
    for sentence in sentences:
        print(f"warning: {sentence}", file=sys.stderr)
