"""What a run decides once about its rows and keeps in its folder: taken up again, it decides nothing anew."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from pipeline.assemble import seed_all
from pipeline.config import Config
from pipeline.data.load import DataSplits
from pipeline.files import write_text
from pipeline.training.workers import Workers


def decided(
    config: Config, data: DataSplits, workers: Workers, file: str, decide: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """A decision about these rows, the same for all workers, of whom the chief makes it where there is none.

    Args:
        config: of the run.
        data: the rows, to which it is kept.
        workers: of the run.
        file: where in the run's folder.
        decide: makes it, JSON-able.
    """
    path = Path(str(config.run_dir)) / file
    with workers.chief_first():
        if workers.chief and _kept(path, data) is None:
            write_text(path, json.dumps({"data": data.fingerprint, **decide()}, indent=1))
    found = _kept(path, data)
    assert found is not None, "the chief has written it"
    # To ask a model has drawn numbers and taken names of layers, and a run that is taken up again does not ask.
    keras.utils.clear_session()
    seed_all(config.training)
    return found


def _kept(path: Path, data: DataSplits) -> dict[str, Any] | None:
    """What was decided for these rows before; None: nothing was."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found if found and found["data"] == data.fingerprint else None
