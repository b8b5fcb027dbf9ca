"""Files in buckets and on servers (s3://, gs://, https:// and what else fsspec knows), by way of this machine's disk.

What is read is copied once into the cache, under a name that its state decides: a file that changes is another file,
and one that does not is not fetched again. Nothing is deleted there. What is written is made here and then uploaded.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.extras import require
from pipeline.wheel import cache_folder

_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:///*", re.IGNORECASE)
# What tells that a file has changed, in the order of trust; each file system gives some of them.
_STATES = ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "last_modified", "created")


def is_remote(source: object) -> bool:
    """Whether something is an address, such as gs://bucket/file."""
    return isinstance(source, str | os.PathLike) and _SCHEME.match(os.fspath(source)) is not None


def matches(pattern: str) -> list[str]:
    """The addresses of the files that a file, a pattern or a folder means; sorted, perhaps none.

    Raises:
        UserError: they cannot be listed.
    """
    with _explained(pattern, "listed") as (system, path):
        if system.exists(path):
            found = system.find(path) if system.isdir(path) else [path]
        else:
            found = [each for each in system.glob(path) if not system.isdir(each)]
        return sorted(system.unstrip_protocol(each) for each in found)


def state_of(address: str) -> tuple[int, str]:
    """Size in bytes, and a digest of what tells that a file has changed.

    Raises:
        UserError: there is no such file, or it cannot be asked for.
    """
    with _explained(address, "read") as (system, path):
        info = system.info(path)
    known = [str(info[name]) for name in _STATES if info.get(name) is not None][:1]
    return int(info.get("size") or 0), hashlib.sha256(repr((address, info.get("size"), known)).encode()).hexdigest()


def fetch(address: str) -> Path:
    """A copy of a file in the cache, as the file is now.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    _, digest = state_of(address)
    # The address is in the path, for messages. Its time is no clock's: a copy that is made anew is the same file.
    place = re.sub(r"[^\w./=-]", "_", without_scheme(address)).split("/")
    folders = [part for part in place[:-1] if part not in ("", ".", "..")]
    path = cache_folder().joinpath("remote", *folders, digest[:16], place[-1])
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with _explained(address, "read") as (system, source):
                system.get_file(source, str(partial))
            os.utime(partial, (0, 0))
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    return path


def fetch_all(pattern: str) -> list[str]:
    """Copies of the files that an address or a pattern means; of a folder, one folder.

    Raises:
        UserError: none is there, or one cannot be read.
    """
    found = matches(pattern)
    if not found:
        raise UserError(f"{pattern}: there is no such file (and no file matches it as a pattern).")
    copies = {address: fetch(address) for address in found}
    root = f"{without_scheme(pattern).rstrip('/')}/"
    places = {without_scheme(address): copy for address, copy in copies.items()}
    if not all(place.startswith(root) for place in places):
        return [str(copy) for copy in copies.values()]
    # The folder is named by all that is in it.
    digest = hashlib.sha256("".join(map(str, copies.values())).encode()).hexdigest()
    folder = cache_folder() / "remote" / "folders" / digest[:16] / Path(root).name
    if not folder.is_dir():
        partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        for place, copy in places.items():
            link = partial / place.removeprefix(root)
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(copy, link)
        os.rename(partial, folder)
    return [str(folder)]


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
            system.makedirs(place.rsplit("/", 1)[0], exist_ok=True)
            system.put_file(str(path), place)


def workplace(address: str) -> Path:
    """The folder of this machine where what is to be at an address is made, always the same."""
    return cache_folder() / "remote" / "made" / hashlib.sha256(address.encode()).hexdigest()[:16]


def without_scheme(address: str) -> str:
    """gs://bucket/a as bucket/a."""
    return _SCHEME.sub("", address, count=1)


def exists(address: str) -> bool:
    """Whether there is a file or a folder.

    Raises:
        UserError: it cannot be asked for.
    """
    with _explained(address, "read") as (system, path):
        return system.exists(path)


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
        raise UserError(f"{address}: {error}; pip install 'bert-pipeline[remote]' brings s3fs and gcsfs.") from error
    except FileNotFoundError as error:
        raise UserError(f"{address}: there is no such file.") from error
    except Exception as error:  # each file system raises its own
        reason = f"{type(error).__name__}: {error}".partition("\n")[0].rstrip(".")
        raise UserError(f"{address} cannot be {done} ({reason}).") from error
