"""Scores of a model on splits of rows."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.data.load import DataSplits
from pipeline.data.split import Split
from pipeline.evaluation.baseline import MOST_BOOSTED, MOST_DECISIONS, MOST_ROWS, Baseline, baselines, calibrated
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.groups import scores_by_group
from pipeline.evaluation.lengths import scores_by_length
from pipeline.tasks.task import Task


@dataclass
class Evaluation:
    """What an evaluation gives.

    Attributes:
        task: with what the validation rows decide about its answers.
        scores: of each split, by its name; of the last also "by_group", where columns are named for it, and
            "by_length", where lengths differ enough.
        mistakes: where the model is most wrong, with "text", the row's texts: on the test rows, else the validation
            rows.
        baseline: what a linear model scores on the same rows; None: nobody asked it.
        boosted: what gradient boosting scores, where there are columns beside the text and it is asked.
    """

    task: Task
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    mistakes: list[dict[str, Any]] = field(default_factory=list)
    baseline: Baseline | None = None
    boosted: list[Baseline] = field(default_factory=list)


def evaluate(
    predict: Callable[[Split], np.ndarray],
    data: DataSplits,
    task: Task,
    config: EvaluationConfig,
    lengths: Callable[[Split], np.ndarray] | None = None,
    redacted: Callable[[np.ndarray], Any] | None = None,
) -> Evaluation:
    """Score the validation and test rows, where there are any; test rows only with config.score_test.

    Args:
        predict: a split to predictions, float32 [n, K].
        data: all splits.
        task: with the settings of its answers.
        config: the evaluation section.
        lengths: a split to the tokens of its rows, int [n]; None: they are not looked at.
        redacted: texts, bytes [n], to a string tensor of them as they may be shown; None: as they are.
    """
    splits = [split for split in (data.validation, data.test if config.score_test else None) if split is not None]
    predictions = {split.name: predict(split) for split in splits}
    asked, task = task, calibrated(task, splits, predictions)
    found = Evaluation(task)
    for split in splits:
        found.scores[split.name] = task.scores(split.targets(), predictions[split.name])
        wrong = task.mistakes(split.targets(), predictions[split.name], config.mistakes)
        found.mistakes = [row | {"text": _shown(split, row["row"], redacted)} for row in wrong]
    if splits and (by_group := scores_by_group(task, splits[-1], predictions[splits[-1].name])):
        found.scores[splits[-1].name]["by_group"] = by_group
    if splits and lengths is not None:
        shown = splits[-1]
        by_length = scores_by_length(task, shown.targets(), predictions[shown.name], lengths(shown))
        found.scores[shown.name] |= {"by_length": by_length} if by_length else {}
    train = data.train
    if train is not None and splits and compares(config, train, task):
        columns = data.features.columns if _boosts(config, train, task) else ()
        found.baseline, *found.boosted = baselines(predictions, train, splits, asked, columns, redacted)
    return found


def _shown(split: Split, row: int, redacted: Callable[[np.ndarray], Any] | None) -> list[str]:
    """The texts of a row."""
    columns = split.texts(np.array([row]))
    return [(column if redacted is None else redacted(column).numpy())[0].decode() for column in columns]


def compares(config: EvaluationConfig, train: Split, task: Task, times: int = 1) -> bool:
    """Whether a linear model is to learn from these rows too, so many times."""
    if config.baseline == "auto":
        rows = len(train) * times
        return rows < MOST_ROWS and rows * task.outputs < MOST_DECISIONS
    return config.baseline == "tfidf"


def _boosts(config: EvaluationConfig, train: Split, task: Task) -> bool:
    """Whether gradient boosting on columns beside the text is asked too."""
    return config.baseline == "tfidf" or len(train) * task.outputs <= MOST_BOOSTED
