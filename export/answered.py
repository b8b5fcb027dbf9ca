"""Rows with their answers, a window at a time, and how they are written: what predict and batch share."""

import itertools
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

from export.answers import REASON, columns_of
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


def answered(predictor: Any, rows: Iterable[Row], batch_size: int, top: int = 1) -> Iterator[Window]:
    """The answers of a Classifier to rows, in their order, of which never more than a window is held.

    Args:
        predictor: export.loading.Classifier.
        rows: of export.texts; those without texts get a reason in place of an answer.
        batch_size: texts a forward pass.
        top: give so many of the most probable labels.

    Raises:
        ValueError: `top` of answers that are no classes, or whatever `rows` raises.
    """
    iterator = iter(rows)
    while window := list(itertools.islice(iterator, WINDOW)):
        asked = [row.texts for row in window if row.texts]
        texts = zip(*asked, strict=True) if asked else [()] * len(predictor.inputs)
        outputs = predictor(*map(list, texts), batch_size=batch_size).outputs
        found = columns_of(outputs, predictor.task.answer_names, getattr(predictor.task, "names", ()), top)
        types = {name: str if isinstance(column, list) else float for name, column in found.items()}
        answers = {}
        for name, column in found.items():
            cells = iter(column if isinstance(column, list) else [round(float(value), 6) for value in column])
            answers[name] = [next(cells) if row.texts else None for row in window]
        answers[REASON] = [row.reason or None for row in window]
        yield Window(window, answers, {**types, REASON: str})


class Input(NamedTuple):
    """What is known of the columns of an input."""

    columns: list[str]
    """JSON may bring more on the way, at the end, which are appended to this list."""
    types: dict[str, Any]
    """As Arrow has them, where the format has types."""


def store(
    windows: Iterator[Window], given: Input, form: str, file: Any, prefix: Callable[[Collection[str]], str]
) -> Iterator[int]:
    """Write windows in a format, answers behind the columns of the input; gives the rows of each.

    Args:
        windows: of `answered`.
        given: the input's columns.
        form: one of FORMATS that can be written.
        file: binary, open for writing.
        prefix: of the names of the answers' columns, what stands before each.

    Raises:
        UserError: a row has a column that none before it has, which the format cannot hold.
    """
    with ExitStack() as stack:
        columns: list[str] = []
        write: Any = None
        known = 0
        for window, answers, types in windows:
            if write is None:
                before = prefix(answers)
                types = {f"{before}{name}": kind for name, kind in types.items()}
                columns += [*given.columns, *types]
                make = FORMATS[form].write
                assert make is not None, "whoever chose the format has seen to it"
                write = stack.enter_context(make(file, columns, {**given.types, **types}))
                known = len(given.columns)
            elif len(given.columns) > known:
                new = given.columns[known:]
                if form != "jsonl":
                    place = window[0].place
                    raise UserError(f"{place}, or a row below: {', '.join(new)}: no row above has it; write a .jsonl.")
                columns[known:known] = new
                known = len(given.columns)
            cells = ([*row.cells, *[None] * (known - len(row.cells))] for row in window)
            write([[*cell, *more] for cell, more in zip(cells, zip(*answers.values(), strict=True), strict=True)])
            yield len(window)


def warn(sentences: Iterable[str]) -> None:
    """Say on standard error what should be known."""
    for sentence in sentences:
        print(f"warning: {sentence}", file=sys.stderr)
