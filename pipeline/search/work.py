"""A training of a search, done: the run is taken on, and what it prints goes into a file of its own."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

from pipeline.config import Config
from pipeline.errors import Diverged, Paused, UserError
from pipeline.files import full_disk
from pipeline.search.budget import usual_pace
from pipeline.search.jobs import Job
from pipeline.search.space import shown
from pipeline.search.study import Study
from pipeline.search.trials import Trial, defined, write_record
from pipeline.training.pause import Pause

Train = Callable[[Config, Pause], object]
"""pipeline.train."""


def work(study: Study, job: Job, deadline: float | None, train: Train) -> Trial:
    """Take a run to its pause, or to the batch at which the deadline comes; returns what is known of it then.

    Settings whose training fails are a result: the loss is not finite, or the memory does not do. Whatever else goes
    wrong is not the settings' fault, and goes out.

    Args:
        deadline: moment of time.monotonic(); None: none.
        train: what trains.

    Raises:
        UserError: the config's own settings fail.
        Stopped: SIGTERM or Ctrl-C came.
    """
    trial, started, failed = job.trial, time.monotonic(), None
    moments: list[float] = []

    def paused(epochs: int) -> bool:
        moments.append(time.monotonic())
        return job.pause is not None and job.pause(epochs)

    with open(trial.folder.with_name(f"{trial.folder.name}.log"), "a", encoding="utf-8") as log:
        try:
            with contextlib.redirect_stdout(log):
                train(job.config, Pause(paused, deadline))
        except Paused:
            pass
        except Exception as error:
            if not _of_settings(error):
                raise
            failed = str(error).splitlines()[0]
            log.write(f"failed: {failed}\n")
    if failed and trial.folder == study.folder_of(0):
        raise UserError(f"the config's own settings fail: {failed}")
    # It may have been promoted meanwhile.
    now = study.again(trial)
    record = replace(now.record, failed=failed)
    trained = len(now.scores) - len(trial.scores)
    if pace := usual_pace(moments) or sum(now.seconds[len(trial.seconds) :]) / max(trained, 1):
        beside = max(0.0, time.monotonic() - started - pace * trained)
        record = replace(record, pace=round(pace, 3), overhead=round(beside, 3))
    write_record(trial.folder, record)
    return replace(now, record=record)


def line_of(study: Study, name: str, trial: Trial, seconds: float) -> str:
    """One line for the terminal.

    Args:
        name: of the training.
        trial: as it stands after it.
        seconds: that it took.
    """
    score = defined(trial.score(study.higher))
    result = f"{study.monitor} {'-' if score is None else format(score, '.4f')}"
    state = f"{result}  {len(trial.scores)} of {trial.pauses[-1]} epochs  {seconds:.1f} s"
    if trial.failed:
        state = f"failed: {trial.record.failed}"
    return f"{name}  {state}  {shown(trial.record.settings) if trial.number else 'the defaults'}"


def _of_settings(error: Exception) -> bool:
    # Whoever trained has it already.
    import tensorflow as tf

    # TensorFlow's name for a full memory is also the one for a full disk, which no settings fill.
    full = full_disk(error, ".") is not None
    return isinstance(error, Diverged | tf.errors.ResourceExhaustedError) and not full
