"""A file of the input as parts of consecutive rows, each answered on its own, into a file of its own.

Part k of a file has its rows from k * part_rows on. A parquet file says how many rows it has, and whoever answers a
part reads it there: only the row groups that it lies in. A file of any other format is read from beginning to end
by one process, and its parts hold their rows: enough for some 200 cores (benchmarks/README.md). Parts that are there
already are not given again.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from export.batch.inputs import Source, keep, state_of
from export.batch.job import Job
from export.texts import Row
from pipeline.data.formats import Notices, count_rows, options_of


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a file; it can be pickled.

    Attributes:
        source: the file.
        number: of the part, from 0.
        within: the rows of the file, to be read there; None: they are in `rows`.
        rows, columns, types, notices: as export.texts.Texts gives them.
        early: how many of the columns were known when the file was opened.
    """

    source: Source
    number: int
    within: range | None = None
    rows: list[Row] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    types: dict[str, Any] = field(default_factory=dict)
    notices: dict = field(default_factory=dict)
    early: int = 0


def parts_of(job: Job, source: Source) -> Iterator[Part]:
    """The parts of a file that are not answered yet.

    How many it has is kept as soon as it is known, so that a file that is answered to its end is not read again.

    Raises:
        ValueError: the file, or a row of it, cannot be used.
    """
    state = state_of(job.folder, source)
    if state is not None and state.parts is not None and not missing_parts(job, source, state.parts):
        return
    rows = count_rows(source.local(), options_of(job.options))
    yield from _counted(job, source, rows) if rows is not None else _read(job, source)


def missing_parts(job: Job, source: Source, parts: int) -> list[int]:
    """The numbers of the parts whose answers are not there."""
    return [number for number in range(parts) if not job.path(source, number).exists()]


def _counted(job: Job, source: Source, rows: int) -> Iterator[Part]:
    size = job.options.part_rows
    parts = range(0, rows, size)
    keep(job.folder, source, parts=len(parts), rows=rows)
    for number in missing_parts(job, source, len(parts)):
        yield Part(source, number, range(parts[number], min(parts[number] + size, rows)))


def _read(job: Job, source: Source) -> Iterator[Part]:
    texts = job.texts(source)
    iterator, done, early = iter(texts), 0, len(texts.columns)
    for number in itertools.count():
        rows = list(itertools.islice(iterator, job.options.part_rows))
        notices = Notices(texts.notices)
        if not rows:
            break
        texts.notices.clear()
        done += len(rows)
        if not job.path(source, number).exists():
            yield Part(source, number, None, rows, list(texts.columns), texts.types, notices, early)
    source.check()
    keep(job.folder, source, parts=number, rows=done, notices=notices)
