"""Files in buckets and on servers (s3://, gs://, https:// and what else fsspec knows), by way of this machine's disk.

What is read is copied once into the cache, under a name that its state decides: a file that changes is another file,
and one that does not is not fetched again. Nothing is deleted there. What is written is made here and then uploaded.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.errors import UserError
from pipeline.extras import require
from pipeline.files import full_disk, named_in_errors, replaced_folder
from pipeline.wheel import cache_folder

_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:///*", re.IGNORECASE)
# What tells that a file has changed, in the order of trust; each file system gives some of them.
_STATES = ("ETag", "etag", "md5Hash", "Content-MD5", "generation", "mtime", "LastModified", "Last-Modified",
           "last_modified", "modificationTime", "modify", "created")  # fmt: skip
# File systems with folders that have to be there before a file is written into them; buckets have none.
_WITH_FOLDERS = {"file", "local", "sftp", "ssh", "ftp", "smb", "hdfs", "webhdfs"}


def is_remote(source: object) -> bool:
    """Whether something is an address, such as gs://bucket/file."""
    return isinstance(source, str | os.PathLike) and _SCHEME.match(os.fspath(source)) is not None


def matches(pattern: str) -> list[str]:
    """The addresses of the files that a file, a pattern or a folder means; sorted, perhaps none.

    Raises:
        UserError: they cannot be listed.
    """
    with _explained(pattern, "listed") as (system, path):
        try:
            system.info(path)
        except FileNotFoundError:
            found = [each for each in system.glob(path) if not system.isdir(each)]
        else:
            found = system.find(path) if system.isdir(path) else [path]
        return sorted(system.unstrip_protocol(each) for each in found)


def state_of(address: str) -> tuple[int, str]:
    """Size in bytes, and a digest of what tells that a file has changed: where it says nothing else, its size.

    Raises:
        UserError: there is no such file, or it cannot be asked for.
    """
    size, known = _info(address)
    return size or 0, _digest(address, size, known)


def _digest(address: str, size: int | None, known: list[str]) -> str:
    return hashlib.sha256(repr((address, size, known)).encode()).hexdigest()


def _info(address: str) -> tuple[int | None, list[str]]:
    """Size in bytes, where it is known, and the first of _STATES that is."""
    with _explained(address, "read") as (system, path):
        info = system.info(path)
    return info.get("size"), [str(info[name]) for name in _STATES if info.get(name) is not None][:1]


