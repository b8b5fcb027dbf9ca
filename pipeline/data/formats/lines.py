"""Decoded lines of a text file, and the format of one text a line.

A line that is not valid in the file's encoding is decoded in the fallback, if there is one, or is a bad row; the lines
around it are read on.
"""

import codecs
import contextlib
import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from pipeline.data.formats.cells import Nothing
from pipeline.data.formats.options import keeps_ascii
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.data.formats.file import File

# Bytes that could not be decoded, as the error handler "surrogateescape" leaves them in a string.
ESCAPED = re.compile("[\udc80-\udcff]")
# Control characters that latin-1 makes of bytes that mean letters elsewhere, in cp1252 for example.
CONTROL = re.compile("[\x80-\x9f]")
MARK = "\ufeff"


class Lines:
    """The lines of a text file, with their ends as they are; an iterator to be closed.

    Args:
        stream: unpacked bytes.
        file: what it is, its options and notices.
        newline: as for open().

    Attributes:
        number: of the line that came last, from 1.
        last: that line.
        row: number of the first line of the row that is being read, kept by who reads rows.
        problem: of the first line since `take_problem` that could not be decoded, "" if there was none.
    """

    def __init__(self, stream: BinaryIO, file: "File", newline: str = ""):
        self._encoding, self._file = file.options.encoding, file
        self._bytewise = keeps_ascii(self._encoding)
        errors = "surrogateescape" if self._bytewise else "strict"
        # A byte-order mark is not part of the first column's name.
        encoding = "utf-8-sig" if codecs.lookup(self._encoding).name == "utf-8" else self._encoding
        self._text = io.TextIOWrapper(stream, encoding, errors, newline)
        self.number, self.row, self.last, self.problem = 0, 1, "", ""

    def __iter__(self) -> Iterator[str]:
        for line in self._text:
            self.number += 1
            if not line.isascii():
                line = self._checked(line)
            self.last = line
            yield line

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_) -> None:
        self._text.close()

    def take_problem(self) -> str:
        """What is wrong with the lines since the last call, as the end of a sentence about the row."""
        problem, self.problem = self.problem, ""
        return problem

    def chunks(self, size: int) -> Iterator[str]:
        """All text, in parts; bytes that cannot be decoded are left in it for `mended`."""
        while chunk := self._text.read(size):
            yield chunk

    def mended(self, text: str, where: str) -> tuple[str, str]:
        """A line or other part, decoded, and what is wrong with it, "" if nothing is."""
        if not self._bytewise or encodes(text) or (bad := ESCAPED.search(text)) is None:
            return text, ""
        encoding, options = self._encoding, self._file.options
        fallback, setting = options.encoding_fallback, options.setting("encoding")
        byte = len(text[: bad.start()].encode(encoding, "surrogateescape")) + 1
        place = f"byte {byte} of {where} (0x{ord(bad[0]) - 0xDC00:02x})"
        if not fallback:
            other = options.setting("encoding_fallback")
            return text, f"is not valid {encoding}: {place}; set {setting}, or {other} for such lines"
        try:
            text = decode(text.encode(encoding, "surrogateescape"), fallback)
        except UnicodeError:
            return text, f"is valid neither as {encoding} nor as {fallback}: {place}; set {setting}"
        self._file.notices.add(f"lines not valid {encoding}, read as {fallback}", f"{self._file.name}, {where}")
        return text, ""

    def _checked(self, line: str) -> str:
        where = f"line {self.number}"
        line, problem = self.mended(line, where)
        self.problem = self.problem or problem
        if line.startswith(MARK):
            if self.number > 1:
                self._file.notices.add("byte-order marks inside the file, left out", f"{self._file.name}, {where}")
            line = line.removeprefix(MARK)
        return line


def encodes(text: str) -> bool:
    """Whether a string holds no halves of surrogate pairs; faster than to search for them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def decode(data: bytes, encoding: str) -> str:
    """Bytes that another encoding did not fit.

    Raises:
        UnicodeError: this one does not either: it fails, or gives control characters.
    """
    text = data.decode(encoding)
    if CONTROL.search(text):
        raise UnicodeError(f"control characters in {encoding}")
    return text


def read_lines(file: "File", wanted: list[str] | None) -> Iterator:
    """One text a line; two wanted columns are parted by a tab."""
    columns = wanted or ["text"]
    if len(columns) > 2:
        raise UserError(f"{file.name} has one text a line and no columns: set {file.options.setting('format')}.")
    yield columns
    with file.lines(newline="\n") as lines:
        for line in lines:
            yield lines.number, lines.take_problem() or cells_of(line.rstrip("\r\n"), columns)


def cells_of(line: str, columns: list[str]) -> list[str] | str:
    """One text; or, where there are more columns, as many cells with tabs between."""
    if not line:
        return Nothing("is blank")
    cells = line.split("\t", len(columns) - 1) if len(columns) > 1 else [line]
    if len(cells) == len(columns):
        return cells
    return (
        "has one text, not two with a tab between"
        if len(columns) == 2
        else (f"has {len(cells)} cells, not {len(columns)} with tabs between")
    )


@contextlib.contextmanager
def text_writer(stream: BinaryIO) -> Iterator[io.TextIOWrapper]:
    """UTF-8 onto a binary stream, which stays open."""
    text = io.TextIOWrapper(stream, "utf-8", "replace", newline="", write_through=True)
    try:
        yield text
    finally:
        text.detach()
