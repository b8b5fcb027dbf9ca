"""Minutes: how many a worker has spent, and how long a training will take at the rate measured."""

import itertools
import json
import math
import statistics
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
    """How long so many epochs will take: by the slowest trial's pace, and what is usual beside it; 0 where nothing was
    measured.

    Args:
        trials: so far.
        batch_size: of the training; where none had this one, all count.
        epochs: to train.
    """
    key = "training.batch_size"
    measured = [trial for trial in trials if trial.seconds]
    if not measured:
        return 0.0
    like = [trial for trial in measured if trial.record.settings.get(key, batch_size) == batch_size]
    # A training that was killed has left no pace of its own.
    slowest = max(trial.record.pace or statistics.median(trial.seconds) for trial in like or measured)
    overheads = [trial.record.overhead for trial in measured if trial.record.overhead]
    return epochs * slowest + (statistics.median(overheads) if overheads else 0.0)


def usual_pace(moments: Sequence[float]) -> float | None:
    """Seconds of an epoch between moments at which one ended and the next began; None: there is no whole one. The first
    one traces the model, and counts only where it is alone."""
    took = [after - before for before, after in itertools.pairwise(moments)]
    return statistics.median(took[1:] or took) if took else None


def rounds(jobs: int, workers: int) -> int:
    """How many trainings one of several workers does, where they share them."""
    return math.ceil(jobs / workers)
