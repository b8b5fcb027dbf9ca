"""Excel workbooks (.xlsx): the first sheet, whose first row that is not empty names the columns."""

import datetime
import numbers
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from pipeline.data.formats.cells import Nothing, as_text, encodable
from pipeline.data.formats.file import File
from pipeline.errors import UserError
from pipeline.extras import require

# Of a cell and of a sheet.
MOST_CHARACTERS, MOST_ROWS = 32_767, 1_048_576


def read_xlsx(file: File, wanted: list[str] | None) -> Iterator:
    """Cells are strings, numbers, truth values or dates; of formulas the values that Excel stored."""
    openpyxl = _openpyxl(file.name)
    with file.open_seekable() as stream:
        try:
            book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
            sheet = book.worksheets[0]
        except Exception as error:  # whatever zipfile, the XML parser and openpyxl raise
            raise UserError(f"{file.name} is no Excel workbook: {error}") from error
        if len(book.worksheets) > 1:
            file.notices.add("workbooks of which only the first sheet is read", f"{file.name}, sheet {sheet.title!r}")
        # What a workbook says of its size may be wrong.
        sheet.reset_dimensions()
        rows = enumerate(_undamaged(sheet.iter_rows(values_only=True), file), 1)
        header = next((list(row) for _, row in rows if any(cell is not None for cell in row)), [])
        while header and header[-1] is None:
            header.pop()
        yield [as_text(name).strip() for name in header]
        for number, row in rows:
            cells = [*row[: len(header)], *[None] * (len(header) - len(row))]
            if any(cell is not None for cell in row[len(header) :]):
                yield number, f"has {len(row)} cells where the header has {len(header)}"
            elif all(cell is None for cell in cells):
                yield number, Nothing("is blank")
            else:
                yield number, cells


def _undamaged(rows: Iterator, file: File) -> Iterator:
    try:
        yield from rows
    except Exception as error:  # as above
        raise UserError(f"{file.name}: the workbook is damaged: {error}") from error


@contextmanager
def write_xlsx(stream: BinaryIO, columns: list[str], types: dict) -> Iterator[Callable]:
    """One sheet."""
    openpyxl = _openpyxl("an .xlsx output")
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.utils.exceptions import IllegalCharacterError, WorkbookAlreadySaved

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    written = 0

    def cell_of(value: Any) -> Any:
        if value is None or isinstance(value, numbers.Real | datetime.date | datetime.time):
            return value
        text = encodable(as_text(value))
        if len(text) > MOST_CHARACTERS:
            raise UserError(f"a cell of Excel holds {MOST_CHARACTERS:,} characters, not {len(text):,}: write a .csv.")
        try:
            cell = WriteOnlyCell(sheet, text)
        except IllegalCharacterError as error:
            raise UserError(f"Excel cannot hold the control characters of {text[:40]!r}: write a .csv.") from error
        # A text that begins with = is no formula.
        cell.data_type = "s"
        return cell

    def write(rows: list[list]) -> None:
        nonlocal written
        written += len(rows)
        if written > MOST_ROWS:
            raise UserError(f"a sheet of Excel holds {MOST_ROWS:,} rows: write a .csv.")
        for row in rows:
            sheet.append([cell_of(value) for value in row])

    try:
        write([columns])
        yield write
        book.save(stream)
    finally:
        # A sheet that was not saved would complain when it is collected.
        with suppress(WorkbookAlreadySaved):
            sheet.close()


def _openpyxl(what: str) -> Any:
    try:
        return require("excel", "openpyxl")
    except UserError as error:
        raise UserError(f"{what}: {error}") from error
