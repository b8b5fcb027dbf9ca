"""The folder of a run: one process at a time works in it, under the settings that it was begun with."""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from pipeline.backbone.defaults import settle
from pipeline.config import Config, differences, to_yaml
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.local_paths import absolute, reconcile
from pipeline.model_hub import pin
from pipeline.remote import is_remote
from pipeline.training.cluster import Cluster

# Seconds until a folder that another process has just replaced can be read.
PATIENCE = 5


@contextlib.contextmanager
def held(config: Config, cluster: Cluster | None = None) -> Iterator[tuple[Config, str]]:
    """The run folder, made where it is missing, locked and holding the config as config.yaml until the context ends.

    A folder in which nothing has come further than its rows is taken over by other settings.

    Args:
        config: checked, with run_dir set.
        cluster: of which this process is a worker. The chief alone writes; each worker has a lock of its own.

    Returns:
        The config, with the commit of a checkpoint on the Hugging Face Hub, the settings that a checkpoint decides
        where nobody does and, where the run is taken up from another folder, the paths that it was begun with; and a
        fingerprint, equal for workers of equal settings.

    Raises:
        UserError: another process works in the folder, or it holds a run with other settings.
    """
    require_here(config)
    run_dir = Path(str(config.run_dir))
    run_dir.mkdir(parents=True, exist_ok=True)
    number = cluster.index if cluster else 0
    follower = number > 0
    lock = FileLock(run_dir / (f".lock-{number}" if follower else ".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"another process is working in {config.run_dir}.") from None
    try:
        settled = settle(pin(config, run_dir), run_dir)
        # Workers of a cluster read the stored config while the chief may write it: they have to agree as it is.
        if cluster is None and _only_read(run_dir) and _changed(run_dir, settled):
            _forget(run_dir)
            settled = settle(pin(config, run_dir), run_dir)
        yield (taken_up if follower else claim)(run_dir, settled), fingerprint(settled)
    finally:
        lock.release()


def require_here(config: Config) -> None:
    """Refuse a run_dir that is no folder of this machine, where one with its address as its name would be made."""
    if is_remote(config.run_dir):
        raise UserError(
            f"run_dir {config.run_dir}: a run works in a folder of this machine, or of a bucket that is mounted; give "
            "its path, and the bucket as export.publish."
        )


def taken_up(run_dir: Path, config: Config) -> Config:
    """The config with the paths of the run that the folder holds, where it is started from another folder."""
    return _reconciled(run_dir, config)[1]


def _only_read(run_dir: Path) -> bool:
    """Whether a run has come no further than its rows, as after an error that names the setting to change."""
    known = {path.name for path in run_dir.iterdir() if not path.name.startswith(".lock")}
    return "config.yaml" in known and known <= {"config.yaml", "data"}


def _reconciled(run_dir: Path, config: Config) -> tuple[dict | None, Config]:
    """The stored config, None where there is none, and this one with its paths."""
    stored = run_dir / "config.yaml"
    return reconcile(yaml.safe_load(stored.read_text(encoding="utf-8")), config) if stored.is_file() else (None, config)


def _changed(run_dir: Path, config: Config) -> bool:
    old, config = _reconciled(run_dir, config)
    return old is not None and bool(differences(old, config))


def _forget(run_dir: Path) -> None:
    """The settings, and which rows were read: where a source is not found those of another would take its place. The
    rows themselves are kept by where they are from and how they were read."""
    from pipeline.data.recall import MANIFEST

    (run_dir / "data" / MANIFEST).unlink(missing_ok=True)
    (run_dir / "config.yaml").unlink()


def claim(run_dir: Path, config: Config) -> Config:
    """Write the config of a new run; refuse to take up an old one under settings that decide other weights.

    Returns:
        The config, whose paths are those of the run where it is started from another folder.
    """
    old, config = _reconciled(run_dir, config)
    if old is not None:
        state = state_of_training(run_dir)
        changed = differences(old, config, state is not None and not state["progress"]["finished"])
        if changed:
            raise UserError(
                f"{run_dir} holds a run with other settings ({'; '.join(changed[:5])}): "
                "give another --run_dir, or delete the folder."
            )
    write_text(run_dir / "config.yaml", to_yaml(absolute(config)))
    return config


def state_of_training(run_dir: Path) -> dict[str, Any] | None:
    """progress.json of the newest checkpoint; None where there is none. Another process may be replacing it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        newest = max((run_dir / "checkpoints").glob("[0-9]*"), default=None)
        if newest is None:
            return None
        try:
            return json.loads((newest / "progress.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def read_metrics(run_dir: Path) -> dict[str, Any]:
    """What metrics.json in a run's folder holds; {} where there is none."""
    path = run_dir / "metrics.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def fingerprint(config: Config) -> str:
    """Equal for equal settings; where the run's folder is mounted may differ among workers."""
    return hashlib.sha256(to_yaml(replace(config, run_dir=None)).encode()).hexdigest()
