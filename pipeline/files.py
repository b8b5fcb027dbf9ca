"""Files and folders that appear complete or not at all, and what tells whether they have changed."""

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

# What a full disk, a quota and a limit on sizes raise.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_text(path: str | os.PathLike, text: str, errors: str = "strict") -> None:
    """Write UTF-8 to a temporary file, then rename it; missing folders are made. `errors` is as in str.encode."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with named_in_errors(path):
            partial.write_bytes(text.encode("utf-8", errors))
            os.replace(partial, path)
    except OSError:
        # A full disk gets back what half a file has taken.
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def named_in_errors(path: str | os.PathLike) -> Iterator[None]:
    """Gives errors of writing, which know no name, the one of what is being written."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and error.filename is None:
            error.filename = os.fspath(path)
        raise


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder to write into, which takes the place of `folder` at the end, and is deleted where writing fails.

    What killed processes left behind is deleted too.
    """
    temporary = folder.with_name(f".{folder.name}-{os.getpid()}")
    for abandoned in folder.parent.glob(f".{glob.escape(folder.name)}-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with named_in_errors(folder):
            yield temporary
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_pattern(path: str | os.PathLike) -> bool:
    """Whether TensorFlow, which looks for the files of a checkpoint by a pattern, would not find them at this path."""
    return bool(set("[\\") & set(os.fspath(path)))


@contextmanager
def literal(folder: Path) -> Iterator[Path]:
    """The folder by a path where TensorFlow finds the files of a checkpoint: itself, or for the time a link to it."""
    if not is_pattern(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        link = Path(temporary, "folder")
        link.symlink_to(folder.absolute(), target_is_directory=True)
        yield link


def sync_folder(folder: Path) -> None:
    """Flush all that a folder holds to disk, and itself, so that a rename cannot outlive what it names."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def full_disk(error: BaseException, folder: str | os.PathLike) -> str | None:
    """A sentence for the user, where an error says that a disk or a quota is full; None for any other error.

    Args:
        error: of Python, or of TensorFlow, whose checkpoints and SavedModels have only the words of the system.
        folder: named where the error names no file, which is being written to.
    """
    if isinstance(error, OSError):
        if error.errno not in _FULL:
            return None
        number = error.errno
        folder = error.filename if isinstance(error.filename, (str, os.PathLike)) else folder
    else:
        number = next((number for number in _FULL if os.strerror(number) in str(error)), None)
        if number is None:
            return None
    return (
        f"{folder} cannot be written to ({os.strerror(number)}): make room there and start again, to go on from what "
        "is saved."
    )


def in_a_sentence(error: Exception, folder: str | os.PathLike, told: tuple[type[Exception], ...]) -> str:
    """What a command says of an error before it ends.

    Args:
        error: any; one that is neither a full disk nor `told` is raised again.
        folder: as of `full_disk`.
        told: kinds whose message is meant for the user.
    """
    sentence = full_disk(error, folder)
    if sentence is None and not isinstance(error, told):
        raise error
    return sentence or str(error)


def digest_of(folder: Path, files: Iterable[Path]) -> str:
    """Changes with the files in a folder: where each lies, its size and its time. A file that is moved within the
    folder, to another label, keeps the last two."""
    found = hashlib.sha256()
    for file in files:
        status = file.stat()
        found.update(
            f"{file.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape")
        )
    return found.hexdigest()
