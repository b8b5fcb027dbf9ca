"""Minutes: how many a worker has spent, and how long a training will take at the rate measured."""

import json
import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.files import write_text
from pipeline.search.trials import Trial

# Seconds between two notes of the time, of which a kill may lose one.
NOTE_EVERY = 10


class Clock:
    """The time that a worker has spent on a search, over all its starts.

    Args:
        path: where it is kept.
        minutes: the budget; None: no limit.
    """

    def __init__(self, path: Path, minutes: float | None):
        self.path, self.minutes = path, minutes
        before = json.loads(path.read_text())["seconds"] if path.is_file() else 0.0
        self.started = time.monotonic() - before
        self._over = threading.Event()

    def __enter__(self) -> "Clock":
        threading.Thread(target=self._keep, daemon=True).start()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self._over.set()
        self.note()

    @property
    def spent(self) -> float:
        """Seconds, those of earlier starts included."""
        return time.monotonic() - self.started

    def note(self) -> None:
        """Write the time down."""
        write_text(self.path, json.dumps({"seconds": round(self.spent, 3)}))

    def deadline(self, reserve: float) -> float | None:
        """The moment of time.monotonic() at which only so many seconds are left; None: there is no limit."""
        return None if self.minutes is None else self.started + 60 * self.minutes - reserve

    def fits(self, seconds: float, reserve: float = 0.0) -> bool:
        """Whether what takes so long ends in time, with a reserve in seconds for what has to follow."""
        deadline = self.deadline(reserve)
        return deadline is None or time.monotonic() + seconds <= deadline

    def _keep(self) -> None:
        while not self._over.wait(NOTE_EVERY):
            self.note()


def training_seconds(trials: Sequence[Trial], batch_size: int, epochs: float) -> float:
    """How long so many epochs will take, judged by the slowest that was measured; 0 where nothing was.

    Args:
        trials: so far.
        batch_size: of the training; where none had this one, all count.
        epochs: to train.
    """
    key = "training.batch_size"
    like = [trial for trial in trials if trial.seconds and trial.record.settings.get(key, batch_size) == batch_size]
    measured = [seconds for trial in like or trials for seconds in trial.seconds]
    overhead = max((trial.record.overhead for trial in trials), default=0.0)
    return epochs * max(measured) + overhead if measured else 0.0


def rounds(jobs: int, workers: int) -> int:
    """How many trainings one of several workers does, where they share them."""
    return math.ceil(jobs / workers)
