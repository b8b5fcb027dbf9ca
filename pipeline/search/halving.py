"""Which training comes next: asynchronous successive halving (Li et al., 2020), read off what is on disk.

A rung is a share of a trial's own epochs. Its learning-rate schedule is that of all its epochs from the start, so a
trial that pauses at a rung and goes on is bit for bit the one that never paused, and nothing is trained twice. What
is compared at a rung are trials at the same share of their schedules, of which those with a short schedule have
seen less.
"""

import math
from collections.abc import Sequence

from pipeline.search.trials import Trial


def shares(halving: int | None, epochs: int) -> list[float]:
    """The rungs, as shares of a trial's epochs; the last is 1.

    Args:
        halving: of the trials at a rung one in so many goes on; None: there is no rung but the last.
        epochs: of the config, whose first rung is an epoch or more. There is no rung below it: after a ninth of their
            epochs trials rank otherwise than at their end.
    """
    return [1.0] if halving is None or epochs < halving else [1 / halving, 1.0]


def pauses(rungs: Sequence[float], epochs: int) -> list[int]:
    """After how many of its epochs a trial is at each rung."""
    return [max(1, math.ceil(share * epochs - 1e-9)) for share in rungs]


def promotion(trials: Sequence[Trial], rungs: int, halving: int | None, higher: bool) -> Trial | None:
    """The trial that is to go on to its next rung: of the highest rung, and there of the best score; None: none.

    Args:
        trials: in order.
        rungs: how many there are.
        halving: as `shares` takes it.
        higher: whether higher scores are better.
    """
    for rung in reversed(range(rungs - 1)):
        scores = {trial.number: trial.score_at(rung, higher) for trial in trials if not trial.failed}
        scored = [(score if not higher else -score, number) for number, score in scores.items() if score is not None]
        reached = len(scored) + sum(trial.failed for trial in trials)
        for _, number in sorted(scored)[: max(1, reached // (halving or 1))]:
            if trials[number].rung == rung and trials[number].waiting:
                return trials[number]
    return None


def best_waiting(trials: Sequence[Trial], higher: bool) -> list[Trial]:
    """The trials that wait for a promotion: those of the highest rung first, and there those of the best score."""

    def place(trial: Trial) -> tuple[int, float]:
        score = trial.score_at(trial.rung, higher)
        assert score is not None, "it waits at that rung"
        return -trial.rung, -score if higher else score

    return sorted((trial for trial in trials if trial.waiting), key=place)
