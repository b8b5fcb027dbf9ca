"""The formats, and any source in one of them as a table."""

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.data.formats import arrow, delimited, excel, jsonl, lines, tfrecord, wiki
from pipeline.data.formats.compression import BROKEN, MAGIC
from pipeline.data.formats.file import STANDARD_INPUT, File, name_of
from pipeline.data.formats.folder import files_of, read_folder
from pipeline.data.formats.notices import Notices
from pipeline.data.formats.options import ReadOptions
from pipeline.errors import UserError


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        read: (file, wanted columns or None) to an iterator of, first, the names of the columns, then rows: (number,
            cells of these columns, or what is wrong as the end of a sentence). It may leave out columns not wanted.
        suffixes: of file names.
        write: (binary stream, columns, {column: type}) to a context that gives a function to write a list of rows.
        unit: what the number of a row counts.
        count: a file's rows, where that is known without reading them; `read` then takes a range of them, too.
        types: of a file's columns, as Arrow has them.
        magic: what its files begin with; none: text.
        packed: compressions that it is read through; None: any.
    """

    read: Callable[..., Iterator]
    suffixes: tuple[str, ...] = ()
    write: Callable[[Any, list[str], dict], Any] | None = None
    unit: str = "line"
    magic: tuple[bytes, ...] = ()
    packed: tuple[str, ...] | None = None
    count: Callable[[File], int] | None = None
    types: Callable[[File], dict[str, Any]] | None = None


FORMATS = {
    "csv": Format(delimited.read_csv, (".csv",), delimited.write_csv),
    "tsv": Format(delimited.read_tsv, (".tsv", ".txt"), delimited.write_tsv),
    "jsonl": Format(jsonl.read_jsonl, (".jsonl", ".ndjson", ".json"), jsonl.write_jsonl),
    "lines": Format(lines.read_lines),
    "parquet": Format(arrow.read_parquet, (".parquet",), arrow.write_parquet, "row", (b"PAR1",), (),
                      arrow.count_parquet, arrow.types_of),
    "arrow": Format(arrow.read_arrow, (".arrow", ".feather"), arrow.write_arrow, "row",
                    (b"ARROW1", b"\xff\xff\xff\xff"), (), None, arrow.types_of),
    "xlsx": Format(excel.read_xlsx, (".xlsx",), excel.write_xlsx, "row", (b"PK\x03\x04",), ()),
    "tfrecord": Format(tfrecord.read_tfrecord, (".tfrecord", ".tfrecords"), None, "record"),
    "wiki_doc": Format(wiki.read_wiki_doc),
    "wiki_json": Format(wiki.read_wiki_json),
    "mediawiki": Format(wiki.read_mediawiki, unit="page"),
}  # fmt: skip


class Table:
    """Rows of a source: iterates over (number, cells), once.

    In place of cells a row that cannot be used has what is wrong with it, as the end of a sentence about the row; a
    line that is no row (blank, or the header once more) has `Nothing`.

    Attributes:
        columns: names of the cells, without white space at their ends.
        types: of columns, as Arrow has them, where the format has types.
        notices: what was met on the way, counted.
    """

    def __init__(
        self,
        source: str,
        columns: list[str],
        rows: Iterator[tuple[int, list | str]],
        unit: str,
        options: ReadOptions,
        notices: Notices,
        types: dict[str, Any] | None = None,
    ):
        self.source, self.columns, self.notices, self.types = source, columns, notices, types or {}
        self._rows, self._unit, self._options = rows, unit, options

    def __iter__(self) -> Iterator[tuple[int, list | str]]:
        return self._rows

    def place(self, number: int) -> str:
        """A row, for messages."""
        return self._placer(number)

    @cached_property
    def _placer(self) -> Callable[[int], str]:
        return _placer(self.source, self._unit)

    def places(self, wanted: list[str]) -> list[int]:
        """Where the wanted columns stand.

        Raises:
            UserError: one is missing, or there are two of its name.
        """
        return _places(name_of(self.source), self.columns, wanted, self._options)


def open_table(
    source: str,
    options: ReadOptions,
    wanted: list[str] | None = None,
    notices: Notices | None = None,
    within: range | None = None,
) -> Table:
    """Open a file, a folder of label/*.txt or "-", standard input; rows are read as they are taken.

    Args:
        source: path.
        options: how to read it.
        wanted: the columns whose cells are given, in this order; None: all of the file.
        notices: where to count what should be known.
        within: the rows to read, from 0, of a file whose rows `count_rows` tells; None: all.

    Raises:
        UserError: here or while rows are taken: the file cannot be read, its name or bytes do not tell its format or
            disagree, or a wanted column is missing. The message names file and row.
    """
    notices = Notices() if notices is None else notices
    types = {}
    if Path(source).is_dir():
        rows, unit = read_folder(source, options, notices), "file"
    else:
        kind = format_of(source, options)
        file = File(source, options, notices)
        _check_bytes(file, kind)
        unit = _unit(file, kind)
        if (types_of := FORMATS[kind].types) is not None and source != STANDARD_INPUT:
            types = types_of(file)
        rows = _explained(FORMATS[kind].read(file, wanted, *([] if within is None else [within])), file)
    columns = next(rows)
    if wanted is not None and columns != wanted:
        places = _places(name_of(source), columns, wanted, options)
        rows = ((number, c if isinstance(c, str) else [c[i] for i in places]) for number, c in rows)
        columns = list(wanted)
    return Table(source, columns, rows, unit, options, notices, types)


def count_rows(source: str, options: ReadOptions) -> int | None:
    """The rows of a file, where its format tells them without reading them; else None."""
    if Path(source).is_dir() or (count := FORMATS[format_of(source, options)].count) is None:
        return None
    return count(File(source, options, Notices()))


def format_of(source: str, options: ReadOptions, default: str | None = None) -> str:
    """Name of a file's format: of the options, or by its name; `default` where neither tells.

    Raises:
        UserError: there is no such format, or nothing tells it.
    """
    setting, names = options.setting("format"), ", ".join(FORMATS)
    if options.format is not None:
        if options.format not in FORMATS:
            raise UserError(f"{setting} {options.format!r}: it is one of {names}.")
        return options.format
    found = format_by_name(source) or default
    if found is None and source == STANDARD_INPUT:
        return "lines"
    if found is None:
        raise UserError(f"{source}: its name does not tell the format; set {setting} ({names}).")
    return found


def format_by_name(path: str) -> str | None:
    """Name of the format that a file's name tells, whatever its compression."""
    suffix = suffixes(path)[0]
    return next((name for name, known in FORMATS.items() if suffix in known.suffixes), None)


def suffixes(path: str) -> tuple[str, str]:
    """What a file's name ends in, (".csv", ".gz") for example; "" for what it lacks."""
    found = [suffix.lower() for suffix in Path(path).suffixes]
    compression = found.pop() if found and found[-1] in MAGIC else ""
    return (found[-1] if found else ""), compression


def placer(source: str, options: ReadOptions) -> Callable[[int], str]:
    """What names the rows of a source that was read, for messages; the source may be gone."""
    try:
        unit = "file" if Path(source).is_dir() else _unit(File(source, options, Notices()), format_of(source, options))
    except UserError:
        unit = "row"
    return _placer(source, unit)


def _placer(source: str, unit: str) -> Callable[[int], str]:
    if unit == "file":
        files = files_of(source)  # listed once, whatever the number of rows
        return lambda number: str(files[number - 1])
    return lambda number: f"{name_of(source)}, {unit} {number}"


def _unit(file: File, kind: str) -> str:
    return "item" if kind == "jsonl" and jsonl.is_array(file) else FORMATS[kind].unit


def _check_bytes(file: File, kind: str) -> None:
    packed, magic = FORMATS[kind].packed, FORMATS[kind].magic
    if file.compression and packed is not None and file.compression not in packed:
        raise UserError(f"{file.name}: a {kind} file is not read through {file.compression}; unpack it first.")
    if magic and not file.start.startswith(magic):
        raise UserError(f"{file.name} is no {kind} file by its first bytes: set {file.options.setting('format')}.")


def _explained(rows: Iterator, file: File) -> Iterator:
    """The same; errors of reading and decoding become a UserError."""
    try:
        yield from rows
    except UnicodeDecodeError as error:
        line, byte = _first_undecodable(file)
        encoding = file.options.encoding
        raise UserError(
            f"{file.name}, line {line}: not valid {encoding} at byte {byte} ({error.reason}); "
            f"set {file.options.setting('encoding')}."
        ) from error
    except UnicodeError as error:
        raise UserError(f"{file.name} is not valid {file.options.encoding}: {error}.") from error
    except BROKEN as error:
        raise UserError(f"{file.name} cannot be read: {error}") from error


def _first_undecodable(file: File) -> tuple[int, int]:
    """(line, byte counted from 0 in the unpacked file) where decoding fails."""
    if file.path == STANDARD_INPUT:
        return 1, 0
    decoder = codecs.getincrementaldecoder(file.options.encoding)()
    line, read = 1, 0
    with file.open() as stream:
        while True:
            chunk = stream.read(1 << 20)
            state = decoder.getstate()
            try:
                line += decoder.decode(chunk, final=not chunk).count("\n")
            except UnicodeDecodeError as error:
                # The decoder holds back the beginning of a character that the last chunk cut.
                good = error.start - len(state[0])
                decoder.setstate(state)
                return line + decoder.decode(chunk[: max(good, 0)]).count("\n"), read + good
            if not chunk:
                return line, read
            read += len(chunk)


def _places(name: str, columns: list[str], wanted: list[str], options: ReadOptions) -> list[int]:
    for column in wanted:
        if column not in columns:
            known = ", ".join(map(repr, columns)) or "none"
            raise UserError(f"{name} has no column {column!r}; it has {known}{_separated(columns, column, options)}.")
        if columns.count(column) > 1:
            raise UserError(f"{name} has {columns.count(column)} columns named {column!r}: rename all but one.")
    return [columns.index(column) for column in wanted]


def _separated(columns: list[str], wanted: str, options: ReadOptions) -> str:
    """Where a header holds what is wanted, but not alone: how its cells seem to be separated."""
    for delimiter in (";", "\t", "|", ","):
        if any(wanted in [part.strip(' "') for part in name.split(delimiter)] for name in columns):
            return f": its cells seem to be separated by {delimiter!r}; set {options.setting('delimiter')}"
    return ""
