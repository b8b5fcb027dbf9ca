"""A run that has come to its end, so that the same command again does nothing. Imports no TensorFlow.

What it is judged by: every setting, the files that they name (size and time of change), this package's own code and
TensorFlow's version, and whether what the run has made is still there.
"""

import hashlib
import json
from dataclasses import replace
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
MADE = ("metrics.json", "report.html", "config.yaml")


def mark(config: Config, state: str) -> None:
    """Note in the run's folder that all is done, of what `state_of` gave when it was begun."""
    run_dir = Path(str(config.run_dir))
    newest = next(reversed(versions_in(run_dir / "saved_model")), None)
    noted = {"state": state, "exported": newest.name if newest and config.export.enabled else None}
    write_text(run_dir / FILE, json.dumps(noted))


def unmark(config: Config) -> None:
    """Take the note away, before a run that is not complete writes anything: killed, it leaves results of several
    settings, which none of them may take for its own."""
    (Path(str(config.run_dir)) / FILE).unlink(missing_ok=True)


def metrics_of_complete(config: Config, state: str) -> dict[str, Any] | None:
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
    if noted.get("state") != state:
        return None
    if config.export.enabled and not (exported and (run_dir / "saved_model" / exported).is_dir()):
        return None
    return read_metrics(run_dir)


def state_of(config: Config) -> str:
    """Changes with anything that a run could come out otherwise by. Taken before the files are read: one that changes
    while the run works is not taken for the one that it has read."""
    settings = fingerprint(replace(config, export=replace(config.export, force=False)))
    found = hashlib.sha256(f"{settings} {version('tensorflow')}".encode())
    for path in sorted(local_files(config)):
        about = path.stat()
        found.update(f"{path} {about.st_size} {about.st_mtime_ns}\n".encode())
    for address, known in sorted(remote_files(config).items()):
        found.update(f"{address} {known}\n".encode())
    for package in (Path(__file__).parent, Path(str(export.__file__)).parent):
        for path in sorted(package.rglob("*")):
            if path.suffix in (".py", ".j2"):
                found.update(path.read_bytes())
    return found.hexdigest()
