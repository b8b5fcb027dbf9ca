"""The files of a batch: where their answers go, and what a run of the batch has found out about each."""

import glob
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from export.texts import files_of
from pipeline import remote
from pipeline.data.formats import suffixes
from pipeline.data.formats.file import STANDARD_INPUT
from pipeline.errors import UserError
from pipeline.files import digest_of, write_text

# Of the output folder; what begins with _ is no data to pyarrow, Spark and Hive.
STATE = "_inputs"


@dataclass(frozen=True)
class Source:
    """A file of the input.

    Attributes:
        path: of the file, absolute, or its address; whoever answers a part of it has a copy (see pipeline.remote).
        name: of its answers: its path below the folder that the pattern begins with, without suffixes.
        size: in bytes (of a folder of texts, that of all of them).
        changed: when it was modified, in nanoseconds (of a folder or an address, a
            number that changes with it).
    """

    path: str
    name: str
    size: int
    changed: int

    def local(self) -> str:
        """Its path on this machine."""
        return str(remote.fetch(self.path)) if remote.is_remote(self.path) else self.path

    def check(self) -> None:
        """See that it is still the file that it was when the batch began.

        Raises:
            UserError: it is not.
        """
        if _identity(self.path) != (self.size, self.changed):
            raise UserError(f"{self.path} has changed while it was answered: let it be written first, and start again.")


@dataclass(frozen=True)
class State:
    """What is kept of a file, from the first time that it is read."""

    size: int
    changed: int
    parts: int | None = None
    """How many parts it has; None: it has not been read to its end."""
    rows: int | None = None
    """How many rows are answered in them."""
    notices: dict | None = None
    """What was met behind its last row."""

    def is_of(self, source: Source) -> bool:
        """Whether the file is still the same."""
        return (self.size, self.changed) == (source.size, source.changed)


def check_pattern(pattern: str) -> None:
    """Refuse an --input that is no file.

    Raises:
        UserError: it is not.
    """
    if pattern == STANDARD_INPUT:
        raise UserError("--input -: standard input cannot be read again after a failure; write it to a file.")


def sources_of(pattern: str, output: Path, address: str | None = None) -> list[Source]:
    """The files that --input names, in the order of their names, without those of the output.

    Args:
        pattern: or an address.
        output: folder of the answers, on this machine.
        address: where they are uploaded to, if anywhere.

    Raises:
        UserError: there is none, or the answers of two would have one name.
    """
    if remote.is_remote(pattern):
        inside = f"{remote.without_scheme(address).rstrip('/')}/" if address else None
        found = {path: "/".join(remote.places(path)) for path in remote.matches(pattern)}
        paths = {path: place for path, place in found.items() if inside is None or not place.startswith(inside)}
    else:
        found = files_of(pattern, "input")
        paths = {os.path.abspath(path): path for path in found if not _is_in(path, output)}
    if found and not paths:
        raise UserError(f"--output {address or output} is the folder of the input: give the answers one of their own.")
    return _named(paths, pattern)


def _named(paths: dict[str, str], pattern: str) -> list[Source]:
    """Sources of files, as they are spelled in the pattern."""
    if not paths:
        raise UserError(f"--input {pattern}: no such file.")
    bare = remote.without_scheme(pattern)
    root = _beginning(bare) if glob.has_magic(bare) and not Path(pattern).exists() else Path(bare).parent
    names: dict[str, str] = {}
    found = []
    for path, spelled in paths.items():
        name = _bare(Path(spelled).relative_to(root))
        if name in names:
            raise UserError(f"{names[name]} and {path} would have answers of one name: give one --output to each.")
        names[name] = path
        found.append(Source(path, name, *_identity(path)))
    return found


def state_of(folder: Path, source: Source) -> State | None:
    """What is kept of a file; None: it was not begun."""
    path = _state_file(folder, source)
    return State(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def keep(folder: Path, source: Source, **found) -> None:
    """Keep what was found out about a file."""
    write_text(_state_file(folder, source), json.dumps(asdict(State(source.size, source.changed, **found))))


def _state_file(folder: Path, source: Source) -> Path:
    return folder / STATE / f"{source.name}.json"


def _beginning(pattern: str) -> Path:
    """The folder that holds all that a pattern may mean."""
    parts = Path(pattern).parts
    return Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])


def _is_in(path: str, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def _bare(path: Path) -> str:
    suffix, compression = suffixes(str(path))
    return str(path)[: len(str(path)) - len(suffix) - len(compression)]


def _identity(path: str) -> tuple[int, int]:
    """Size and time of the last change, of a folder its files' size and what stands for all of them, of an address what
    stands for it."""
    if remote.is_remote(path):
        size, digest = remote.state_of(path)
        return size, int(digest[:12], 16)
    if os.path.isdir(path):
        files = sorted(file for file in Path(path).rglob("*") if file.is_file())
        return sum(file.stat().st_size for file in files), int(digest_of(Path(path), files)[:12], 16)
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns
