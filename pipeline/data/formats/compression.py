"""Compressed files, known by their first bytes."""

import bz2
import gzip
import io
import lzma
import zlib
from typing import Any, BinaryIO, cast

MAGIC = {".gz": b"\x1f\x8b", ".xz": b"\xfd7zXZ\0", ".bz2": b"BZh", ".zst": b"\x28\xb5\x2f\xfd"}
BROKEN = (EOFError, lzma.LZMAError, zlib.error, OSError)
"""What reading a damaged file raises."""


def told_by_bytes(start: bytes) -> str:
    """Suffix of the compression that a file's first ten bytes tell, "" for none."""
    if start.startswith(MAGIC[".bz2"]) and start[4:10] not in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return ""
    return next((suffix for suffix, magic in MAGIC.items() if start.startswith(magic)), "")


def opened(stream: Any, compression: str, mode: str = "rb") -> BinaryIO:
    """A binary stream, unpacked as it is read ("rb") or packed as it is written ("wb").

    Args:
        stream: open binary file.
        compression: a key of MAGIC, or "".
        mode: "rb" or "wb".
    """
    if compression == ".zst":
        import pyarrow as pa

        file = pa.PythonFile(stream, mode=mode[0])
        packed = (pa.CompressedInputStream if mode == "rb" else pa.CompressedOutputStream)(file, "zstd")
        return cast(BinaryIO, io.BufferedReader(packed) if mode == "rb" else packed)
    openers = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
    return openers[compression](stream, mode) if compression else stream


class Prefixed(io.RawIOBase):
    """A stream whose beginning was read already, whole again."""

    def __init__(self, start: bytes, rest: BinaryIO):
        self._start, self._rest = start, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        data = self._start[: len(buffer)] or self._rest.read(len(buffer))
        self._start = self._start[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)
