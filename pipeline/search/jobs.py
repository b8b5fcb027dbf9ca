"""The next training of a search: which it is, that nobody else does it, and that it can end in time."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.config import Config
from pipeline.search.budget import Clock, rounds, training_seconds
from pipeline.search.halving import best_waiting, promotion
from pipeline.search.propose import propose
from pipeline.search.space import Settings, with_settings, works
from pipeline.search.study import Study
from pipeline.search.trials import Record, Trial, best, read_record, require_same_data, write_record

# Seconds between two looks at what other workers do.
WAIT = 2.0


@dataclass(frozen=True)
class Worker:
    """One of the processes that share a search."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True)
class Job:
    """A training that this process alone does.

    Attributes:
        name: for the terminal.
        trial: what is known of it before.
        config: of its run.
        pause: whether it pauses after so many epochs, as `Pause` asks; None: it does not.
        lock: held.
    """

    name: str
    trial: Trial
    config: Config
    pause: Callable[[int], bool] | None
    lock: FileLock


def next_trial(study: Study, clock: Clock, worker: Worker) -> Iterator[Job]:
    """Trainings of trials until there is none left to begin; waits for those of other workers, which may lead to more.

    Their order, on one worker, follows from what is on disk: a trial that was stopped goes on, then the best that
    waits is promoted, then new settings are proposed. Where time is too short for new ones, the best that waits and can
    end in it is taken to its end.
    """

    def choose(trials: list[Trial]) -> tuple[Job | None, bool]:
        require_same_data(trials)
        return _choose(study, trials, clock, worker)

    return trainings(study, choose)


def trainings(study: Study, choose: Callable[[list[Trial]], tuple[Job | None, bool]]) -> Iterator[Job]:
    """Jobs, each chosen under the study's lock once the one before is done, until there is none.

    Args:
        study: whose trials are looked at anew each time.
        choose: from all trials as they stand to the next job, and whether other workers are at some, for which is
            waited where there is none.
    """
    while True:
        with study.lock:
            job, others = choose(study.trials())
        if job:
            try:
                yield job
            finally:
                job.lock.release()
        elif others:
            time.sleep(WAIT)
        else:
            return


def claimed(folder: Path) -> FileLock | None:
    """The lock beside a run's folder, held; None where another process holds it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{folder.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


def reserve(study: Study, trials: list[Trial], worker: Worker) -> float:
    """Seconds that the trainings of the winner will take a worker, should the best trial so far win."""
    leader = winner_of(trials, study.higher)
    if leader is None:
        return 0.0
    numbers = {0, leader.number}
    each = max(cost(study, trials, trials[number].record.settings, trials[number].pauses[-1]) for number in numbers)
    return each * rounds(len(numbers) * study.config.search.repeats, worker.count)


def cost(study: Study, trials: list[Trial], settings: Settings, epochs: float) -> float:
    """Seconds that so many epochs under these settings will take."""
    return training_seconds(trials, with_settings(study.config, settings).training.batch_size, epochs)


def winner_of(trials: list[Trial], higher: bool) -> Trial | None:
    """The best of the trials that were trained to their end; of equal ones the first."""
    complete = [trial for trial in trials if trial.complete]
    if not complete:
        return None
    top = best([best(trial.scores, higher) for trial in complete], higher)
    return next(trial for trial in complete if best(trial.scores, higher) == top)


def _choose(study: Study, trials: list[Trial], clock: Clock, worker: Worker) -> tuple[Job | None, bool]:
    """The next job, and whether other workers are at trials."""
    busy = False

    def affordable(trial: Trial) -> bool:
        return _affordable(study, trials, trial, clock, worker)

    def begin(trial: Trial, lock: FileLock) -> Job:
        config = study.trial_run(trial.record.settings, trial.folder)
        return Job(f"trial {trial.number:>3}", trial, config, lambda _: _pauses(study, trial, clock, worker), lock)

    for trial in trials:
        if not trial.unfinished:
            continue
        lock = claimed(trial.folder)
        if lock is None:
            busy = True
            continue
        # Its worker may have finished it since.
        trial = study.again(trial)
        if trial.unfinished and affordable(trial):
            return begin(trial, lock), busy
        lock.release()
    for trial in _in_order(study, trials):
        if not affordable(trial):
            continue
        lock = claimed(trial.folder)
        if lock is None:
            # Its worker is about to decide whether it goes on, which it may: then there is more to wait for.
            busy = True
            continue
        # What its last worker wrote after it was read here.
        known = read_record(trial.folder)
        record = replace(known, rung=trial.record.rung) if known else trial.record
        write_record(trial.folder, record)
        return begin(replace(trial, record=record), lock), busy
    return None, busy


def _in_order(study: Study, trials: list[Trial]) -> Iterator[Trial]:
    """What may be begun, the first that can be is; records are as they would be then."""
    if promoted := _promoted(study, trials):
        yield promoted
    if proposed := _proposed(study, trials):
        yield proposed
        # The time is too short for it. What waits has less to go.
        for trial in best_waiting(trials, study.higher):
            yield replace(trial, record=replace(trial.record, rung=len(study.rungs) - 1))


def _affordable(study: Study, trials: list[Trial], trial: Trial, clock: Clock, worker: Worker) -> bool:
    """Whether a trial can come to its end in time: half of one is no result."""
    return clock.fits(cost(study, trials, trial.record.settings, trial.left), reserve(study, trials, worker))


def _pauses(study: Study, trial: Trial, clock: Clock, worker: Worker) -> bool:
    """Whether a trial whose state is saved pauses here: at its rung, unless it is the one that would be promoted next.

    Building a model anew often takes longer than the epochs that are left. A process that was killed here decides the
    same when it starts again, as all that decides is on disk.
    """
    # Nobody else changes it.
    if not study.again(trial).waiting:
        return False
    with study.lock:
        trials = study.trials()
        promoted = _promoted(study, trials)
        if promoted is None or promoted.number != trial.number:
            return True
        if not _affordable(study, trials, promoted, clock, worker):
            return True
        write_record(promoted.folder, promoted.record)
    return False


def _promoted(study: Study, trials: list[Trial]) -> Trial | None:
    """The trial that goes on to its next rung."""
    trial = promotion(trials, len(study.rungs), study.config.search.halving, study.higher)
    return trial and replace(trial, record=replace(trial.record, rung=trial.rung + 1))


def _proposed(study: Study, trials: list[Trial]) -> Trial | None:
    """A new trial; None where there are enough, or the space is exhausted."""
    number, search = len(trials), study.config.search
    if search.trials is not None and number >= search.trials:
        return None
    top = len(study.rungs) - 1
    if number == 0:
        return _new(study, 0, Record(study.defaults, rung=top))
    known = [None if trial.failed else len(trial.scores) for trial in trials]
    allowed: Callable[[Settings], bool] = lambda settings: works(study.config, settings)  # noqa: E731
    earlier = [trial.as_known(epochs, study.higher) for trial, epochs in zip(trials, known, strict=True)]
    settings = propose(study.space, search.seed, number, earlier, study.higher, allowed)
    return None if settings is None else _new(study, number, Record(settings, known))


def _new(study: Study, number: int, record: Record) -> Trial:
    return Trial(number, study.folder_of(number), record, study.pauses(record.settings))
