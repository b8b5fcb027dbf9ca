"""The state of a run on disk: complete or absent, whenever the process is killed."""

import hashlib
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import keras
import numpy as np
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.files import sync_folder
from pipeline.training.workers import Workers

# Seconds until what the chief has written is visible to others on a shared file system.
VISIBLE = 60


@dataclass
class Progress:
    """Where a run stands, beside its variables."""

    epoch: int = 0
    """The epoch in progress, or the next one."""
    step: int = 0
    """Batches of that epoch already done."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sums over those batches of what the training step returns."""
    seconds: float = 0.0
    """Training time of those batches."""
    history: list[dict] = field(default_factory=list)
    """One dict an epoch finished."""
    best_epoch: int | None = None
    """The epoch with the best validation score."""
    best_weights: str | None = None
    """Name of the folder with its weights."""
    finished: bool = False
    """Training is complete."""


ProgressT = TypeVar("ProgressT", bound=Progress)


class Checkpoints(Generic[ProgressT]):
    """Numbered folders in `checkpoints/`: variables in TensorFlow's format and progress.json.

    A folder is written under a hidden name, flushed to disk and then renamed; the older ones are deleted after that.
    Of several workers the chief alone writes, as all variables are the same everywhere; all read.

    Args:
        folder: of all checkpoints.
        model: its variables, with the states of its random generators.
        optimizer: built.
        identity: what must be unchanged for a run to resume (data, tokens).
        progress_type: Progress, or a dataclass that adds to it.
        workers: of the run; None: this process is alone.
    """

    def __init__(
        self,
        folder: Path,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        identity: dict[str, str],
        # A type variable with a default of its own needs Python 3.13.
        progress_type: type[ProgressT] = Progress,  # pyright: ignore[reportArgumentType]  # see above
        workers: Workers | None = None,
    ):
        self.folder = folder
        self.workers = workers or Workers()
        self.identity = identity
        self.progress_type = progress_type
        # Lists in the order of the model: names may repeat, and the order is the builder's.
        self._state = tf.train.Checkpoint(
            model=[variable.value for variable in model.variables],
            optimizer=[variable.value for variable in optimizer.variables],
        )
        self._weights = tf.train.Checkpoint(weights=[variable.value for variable in model.weights])
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".*") if self.workers.chief else ():
            shutil.rmtree(leftover, ignore_errors=True)

    def save(self, progress: Progress) -> None:
        """Write the whole state, then delete what it replaces."""
        if not self.workers.chief:
            return
        serial = max((int(path.name) for path in self._states()), default=0) + 1
        target = self.folder / f"{serial:08d}"
        content = json.dumps({"identity": self.identity, "progress": asdict(progress)}, indent=1)
        _write(self._state, target, content)
        for path in [*self._states(), *self.folder.glob("best-*")]:
            if path != target and path.name != progress.best_weights:
                shutil.rmtree(path, ignore_errors=True)

    def save_weights(self, epoch: int) -> str:
        """Write the weights alone, as the best of the run; returns the folder's name for Progress.best_weights."""
        target = self.folder / f"best-{epoch:04d}"
        if self.workers.chief:
            shutil.rmtree(target, ignore_errors=True)
            _write(self._weights, target, "{}")
        return target.name

    def restore(self) -> ProgressT:
        """Load the newest state into the variables; a fresh Progress where there is none.

        Raises:
            UserError: the state belongs to other data or another tokenizer; it is not there for all workers.
        """
        newest = self._newest()
        if newest is None:
            return self.progress_type()
        stored = json.loads((newest / "progress.json").read_text())
        for name, value in self.identity.items():
            if stored["identity"].get(name) != value:
                raise UserError(
                    f"{newest}: the {name} changed since this run began; use another run_dir to start afresh."
                )
        self._state.read(str(newest / "variables")).assert_consumed()
        return self.progress_type(**stored["progress"])

    def begun(self) -> bool:
        """Whether there is a state; all workers must ask."""
        return self._newest() is not None

    def finished(self) -> bool:
        """Whether the newest state is of a training that is complete; all workers must ask."""
        newest = self._newest()
        return newest is not None and json.loads((newest / "progress.json").read_text())["progress"]["finished"]

    def _newest(self) -> Path | None:
        """The newest state that the chief sees, once this worker sees it too."""
        serial = max((int(path.name) for path in self._states()), default=0)
        serial = int(self.workers.sum(np.array([serial if self.workers.chief else 0]))[0])
        if not serial:
            return None
        newest = self.folder / f"{serial:08d}"
        await_chief(newest)
        return newest

    def restore_weights(self, name: str) -> None:
        """Load weights written by `save_weights`."""
        await_chief(self.folder / name)
        self._weights.read(str(self.folder / name / "variables")).assert_consumed()

    def _states(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.name.isdigit())


def load_finished(folder: Path, model: keras.Model) -> str:
    """Load the final weights of a finished run into a model like its own.

    Args:
        folder: the run's checkpoints.
        model: may lack variables at the end of the run's.

    Returns:
        A digest of the weights.

    Raises:
        UserError: there is no finished run, or its model has other variables.
    """
    newest = max(folder.glob("[0-9]*"), default=None)
    progress = json.loads((newest / "progress.json").read_text())["progress"] if newest else {}
    if newest is None or not progress.get("finished"):
        raise UserError(f"{folder} is not of a finished run: finish that run first.")
    if progress["best_weights"]:
        stored = tf.train.Checkpoint(weights=[variable.value for variable in model.weights])
        prefix = folder / progress["best_weights"] / "variables"
    else:
        stored = tf.train.Checkpoint(model=[variable.value for variable in model.variables])
        prefix = newest / "variables"
    try:
        stored.read(str(prefix)).assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError) as error:
        raise UserError(f"{prefix} holds weights that do not fit its config ({str(error).splitlines()[0]})") from error
    # It has a checksum of each tensor.
    return hashlib.sha256(prefix.with_suffix(".index").read_bytes()).hexdigest()


def await_chief(path: Path) -> None:
    """Until a folder or file that the chief has written is here too.

    Raises:
        UserError: it is not there after VISIBLE seconds.
    """
    deadline = time.monotonic() + VISIBLE
    while not path.exists():
        if time.monotonic() > deadline:
            raise UserError(f"{path} of the chief is not here: run_dir must be a folder that all workers share.")
        time.sleep(0.2)


def _write(checkpoint: tf.train.Checkpoint, target: Path, progress: str) -> None:
    temporary = target.with_name(f".{target.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        checkpoint.write(str(temporary / "variables"))
        (temporary / "progress.json").write_text(progress)
        sync_folder(temporary)
        os.rename(temporary, target)
    finally:
        # Still there only where something failed: a full disk gets its room back.
        shutil.rmtree(temporary, ignore_errors=True)
