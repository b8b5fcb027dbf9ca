"""What a search leaves for its reader: search.json and report.html."""

import itertools
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.extras import require
from pipeline.files import write_text
from pipeline.search.propose import distribution
from pipeline.search.report import write_report
from pipeline.search.study import Study
from pipeline.search.trials import Trial, best, defined
from pipeline.search.winner import Repeat, Verdict, of, scores_of

# Fewer say nothing about which setting matters.
ENOUGH = 8
RESULTS, REPORT = "search.json", "report.html"


def write_results(
    study: Study, trials: Sequence[Trial], winners: list[dict], done: Sequence[Repeat], found: Verdict
) -> dict[str, Any]:
    """Write both files; returns what search.json holds.

    Args:
        trials: all, in order.
        winners: as `winner.fix` gives them.
        done: trainings with new seeds.
        found: what follows from them.
    """
    number = winners[-1]["trial"]
    again = {name: _again(study, of(done, each)) for name, each in {"winner": number, "defaults": 0}.items()}
    results = {
        "monitor": study.monitor,
        "higher_is_better": study.higher,
        "trials": [_row(study, trial) for trial in trials],
        "winner": {"trial": number, "settings": trials[number].record.settings, **again["winner"]},
        "defaults": {"settings": study.defaults, **again["defaults"]},
        "verdict": asdict(found),
        "selection": {
            "score_that_won": winners[-1]["validation"],
            "gap_to_new_seeds": _less(winners[-1]["validation"], again["winner"]["validation"].get("mean")),
            "gap_to_test": _less(again["winner"]["validation"].get("mean"), again["winner"]["test"].get("mean")),
            # Those that an earlier version has written down do not say.
            "test_rows_read_before": [
                before["trial"] for before, after in itertools.pairwise(winners) if after.get("test_rows_read", True)
            ],
        },
        "expected_best": expected_best([defined(trial.score(study.higher)) for trial in trials], study.higher),
        "importance": importance(study, trials),
    }
    write_text(study.folder / RESULTS, json.dumps(results, indent=1, allow_nan=False))
    write_report(study.folder / REPORT, study, results)
    return results


def expected_best(scores: Sequence[float | None], higher: bool) -> list[float]:
    """The best of n trials that one may expect, for n from 1 to all, were n drawn at random from these with
    replacement (Dodge et al., 2019); trials without a score are left out."""
    known = sorted((score for score in scores if score is not None), reverse=not higher)
    count = len(known)

    def expected(n: int) -> float:
        return sum(score * ((i / count) ** n - ((i - 1) / count) ** n) for i, score in enumerate(known, 1))

    return [expected(n) for n in range(1, count + 1)]


def importance(study: Study, trials: Sequence[Trial]) -> dict[str, float]:
    """Shares of the spread of scores that each setting explains, by optuna's fANOVA (Hutter et al., 2014).

    All trials count with their score at the first rung, which all have, as they are trained equally far there. {} where
    there are too few.
    """
    optuna = require("search", "optuna")
    states = optuna.trial.TrialState
    made = optuna.create_study(direction="maximize" if study.higher else "minimize")
    distributions = {setting.key: distribution(optuna, setting) for setting in study.space}
    for trial in trials:
        score = defined(trial.score_at(0, study.higher))
        inside = all(setting.holds(trial.record.settings[setting.key]) for setting in study.space)
        if score is not None and inside and not trial.failed:
            made.add_trial(
                optuna.trial.create_trial(
                    state=states.COMPLETE, value=score, params=trial.record.settings, distributions=distributions
                )
            )
    values = [trial.value for trial in made.trials]
    if len(values) < ENOUGH or min(values) == max(values):
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(made, evaluator=evaluator, params=list(distributions))
    return {key: float(share) for key, share in found.items()}


def _row(study: Study, trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "settings": trial.record.settings,
        "score": defined(trial.score(study.higher)),
        "scores": [defined(score) for score in trial.scores],
        "epochs": trial.pauses[-1],
        "complete": trial.complete,
        "failed": trial.record.failed,
        "seconds": sum(trial.seconds),
    }


def _again(study: Study, done: Sequence[Repeat]) -> dict[str, Any]:
    """Scores of the trainings with new seeds, and their mean and spread."""
    complete = [each for each in done if each.trial.complete]
    return {
        "seeds": [each.seed for each in complete],
        "runs": [str(each.trial.folder.relative_to(study.folder)) for each in complete],
        "validation": _summary([defined(best(each.trial.scores, study.higher)) for each in complete]),
        "test": _summary(scores_of(study, complete)),
    }


def _summary(scores: Sequence[float | None]) -> dict[str, Any]:
    values = [score for score in scores if score is not None]
    if not values:
        return {}
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"values": values, "mean": statistics.mean(values), "standard_deviation": spread}


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other
