"""csv and tsv."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from pipeline.data.formats.cells import Nothing, as_text
from pipeline.data.formats.file import File
from pipeline.data.formats.lines import Lines, text_writer
from pipeline.errors import UserError

# Characters in one cell: more means a quote that is never closed, which would swallow the rest of the file.
LARGEST_CELL = 1 << 24


def read_csv(file: File, wanted: list[str] | None) -> Iterator:
    """RFC 4180."""
    return _read(file, ",", '"')


def read_tsv(file: File, wanted: list[str] | None) -> Iterator:
    """A quote is an ordinary character, and a row is a line."""
    return _read(file, "\t", "")


def _read(file: File, delimiter: str, quote: str) -> Iterator:
    csv.field_size_limit(LARGEST_CELL)
    options = file.options
    chosen = options.character("quote")
    quote = quote if chosen is None else chosen
    with file.lines() as lines:
        reader = csv.reader(
            lines,
            delimiter=options.character("delimiter") or delimiter,
            quotechar=quote or None,
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
            escapechar=options.character("escape"),
            strict=True,
        )
        try:
            header = options.column_names or next(filter(None, reader), None)
            if header is None:
                raise UserError(f"{file.name} is empty.")
            if problem := lines.take_problem():
                raise UserError(f"{file.name}: the header {problem}.")
            header = [name.strip().removeprefix("\ufeff") for name in header]
            yield header
            rows = _rows(reader, lines, header, file)
            yield from rows if quote else _whole(rows, file)
        except csv.Error as error:
            raise UserError(f"{file.name}, line {lines.row}: {error}{_advice(lines, file)}") from error


def _rows(reader: Any, lines: Lines, header: list[str], file: File) -> Iterator[tuple[int, list | str]]:
    lines.row = reader.line_num + 1
    for cells in reader:
        first, lines.row = lines.row, reader.line_num + 1
        if problem := lines.take_problem():
            yield first, problem
        elif not cells:
            yield first, Nothing("is blank")
        elif len(cells) != len(header):
            yield first, f"has {len(cells)} cells where the header has {len(header)}" + _quoted(cells, file)
        elif cells[0].strip() == header[0] and [cell.strip() for cell in cells] == header:
            file.notices.add("lines that repeat the header, left out", f"{file.name}, line {first}")
            yield first, Nothing("repeats the header")
        else:
            yield first, cells


def _whole(rows: Iterator[tuple[int, list | str]], file: File) -> Iterator[tuple[int, list | str]]:
    """Without quoting: the end of a quoted cell with a line break in it is no row of its own."""
    begun = 0
    for number, cells in rows:
        if isinstance(cells, str):
            begun = number if "begins a quoted cell" in cells else begun
        elif begun:
            if any(cell.endswith('"') and not cell.startswith('"') for cell in cells):
                cells = f"ends a quoted cell: line {begun} begins it; set {file.options.setting('quote')} to '\"'"
            begun = 0
        yield number, cells


def _quoted(cells: list[str], file: File) -> str:
    if not cells[-1].startswith('"') or cells[-1].count('"') % 2 == 0:
        return ""
    return f": it begins a quoted cell, where quotes are text; set {file.options.setting('quote')} to '\"'"


def _advice(lines: Lines, file: File) -> str:
    if '\\"' in lines.last and file.options.escape is None:
        return f' (quotes seem to be escaped as \\" here: set {file.options.setting("escape")} to \\)'
    return " (a quote that is never closed, or text after one?)"


@contextmanager
def write_csv(stream: BinaryIO, columns: list[str], types: dict) -> Iterator[Callable]:
    """RFC 4180, with \\n after a row."""
    with text_writer(stream) as text:

        class Rows:
            # Only where \r ends rows are cells quoted that hold one.
            def write(self, row: str) -> None:
                text.write(f"{row[:-2]}\n")

        writer = csv.writer(Rows(), lineterminator="\r\n")
        writer.writerow(columns)
        yield lambda rows: writer.writerows([as_text(cell) for cell in row] for row in rows)


@contextmanager
def write_tsv(stream: BinaryIO, columns: list[str], types: dict) -> Iterator[Callable]:
    """As `read_tsv` reads it: cells cannot hold tabs or line breaks."""
    with text_writer(stream) as text:

        def write(rows: list[list]) -> None:
            for row in rows:
                cells = [as_text(cell) for cell in row]
                held = next((cell for cell in cells if any(c in cell for c in "\t\r\n")), None)
                if held is not None:
                    raise UserError(f"a .tsv cannot hold the tab or line break in {held[:40]!r}: write a .csv.")
                text.write("\t".join(cells) + "\n")

        write([columns])
        yield write
