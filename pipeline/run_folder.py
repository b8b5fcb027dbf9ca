"""The folder of a run: one process at a time works in it, under the settings that it was begun with."""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml
from filelock import FileLock, Timeout

from pipeline.config import Config, differences, to_yaml
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.training.cluster import Cluster


@contextlib.contextmanager
def held(config: Config, cluster: Cluster | None = None) -> Iterator[Path]:
    """The run folder, made where it is missing, locked and holding `config` as config.yaml until the context ends.

    Args:
        config: checked, with run_dir set.
        cluster: of which this process is a worker. The chief alone writes; each worker has a lock of its own.

    Raises:
        UserError: another process works in the folder, or it holds a run with other settings.
    """
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    follower = cluster is not None and cluster.index > 0
    lock = FileLock(run_dir / (f".lock-{cluster.index}" if follower else ".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"another process is working in {config.run_dir}.") from None
    try:
        if not follower:
            claim(run_dir, config)
        yield run_dir
    finally:
        lock.release()


def claim(run_dir: Path, config: Config) -> None:
    """Write the config of a new run; refuse to take up an old one under settings that decide other weights."""
    stored = run_dir / "config.yaml"
    if stored.is_file():
        changed = differences(yaml.safe_load(stored.read_text()), config)
        if changed:
            raise UserError(
                f"{run_dir} holds a run with other settings ({'; '.join(changed[:5])}): "
                "give another --run_dir, or delete the folder."
            )
    write_text(stored, to_yaml(config))


def fingerprint(config: Config) -> str:
    """Equal for equal settings; where the run's folder is mounted may differ among workers."""
    return hashlib.sha256(to_yaml(replace(config, run_dir=None)).encode()).hexdigest()
