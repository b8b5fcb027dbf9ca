"""Scores of a model on splits of labelled rows."""

from collections.abc import Callable

import numpy as np

from pipeline.config import EvaluationConfig
from pipeline.data.load import DataSplits
from pipeline.data.split import Split
from pipeline.evaluation.metrics import classification_metrics, confident_mistakes, selective_accuracy


def scores(split: Split, probabilities: np.ndarray, data: DataSplits, threshold: float) -> dict:
    """`classification_metrics` of all rows of a split.

    Args:
        split: n rows of `data`.
        probabilities: float32 [n, C].
        data: names the labels, and tells how often training saw each.
        threshold: probability from which a label counts as given (multi-label only).
    """
    return classification_metrics(
        split.labels(),
        probabilities,
        data.label_names,
        multi_label=data.multi_label,
        threshold=threshold,
        train_counts=data.train.counts(),
    )


def evaluate(
    predict: Callable[[Split], np.ndarray], data: DataSplits, config: EvaluationConfig, abstain_below: float = 0.0
) -> tuple[dict[str, dict], list[dict]]:
    """Score the validation and test rows, where there are any; test rows only with config.score_test.

    Args:
        predict: a split to probabilities, float32 [n, C].
        data: all splits.
        config: the evaluation section.
        abstain_below: score below which no label is given; 0: always one.

    Returns:
        (scores by split, the most confident mistakes with their texts: on the test rows, else the validation rows).
    """
    metrics, mistakes = {}, []
    for split in (data.validation, data.test if config.score_test else None):
        if split is None:
            continue
        probabilities, labels = predict(split), split.labels()
        metrics[split.name] = scores(split, probabilities, data, config.threshold)
        if abstain_below:
            metrics[split.name]["selective"] = selective_accuracy(labels, probabilities, abstain_below)
        wrong = confident_mistakes(labels, probabilities, config.mistakes, config.threshold)
        mistakes = [{**row, "text": [text[0].decode() for text in split.texts([row["row"]])]} for row in wrong]
    return metrics, mistakes
