"""The winner, trained again with new seeds beside the config's own settings, and whether it is worth a change.

The best of many scores is too good: it was chosen for being high. So it is reported nowhere but as what it is, and
the new seeds tell how good the settings are. Test rows are looked at only here.
"""

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.files import write_text
from pipeline.search.budget import Clock
from pipeline.search.jobs import Job, claimed, cost, trainings
from pipeline.search.study import Study
from pipeline.search.trials import Record, Trial, best, defined, read_record, write_record

CONFIDENCE = 0.95
WINNERS = "winners.json"


@dataclass(frozen=True)
class Repeat:
    """Settings of a trial, trained with another seed."""

    seed: int
    trial: Trial
    """As it stands; its number is that of the trial that had the settings."""


@dataclass(frozen=True)
class Verdict:
    """Whether to change the settings.

    Attributes:
        keep_defaults: the config's own settings are as good, as far as the seeds tell.
        sentence: says so.
        gain: mean validation score of the winner less that of the config's own settings, positive where it is better.
        noise: what the gain must exceed; None: the seeds are too few to say.
    """

    keep_defaults: bool
    sentence: str
    gain: float | None = None
    noise: float | None = None


def fix(study: Study, trial: Trial, trials: int) -> list[dict[str, Any]]:
    """Write down which trial has won, before any test row is read; returns all that have, the newest last."""
    path = study.folder / WINNERS
    found = json.loads(path.read_text()) if path.is_file() else []
    if not found or found[-1]["trial"] != trial.number:
        score = defined(best(trial.scores, study.higher))
        read = any("test" in metrics_of(path.parent) for path in study.folder.glob("final/*/metrics.json"))
        found.append({"trial": trial.number, "validation": score, "trials": trials, "test_rows_read": read})
        write_text(path, json.dumps(found, indent=1))
    return found


def repeats(study: Study, winner: Trial) -> list[Repeat]:
    """The trainings of the winner and of the config's own settings, in turn, as they stand."""
    found = []
    numbers = dict.fromkeys((winner.number, 0))
    settings = {winner.number: winner.record.settings, 0: study.defaults}
    for count in range(study.config.search.repeats):
        seed = (study.config.training.seed + 1 + count) % 2**32
        for number in numbers:
            folder = study.folder / "final" / f"{number:04d}-seed-{seed}"
            record = read_record(folder) or Record(settings[number], rung=len(study.rungs) - 1)
            found.append(Repeat(seed, study.read(number, folder, record)))
    return found


def run_of(study: Study, repeat: Repeat) -> Config:
    """The whole run of a repeat, test rows included; what is exported is decided later."""
    config = study.run_of(repeat.trial.record.settings, repeat.trial.folder)
    config.training.seed, config.export.enabled = repeat.seed, False
    return config


def next_repeat(study: Study, winner: Trial, clock: Clock) -> Iterator[Job]:
    """Trainings of the winner until none is left that can end in time; waits for those of other workers."""
    return trainings(study, lambda trials: _choose(study, trials, winner, clock))


def _choose(study: Study, trials: list[Trial], winner: Trial, clock: Clock) -> tuple[Job | None, bool]:
    """The next training, and whether other workers are at some."""
    busy = False
    for repeat in repeats(study, winner):
        trial = repeat.trial
        if not trial.unfinished or not clock.fits(cost(study, trials, trial.record.settings, trial.left)):
            continue
        lock = claimed(trial.folder)
        if lock is None:
            busy = True
            continue
        # Its worker may have finished it since.
        trial = study.again(trial)
        if trial.unfinished:
            write_record(trial.folder, trial.record)
            name = f"seed {repeat.seed}, trial {trial.number}"
            return Job(name, trial, run_of(study, repeat), None, lock), busy
        lock.release()
    return None, busy


def verdict(study: Study, winner: Trial, done: Sequence[Repeat]) -> Verdict:
    """Compare the winner with the config's own settings on the validation rows, by their new seeds alone.

    The gain must exceed what a one-sided t test at 5 % asks of two means with the pooled spread of both.
    """
    if winner.number == 0:
        return Verdict(True, "keep the defaults: no other settings scored better.")
    ours, theirs = (_Again.of(study, of(done, number)) for number in (winner.number, 0))
    for fault, name in ((ours.failed, "fails"), (ours.undefined, f"has no {study.monitor}")):
        if fault:
            return Verdict(True, f"keep the defaults: with seed {fault[0]} the winner's training {name}.")
    if not ours.scores:
        return Verdict(True, "keep the defaults: the winner was not trained again, so its score may be luck.")
    lost = [*theirs.failed, *theirs.undefined]
    what = f"fails or has no {study.monitor}" if theirs.undefined else "fails"
    seeds = f"{len(lost)} of {len(theirs.scores) + len(lost)} new seeds"
    said = f"with {seeds} the defaults' training {what}" if lost else ""
    if lost and not theirs.scores:
        return Verdict(False, f"take trial {winner.number}: {said}, and the winner's with none.")
    if not theirs.scores:
        return Verdict(True, "keep the defaults: they were not trained again, so there is nothing to compare with.")
    more = f" ({said})" if said else ""
    gain = statistics.mean(ours.scores) - statistics.mean(theirs.scores)
    noise = _noise(ours.scores, theirs.scores)
    if noise is None:
        return Verdict(True, f"keep the defaults: one seed does not tell how much is luck{more}.", gain)
    better = gain > noise
    compared = f"{study.monitor} {gain:+.4f} against the defaults, where seeds alone explain {noise:.4f}"
    if not study.higher:
        compared = f"{study.monitor} lower by {gain:.4f} than the defaults', where seeds alone explain {noise:.4f}"
    word = f"take trial {winner.number}" if better else "keep the defaults"
    return Verdict(not better, f"{word}: {compared}{more}.", gain, noise)


@dataclass(frozen=True)
class _Again:
    """What trainings of the same settings with new seeds came to: scores, the higher the better, and the seeds whose
    training failed or has no defined score."""

    scores: list[float]
    failed: list[int]
    undefined: list[int]

    @classmethod
    def of(cls, study: Study, done: Sequence[Repeat]) -> "_Again":
        sign = 1 if study.higher else -1
        scores = {each.seed: sign * best(each.trial.scores, study.higher) for each in done if each.trial.complete}
        return cls(
            [score for score in scores.values() if math.isfinite(score)],
            [each.seed for each in done if each.trial.failed],
            [seed for seed, score in scores.items() if not math.isfinite(score)],
        )


def of(done: Sequence[Repeat], number: int) -> list[Repeat]:
    """Those with the settings of a trial."""
    return [each for each in done if each.trial.number == number]


def _noise(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The smallest difference of means that is no chance; None where it cannot be told."""
    from scipy.stats import t

    freedom = len(one) + len(other) - 2
    if min(len(one), len(other)) < 2:
        return None
    squares = sum((len(part) - 1) * statistics.variance(part) for part in (one, other))
    error = math.sqrt(squares / freedom * (1 / len(one) + 1 / len(other)))
    return float(t.ppf(CONFIDENCE, freedom)) * error


def scores_of(study: Study, done: Sequence[Repeat]) -> list[float | None]:
    """On the test rows, of those that are complete; None: there are none, or it is undefined."""
    return [metrics_of(each.trial.folder).get("test", {}).get(study.monitor) for each in done if each.trial.complete]


def metrics_of(run_dir: Path) -> dict[str, Any]:
    """What a finished run has scored."""
    return json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))
