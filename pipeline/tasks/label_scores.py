"""Scores that all tasks with named classes share: plain numbers, ready for JSON.

Precision, recall and F1 are scikit-learn's, 0 where they are undefined. `macro_*` is the plain mean over the averaged
classes, `weighted_*` weights by support, `micro_*` counts all decisions together.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.errors import Diverged, UserError

# Probabilities are kept this far from 0 and 1 in the loss, as Keras does, so that it is always finite.
EPSILON = 1e-7
CALIBRATION_BINS = 15


def checked_probabilities(values: np.ndarray, probabilities: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """float [n, C] as they are.

    Raises:
        UserError: no rows, or a probability that is not a number.
        ValueError: names or shapes that do not fit, or values that are no probabilities.
    """
    probabilities = np.asarray(probabilities)
    if len(values) == 0:
        raise UserError("There are no rows to evaluate: give a validation or test set with at least one row.")
    if len(set(names)) != len(names):
        raise ValueError("the classes have a name twice.")
    if probabilities.shape != (len(values), len(names)):
        raise ValueError(f"probabilities has shape {probabilities.shape}, expected {(len(values), len(names))}.")
    refuse_not_numbers(probabilities)
    # The slack is for the rounding of a softmax in bfloat16.
    if probabilities.min() < -0.01 or probabilities.max() > 1.01:
        raise ValueError("probabilities lie outside 0 to 1: these look like logits.")
    return probabilities


def refuse_not_numbers(predictions: np.ndarray) -> None:
    """Raises Diverged where predictions, [n, K], hold NaN or infinity."""
    bad = int((~np.isfinite(predictions)).any(axis=1).sum())
    if bad:
        raise Diverged(
            f"The model's predictions are not numbers on {bad} of {len(predictions)} rows: training diverged; "
            "lower training.learning_rate or set training.dtype to float32."
        )


def decision_scores(true: np.ndarray, predicted: np.ndarray, averaged: np.ndarray) -> dict[str, Any]:
    """Accuracy, averages, and arrays by class.

    Args:
        true, predicted: int [n], or bool [n, C].
        averaged: bool [C], the classes that macro averages are over.

    Returns:
        accuracy (of whole rows); {macro,weighted,micro}_{precision,recall,f1}; per_class: arrays [C] of precision,
        recall, f1 and support.
    """
    names = ("precision", "recall", "f1")
    *each, support = by_class_scores(true, predicted, range(len(averaged)))
    micro = by_class_scores(true, predicted, range(len(averaged)), average="micro")
    right = (true == predicted).reshape(len(true), -1).all(axis=1)
    scores: dict[str, Any] = {"accuracy": float(right.mean())}
    for name, values in zip(names, each, strict=True):
        scores[f"macro_{name}"] = float(values[averaged].mean())
        scores[f"weighted_{name}"] = float(values @ support / support.sum()) if support.sum() else 0.0
    scores |= {f"micro_{name}": float(value) for name, value in zip(names, micro, strict=False)}
    return scores | {"per_class": dict(zip(names, each, strict=True)) | {"support": support}}


def by_class_scores(true: np.ndarray, predicted: np.ndarray, classes: range, average: str | None = None) -> Any:
    """scikit-learn's precision, recall, F1 and support of classes, 0 where undefined: arrays [C], or averages."""
    from sklearn.metrics import precision_recall_fscore_support

    labels: Sequence[Any] = classes
    if true.ndim == 2 and true.shape[1] == 1:
        # One column scikit-learn takes for a target of two classes, of which class 0 is False.
        true, predicted, labels = true[:, 0], predicted[:, 0], (True,)
    # As Any: scikit-learn's types know neither this 0 nor the arrays.
    settings: Any = {"labels": labels, "average": average, "zero_division": 0}
    return precision_recall_fscore_support(true, predicted, **settings)


def by_class(names: Sequence[str], per_class: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Arrays [C] by score as scores by class."""
    return {name: {key: values[i].item() for key, values in per_class.items()} for i, name in enumerate(names)}


def cross_entropy(of_truth: np.ndarray) -> float:
    """Mean, in nats, of probabilities given to what was true."""
    return float(-np.log(of_truth.astype(np.float64).clip(EPSILON, 1 - EPSILON)).mean())


def calibration(confidence: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Expected calibration error in equal-width bins (Guo et al. 2017, arXiv:1706.04599), and the bins.

    Args:
        confidence: float [n], probabilities of decisions.
        right: bool [n], which of them came true.
    """
    confidence = confidence.astype(np.float64).clip(0, 1)
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    # Bins are open below and closed above, as in the paper; the first also takes 0.
    index = np.searchsorted(edges[1:-1], confidence, side="left")
    rows = np.bincount(index, minlength=CALIBRATION_BINS)
    mean_confidence = ratio(np.bincount(index, confidence, CALIBRATION_BINS), rows)
    accuracy = ratio(np.bincount(index, right, CALIBRATION_BINS), rows)
    columns = {"low": edges[:-1], "high": edges[1:], "rows": rows, "confidence": mean_confidence, "accuracy": accuracy}
    bins = [{key: values[i].item() for key, values in columns.items()} for i in np.flatnonzero(rows)]
    ece = float((np.abs(accuracy - mean_confidence) * rows).sum() / rows.sum())
    return {"ece": ece, "calibration_bins": bins}


def ratio(numerator, denominator) -> np.ndarray:
    """numerator / denominator, and 0 where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def unseen(names: Sequence[str], counts: np.ndarray) -> list[str]:
    """The names of classes that occur nowhere."""
    return [name for name, count in zip(names, counts, strict=True) if count == 0]
