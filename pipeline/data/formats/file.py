"""A file on its way to a reader: its first bytes, unpacked, and ways to open it."""

import io
import re
import sys
from pathlib import Path
from typing import Any, BinaryIO, cast

from pipeline.data.formats.compression import BROKEN, MAGIC, Prefixed, opened, told_by_bytes
from pipeline.data.formats.lines import Lines
from pipeline.data.formats.notices import Notices
from pipeline.data.formats.options import ReadOptions, keeps_ascii
from pipeline.errors import UserError

# Bytes of the beginning that are looked at.
START = 4096
STANDARD_INPUT = "-"
# What files of these kinds begin with, none of which is text.
BINARY = {
    b"PAR1\x15": "a parquet file", b"ARROW1\0\0": "an Arrow file", b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Office file", b"%PDF-": "a PDF", b"SQLite format 3\0": "an SQLite database",
    b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture", b"\x89HDF": "an HDF5 file", b"\x7fELF": "a program",
}  # fmt: skip


def name_of(path: str) -> str:
    """What messages call a source."""
    return "standard input" if path == STANDARD_INPUT else path


class File:
    """A source with its options.

    Attributes:
        path: as given; "-" is standard input, which can be opened once.
        name: for messages.
        compression: what its bytes tell, "" or a suffix such as ".gz".
        start: its first bytes, unpacked.

    Raises:
        UserError: it cannot be read, its name and its bytes disagree on compression, or it is empty.
    """

    def __init__(self, path: str, options: ReadOptions, notices: Notices):
        self.path, self.options, self.notices = path, options, notices
        self.name = name_of(path)
        options.check_encodings()
        try:
            self._standard_input = None
            if path == STANDARD_INPUT:
                packed, stream = _peeked(cast(BinaryIO, sys.stdin.buffer))
                self.compression = told_by_bytes(packed)
                self.start, self._standard_input = _peeked(opened(stream, self.compression))
            else:
                with open(path, "rb") as stream:
                    self.compression = told_by_bytes(stream.read(10))
                self._check_name()
                with self.open() as stream:
                    self.start = stream.read(START)
        except BROKEN as error:
            raise UserError(f"{self.name} cannot be read: {error}") from error
        if not self.start:
            raise UserError(f"{self.name} is empty.")

    def open(self) -> BinaryIO:
        """Its bytes, unpacked."""
        if self._standard_input is not None:
            return self._standard_input
        return _Closing.of(self.path, self.compression)

    def open_seekable(self) -> BinaryIO:
        """Its bytes, unpacked, for formats that are not read from beginning to end."""
        if self._standard_input is None:
            return self.open()
        return io.BytesIO(self._standard_input.read())

    def lines(self, newline: str = "") -> Lines:
        """Its lines, decoded.

        Raises:
            UserError: its bytes are no text in the encoding of the options.
        """
        self._check_text()
        return Lines(self.open(), self, newline)

    def _check_name(self) -> None:
        suffix = Path(self.path).suffix.lower()
        if suffix in MAGIC and suffix != self.compression and Path(self.path).stat().st_size:
            found = f"those of a {self.compression} file" if self.compression else "others"
            raise UserError(f"{self.name} cannot be read: its name ends in {suffix}, but its bytes are {found}.")

    def _check_text(self) -> None:
        encoding = self.options.setting("encoding")
        for magic, what in BINARY.items():
            if self.start.startswith(magic):
                raise UserError(
                    f"{self.name} is {what} by its first bytes: rename it, or set {self.options.setting('format')}."
                )
        if not keeps_ascii(self.options.encoding):
            return
        if self.start.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UserError(
                f"{self.name}, line 1: not valid {self.options.encoding} at byte 0, where it has the mark of UTF-16: "
                f"set {encoding} to utf-16."
            )
        control = len(re.findall(rb"[\0-\x08\x0e-\x1a\x1c-\x1f]", self.start))
        if control < 4 or control < len(self.start) / 10:
            return
        if self.start.count(b"\0") > len(self.start) / 4:
            raise UserError(f"{self.name} has a NUL in every other byte: is it UTF-16? Set {encoding} to utf-16-le.")
        raise UserError(f"{self.name} is no text file: {control} of its first {len(self.start)} bytes are controls.")


class _Closing(io.BufferedReader):
    """An unpacked stream that closes the packed one with it."""

    @classmethod
    def of(cls, path: str, compression: str) -> BinaryIO:
        packed = open(path, "rb")  # noqa: SIM115
        return cast(BinaryIO, packed if not compression else cls(cast(Any, opened(packed, compression)), packed))

    def __init__(self, unpacked: Any, packed: BinaryIO):
        super().__init__(unpacked)
        self._packed = packed

    def close(self) -> None:
        super().close()
        self._packed.close()


def _peeked(stream: BinaryIO) -> tuple[bytes, BinaryIO]:
    """The first bytes of a stream, and a stream that has them still."""
    start = b""
    while len(start) < START and (data := stream.read(START - len(start))):
        start += data
    return start, cast(BinaryIO, io.BufferedReader(Prefixed(start, stream)))