def fetch(address: str) -> Path:
    """A copy of a file in the cache, as the file is now. One process makes it, others wait.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    size, known = _info(address)
    # The address is in the path, for messages.
    *folders, name = [re.sub(r"[^\w.=-]", "_", part) for part in places(address)]
    path = cache_folder().joinpath("remote", *folders, _digest(address, size, known)[:16], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / ".lock"):
        if not path.is_file():
            _download(address, path, size)
        elif not known:
            print(f"note: nothing but its size tells whether {address} has changed since it was copied; to copy it "
                  f"again, delete {path.parent}.")  # fmt: skip
    return path


def _download(address: str, path: Path, size: int | None) -> None:
    # Under one name: what a killed process left is written over.
    partial = path.with_name(f".{path.name}.partial")
    try:
        with named_in_errors(partial), _explained(address, "read") as (system, source):
            system.get_file(source, str(partial))
        if size is not None and partial.stat().st_size != size:
            raise UserError(f"{address}: {partial.stat().st_size} of {size} bytes came; start it again.")
        # Its time is no clock's: a copy that is made anew is the same file.
        os.utime(partial, (0, 0))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def fetch_all(pattern: str) -> list[str]:
    """Copies of the files that an address or a pattern means; of a folder, one folder.

    Raises:
        UserError: none is there, or one cannot be read.
    """
    found = matches(pattern)
    if not found:
        raise UserError(f"{pattern}: there is no such file (and no file matches it as a pattern).")
    root = without_scheme(pattern).rstrip("/")
    if not all(without_scheme(address).startswith(f"{root}/") for address in found):
        return [str(fetch(address)) for address in found]
    copies = {"/".join(places(address)).removeprefix(f"{root}/"): fetch(address) for address in found}
    # The folder is named by all that is in it.
    digest = hashlib.sha256("".join(map(str, copies.values())).encode()).hexdigest()
    folder = cache_folder() / "remote" / "folders" / digest[:16] / Path(root).name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".lock"):
        if not folder.is_dir():
            with replaced_folder(folder) as partial:
                for place, copy in copies.items():
                    (partial / place).parent.mkdir(parents=True, exist_ok=True)
                    _linked(copy, partial / place)
    return [str(folder)]


def _linked(copy: Path, place: Path) -> None:
    try:
        os.link(copy, place)
    except OSError:  # A file system without links.
        shutil.copy2(copy, place)


def upload(files: Iterable[Path], folder: Path, address: str) -> None:
    """Copy files, one after the other, to an address; what is there already is replaced.

    Args:
        files: of this machine.
        folder: that they lie in.
        address: of the folder to be.

    Raises:
        UserError: it cannot be written to.
    """
    with _explained(address, "written to") as (system, target):
        for path in files:
            place = f"{target.rstrip('/')}/{path.relative_to(folder).as_posix()}"
            # In a bucket it would make the bucket, were its name misspelled.
            protocols = [system.protocol] if isinstance(system.protocol, str) else system.protocol
            if _WITH_FOLDERS.intersection(protocols):
                system.makedirs(place.rsplit("/", 1)[0], exist_ok=True)
            system.put_file(str(path), place)


def remove(address: str, unwanted: Callable[[str], bool]) -> None:
    """Delete files of the folder at an address, if there is one.

    Args:
        address: of the folder.
        unwanted: whether a file is to go, by its path below the folder.

    Raises:
        UserError: it cannot be looked at, or written to.
    """
    with _explained(address, "written to") as (system, target):
        root = f"{target.rstrip('/')}/"
        for path in system.find(target):
            if unwanted(path.removeprefix(root)):
                system.rm_file(path)


def workplace(address: str) -> Path:
    """The folder of this machine where what is to be at an address is made, always the same."""
    return cache_folder() / "remote" / "made" / hashlib.sha256(address.encode()).hexdigest()[:16]


def without_scheme(address: str) -> str:
    """gs://bucket/a as bucket/a."""
    return _SCHEME.sub("", address, count=1)


def places(address: str) -> list[str]:
    """Folders and name of a file, as a path on this machine may have them; of https:// without a query.

    Raises:
        UserError: a part is empty, "." or "..", which a bucket allows and a disk takes for another place.
    """
    bare = without_scheme(address)
    if address.lower().startswith(("http://", "https://")):
        bare = bare.partition("?")[0]
    found = bare.split("/")
    if not {"", ".", ".."}.isdisjoint(found):
        raise UserError(f"{address}: a name with an empty part, . or .. has no place on a disk: give it another.")
    return found


def exists(address: str) -> bool:
    """Whether there is a file or a folder.

    Raises:
        UserError: it cannot be asked for.
    """
    with _explained(address, "read") as (system, path):
        return system.exists(path)


def names_in(address: str) -> list[str]:
    """Names of the files and folders in a folder, sorted; none where it is missing.

    Raises:
        UserError: it cannot be listed.
    """
    with _explained(address, "listed") as (system, path):
        try:
            found = system.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(each.rstrip("/").rpartition("/")[2] for each in found)


@contextmanager
def _explained(address: str, done: str) -> Iterator[tuple[Any, str]]:
    """The file system of an address, and its path there; whatever it raises becomes one sentence."""
    core = require("remote", "fsspec.core")
    try:
        system, path = core.url_to_fs(address)
        # What was listed once may have changed since.
        system.invalidate_cache()
        yield system, path
    except UserError:
        raise
    except ImportError as error:  # of the scheme's own package
        ours = "; pip install 'bert-pipeline[remote]' brings it" if address.startswith(("s3:", "gs:", "gcs:")) else ""
        raise UserError(f"{address}: {error}{ours}.") from error
    except FileNotFoundError as error:
        what = "file" if done != "written to" else "bucket or folder"
        raise UserError(f"{address}: there is no such {what}.") from error
    except Exception as error:  # each file system raises its own
        if isinstance(error, OSError) and full_disk(error, address):
            raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(".")
        raise UserError(f"{address} cannot be {done} ({reason}).") from error
