"""Scores that only one label a row has."""

import numpy as np


def ranking(labels: np.ndarray, positive: np.ndarray) -> dict[str, float | None]:
    """roc_auc and average_precision; None where only one class occurs.

    Args:
        labels: int [n], 0 or 1.
        positive: float [n], probabilities of 1.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    both = 0 < labels.sum() < len(labels)
    return {
        "roc_auc": float(roc_auc_score(labels, positive)) if both else None,
        "average_precision": float(average_precision_score(labels, positive)) if both else None,
    }


def matthews(true: np.ndarray, predicted: np.ndarray, right: int) -> float:
    """Matthews' correlation of any number of classes (Gorodkin, 2004); 0 where it is undefined.

    Args:
        true, predicted: int [C], rows of each class.
        right: rows whose class was predicted.
    """
    rows, true, predicted = float(true.sum()), true.astype(np.float64), predicted.astype(np.float64)
    spread = (rows**2 - predicted @ predicted) * (rows**2 - true @ true)
    return float((right * rows - true @ predicted) / np.sqrt(spread)) if spread else 0.0


def top_accuracy(labels: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    """Share of rows whose label is among the k most probable; of equal probabilities the first counts as larger.

    Not scikit-learn's, which counts ties the other way round than the decision does.
    """
    probabilities = probabilities.astype(np.float32)
    own = probabilities[np.arange(len(labels)), labels][:, None]
    before = (probabilities == own) & (np.arange(probabilities.shape[1]) < labels[:, None])
    return float((((probabilities > own) | before).sum(axis=1) < k).mean())
