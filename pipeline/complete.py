"""A run that has come to its end, so that the same command again does nothing. Imports no TensorFlow.

What it is judged by: every setting, the files that they name, this package's own code and TensorFlow's version, and
whether what the run has made is still there. A file is the same by size and time of change, or else, where files are
not too large together, by its content; what a setting names and is not found at all is no change, for the run has no
use for it.
"""

import hashlib
import itertools
import json
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import export
from export.versions import versions_in
from pipeline.config import Config
from pipeline.files import write_text
from pipeline.local_paths import local_files, remote_files
from pipeline.run_folder import fingerprint, read_metrics

FILE = "complete.json"
# Bytes of all files up to which contents are compared too, the smallest files first.
MOST_BYTES = 1 << 28
MADE = ("metrics.json", "report.html", "config.yaml")


@dataclass(frozen=True)
class State:
    """What a run could come out otherwise by."""

    key: str
    """Of settings, code and addresses."""
    files: dict[str, dict[str, list]]
    """By what a setting names and by path: size in bytes, time of change in nanoseconds, and in a run that is marked
    the digest of its content, or None."""


def mark(config: Config, state: State) -> None:
    """Note in the run's folder that all is done, of what `state_of` gave when it was begun."""
    run_dir = Path(str(config.run_dir))
    newest = next(reversed(versions_in(run_dir / "saved_model")), None)
    read = _to_be_read(state)
    files = {
        item: {
            path: [*about, _digest(path) if path in read and _about(path) == about else None]
            for path, about in inner.items()
        }
        for item, inner in state.files.items()
    }
    noted = {"state": state.key, "files": files, "exported": newest.name if newest and config.export.enabled else None}
    write_text(run_dir / FILE, json.dumps(noted))


def unmark(config: Config) -> None:
    """Take the note away, before a run that is not complete writes anything: killed, it leaves results of several
    settings, which none of them may take for its own."""
    (Path(str(config.run_dir)) / FILE).unlink(missing_ok=True)


def metrics_of_complete(config: Config, state: State) -> dict[str, Any] | None:
    """What metrics.json holds, of a run that is complete as it stands; None: there is something to do.

    Args:
        config: with run_dir set, as the run's folder has it.
        state: of `state_of`, now.
    """
    run_dir = Path(str(config.run_dir))
    if config.export.force or not (run_dir / FILE).is_file() or not all((run_dir / name).is_file() for name in MADE):
        return None
    noted = json.loads((run_dir / FILE).read_text(encoding="utf-8"))
    exported = noted.get("exported")
    if noted.get("state") != state.key or not _same_files(noted["files"], state.files):
        return None
    if config.export.enabled and not (exported and (run_dir / "saved_model" / exported).is_dir()):
        return None
    return read_metrics(run_dir)


def state_of(config: Config) -> State:
    """Changes with anything that a run could come out otherwise by. Taken before the files are read: one that changes
    while the run works is not taken for the one that it has read."""
    settings = fingerprint(replace(config, export=replace(config.export, force=False)))
    found = hashlib.sha256(f"{settings} {version('tensorflow')}".encode())
    for address, known in sorted(remote_files(config).items()):
        found.update(f"{address} {known}\n".encode())
    for package in (Path(__file__).parent, Path(str(export.__file__)).parent):
        for path in sorted(package.rglob("*")):
            if path.suffix in (".py", ".j2"):
                found.update(path.read_bytes())
    files = {
        item: {str(path): about for path in sorted(inner) if (about := _about(path))}
        for item, inner in local_files(config).items()
    }
    return State(found.hexdigest(), files)


def _to_be_read(state: State) -> set[str]:
    """The files whose contents are compared too."""
    found = {path: about[0] for inner in state.files.values() for path, about in inner.items()}
    smallest_first = sorted(found, key=lambda path: (found[path], path))
    totals = itertools.accumulate(found[path] for path in smallest_first)
    return {path for path, total in zip(smallest_first, totals, strict=True) if total <= MOST_BYTES}


def _same_files(noted: dict[str, dict[str, list]], found: dict[str, dict[str, list]]) -> bool:
    """Whether all that is found is as it was noted."""
    for item, inner in found.items():
        before = noted.get(item, {})
        if inner and inner.keys() != before.keys():
            return False
        for path, about in inner.items():
            *as_noted, digest = before[path]
            same = about == as_noted or (digest is not None and about[0] == as_noted[0] and _digest(path) == digest)
            if not same:
                return False
    return True


def _about(path: Path | str) -> list[int] | None:
    """Size and time of change; None: it is gone."""
    try:
        about = Path(path).stat()
    except OSError:
        return None
    return [about.st_size, about.st_mtime_ns]


def _digest(path: str) -> str:
    """Of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
