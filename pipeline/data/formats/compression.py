"""Compressed files, known by their first bytes."""

import bz2
import gzip
import io
import lzma
import zlib
from typing import Any, BinaryIO, cast

from pipeline.errors import UserError

MAGIC = {".gz": b"\x1f\x8b", ".xz": b"\xfd7zXZ\0", ".bz2": b"BZh", ".zst": b"\x28\xb5\x2f\xfd"}
BROKEN = (EOFError, lzma.LZMAError, zlib.error, OSError)
"""What reading a damaged file raises."""


def told_by_bytes(start: bytes) -> str:
    """Suffix of the compression that a file's first ten bytes tell, "" for none."""
    if start[1:4] == b"*M\x18" and 0x50 <= start[0] <= 0x5F:
        return ".zst"  # a frame to be skipped, with which pzstd begins
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
        return _zstandard(stream, mode)
    openers = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
    return openers[compression](stream, mode) if compression else stream


def arrow_has_zstandard() -> bool:
    """Not everybody's build of pyarrow has."""
    import pyarrow as pa

    return pa.Codec.is_available("zstd")


def _zstandard(stream: Any, mode: str) -> BinaryIO:
    import pyarrow as pa

    if arrow_has_zstandard():
        file = pa.PythonFile(stream, mode=mode[0])
        packed = (pa.CompressedInputStream if mode == "rb" else pa.CompressedOutputStream)(file, "zstd")
        return cast(BinaryIO, io.BufferedReader(packed) if mode == "rb" else packed)
    try:
        import zstandard  # pyright: ignore[reportMissingImports]  # only where pyarrow was built without it
    except ImportError as error:
        raise UserError("pyarrow has no zstandard here: pip install zstandard, to use .zst files.") from error
    if mode == "rb":
        reader = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True, closefd=False)
        return cast(BinaryIO, io.BufferedReader(reader))
    return cast(BinaryIO, zstandard.ZstdCompressor().stream_writer(stream, closefd=False))


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
