"""Rows, and texts in Python, redacted."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from pipeline.data.formats import as_text, text_of
from pipeline.redaction.kinds import Redaction

# Rows at a time: a call costs as much as several of them.
ROWS = 256

Row = tuple[int, list[Any] | str]
"""As of pipeline.data.sources."""


def redacted_rows(rows: Iterable[Row], texts: int, redaction: Redaction) -> Iterator[Row]:
    """The same rows, their first `texts` cells redacted; cells that are no text, and rows that are none, stay."""
    if not redaction:
        yield from rows
        return
    # TensorFlow takes seconds to import.
    from pipeline.redaction.redactor import Redactor

    redactor, rows = Redactor(redaction), iter(rows)
    while some := list(islice(rows, ROWS)):
        cells = [[] if isinstance(row, str) else [text_of(cell) for cell in row[:texts]] for _, row in some]
        known = iter(redactor([cell for cell in chain(*cells) if isinstance(cell, bytes)]).numpy())
        for (number, row), own in zip(some, cells, strict=True):
            if isinstance(row, str):
                yield number, row
            else:
                new = [next(known) if isinstance(text, bytes) else cell for text, cell in zip(own, row, strict=False)]
                yield number, [*new, *row[texts:]]


def redacted_texts(rows: Sequence[tuple[str, ...]], redaction: Redaction) -> list[tuple[str, ...]]:
    """Redacted texts of rows of as many texts each."""
    cells = ((number, list(texts)) for number, texts in enumerate(rows))
    found = redacted_rows(cells, len(rows[0]) if rows else 0, redaction)
    return [tuple(map(as_text, row)) for _, row in found]
