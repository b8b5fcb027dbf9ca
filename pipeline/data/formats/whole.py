"""Files that are there whole, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.data.formats.compression import opened
from pipeline.data.formats.table import suffixes
from pipeline.files import named_in_errors


@contextmanager
def whole_file(path: Path, attempt: str = "") -> Iterator[Any]:
    """A binary file that appears under its name, packed as that says, when all is written, or not at all.

    Args:
        path: of the file. It is written beside, as a hidden one, and renamed.
        attempt: part of the hidden name, where several processes may write the same file at a time: each writes a whole
            one, and the last stays.
    """
    partial = path.with_name(f".{path.name}{attempt}.partial")
    try:
        with named_in_errors(path), open(partial, "wb") as file:
            packed = opened(file, suffixes(str(path))[1], "wb")
            yield packed
            if packed is not file:
                packed.close()
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
