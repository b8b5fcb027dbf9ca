"""Files and folders that appear complete or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_text(path: str | os.PathLike, text: str, errors: str = "strict") -> None:
    """Write UTF-8 to a temporary file, then rename it; missing folders are made. `errors` is as in str.encode."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(text.encode("utf-8", errors))
    os.replace(partial, path)


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder to write into, which takes the place of `folder` at the end, and is deleted where writing fails.

    What killed processes left behind is deleted too.
    """
    temporary = folder.with_name(f".{folder.name}-{os.getpid()}")
    for abandoned in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Flush all that a folder holds to disk, and itself, so that a rename cannot outlive what it names."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
