"""JSON: an object a line, or one array of objects."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from pipeline.data.formats.cells import as_text
from pipeline.data.formats.file import File
from pipeline.data.formats.lines import text_writer
from pipeline.data.formats.records import rows_of
from pipeline.errors import UserError

# Characters read at a time, and in one item of an array: more means a bracket that is never closed.
CHUNK, LARGEST_ITEM = 1 << 16, 1 << 26
# In an array, before its first item and between two.
_BLANK, _BETWEEN = re.compile(r"\s*"), re.compile(r"[ \t\r\n,]*")


def read_jsonl(file: File, wanted: list[str] | None) -> Iterator:
    """Blank lines are passed over. A file that begins with [ is one array."""
    with file.lines() as lines:
        records = _array(file, lines) if is_array(file) else _objects(lines)
        yield from rows_of(records, wanted)


def is_array(file: File) -> bool:
    """Whether a file of JSON is one array."""
    try:
        start = file.start.decode(file.options.encoding, "ignore")
    except UnicodeError:
        return False
    return start.lstrip("\ufeff \t\r\n").startswith("[")


def _objects(lines: Any) -> Iterator[tuple[int, dict | str]]:
    decode = json.JSONDecoder(object_pairs_hook=_object).decode
    for line in lines:
        if not line.isspace():
            yield lines.number, lines.take_problem() or _record(line, decode)


def _record(text: str, decode: Callable[[str], Any]) -> dict | str:
    try:
        record = decode(text)
    except (ValueError, RecursionError) as error:  # not JSON, or an integer or nesting without end
        return f"is not JSON: {getattr(error, 'msg', error)}"
    return record if isinstance(record, dict) else f"is a JSON {type(record).__name__} where an object is expected"


def _object(pairs: list[tuple[str, Any]]) -> dict:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return record


def _array(file: File, lines: Any) -> Iterator[tuple[int, dict | str]]:
    """Items of an array, with the text of one in memory."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    chunks = lines.chunks(CHUNK)
    text = next(chunks).lstrip("\ufeff \t\r\n")
    # Where in the text the next item is looked for: what is behind is cut off when more is read, not after each item,
    # or a large item would make each of those that were read with it as slow as itself.
    at, number, ended = 1, 0, False
    while True:
        blank = (_BETWEEN if number else _BLANK).match(text, at)
        assert blank is not None  # it matches nothing, too
        at = blank.end()
        if text.startswith("]", at):
            rest = text[at + 1 :] + next(chunks, "")
            if rest.strip():
                raise UserError(f"{file.name}: there is more after its JSON array, which ends with item {number}.")
            return
        try:
            _, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            # Perhaps only its end is not read yet; twice as much each time.
            size = len(text) - at
            more = "" if ended or size > LARGEST_ITEM else "".join(_some(chunks, max(size, CHUNK)))
            if not more:
                message = getattr(error, "msg", error)
                raise UserError(f"{file.name}, item {number + 1} of its array is not JSON: {message}.") from error
            text, at = text[at:] + more, 0
            continue
        if end == len(text) and not ended:
            # A number may go on in the next chunk.
            more = next(chunks, "")
            ended, text, end, at = not more, text[at:] + more, end - at, 0
            if more:
                continue
        number += 1
        item, problem = lines.mended(text[at:end], f"item {number}")
        yield number, problem or _record(item, decoder.decode)
        at = end


def _some(chunks: Iterator[str], size: int) -> Iterator[str]:
    while size > 0 and (chunk := next(chunks, "")):
        size -= len(chunk)
        yield chunk


@contextmanager
def write_jsonl(stream: BinaryIO, columns: list[str], types: dict) -> Iterator[Callable]:
    """An object a line; columns that were appended since belong to the rows that have them."""
    if len(set(columns)) < len(columns):
        name = next(name for name in columns if columns.count(name) > 1)
        raise UserError(f"JSON cannot hold the {columns.count(name)} columns named {name!r}: write a .csv.")
    with text_writer(stream) as text:

        def write(rows: list[list]) -> None:
            for row in rows:
                record = dict(zip(columns, map(_plain, row), strict=True))
                text.write(json.dumps(record, ensure_ascii=False, default=as_text) + "\n")

        yield write


def _plain(cell: Any) -> Any:
    return None if isinstance(cell, float) and cell - cell != 0 else cell
