"""Confident learning (Northcutt, Jiang and Chuang, 2021): which labels a model that has not seen them contradicts,
where each class is held to the confidence that its own rows have."""

import math
from dataclasses import dataclass

import numpy as np

# Residuals so many robust standard deviations from the median: of normal ones, 0.3 % lie beyond.
FAR = 3.0
# The standard deviation of normal numbers in units of their median absolute deviation.
DEVIATION_OF_MEDIAN = 1.4826


@dataclass(frozen=True)
class Doubts:
    """What held-out predictions say of the targets of rows.

    Attributes:
        wrong: bool [n], targets that are contradicted.
        quality: float64 [n], from 0 to 1; the lowest are looked at first.
        suggested: what they may have been meant to be, in the form of the targets: [n] or [n, C].
    """

    wrong: np.ndarray
    quality: np.ndarray
    suggested: np.ndarray


def doubt_classes(given: np.ndarray, probabilities: np.ndarray) -> Doubts:
    """Of one class a row.

    A row counts as one of class j where p_j is at least the mean p_j of the rows that are labelled j; of several such
    classes, the most probable. That is the confident joint; scaled to the rows of each label it says how many rows that
    are labelled i are ones of j, and as many of them are doubted, those of the largest p_j - p_i. What is doubted is at
    least not the most probable class.

    Args:
        given: int [n].
        probabilities: float [n, C], of a model that has not learned from the row.
    """
    probabilities = np.asarray(probabilities, np.float64)
    rows = np.arange(len(given))
    own = probabilities[rows, given]
    doubted = np.zeros(len(given), bool)
    joint = confident_joint(given, probabilities)
    for label in np.flatnonzero(joint.sum(axis=1) > np.diag(joint)):
        members = np.flatnonzero(given == label)
        margins = probabilities[members] - own[members, None]
        for other in np.flatnonzero(joint[label]):
            if other != label:
                doubted[members[np.argsort(-margins[:, other], kind="stable")[: joint[label, other]]]] = True
    others = probabilities.copy()
    others[rows, given] = -1.0
    # The normalised margin: 0.5 where another class is as probable as the given one.
    quality = (own - others.max(axis=1) + 1) / 2
    return Doubts(doubted & (quality < 0.5), quality, others.argmax(axis=1))


def confident_joint(given: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """int64 [C, C], how many rows that are labelled i are ones of j, by `doubt_classes`' rule."""
    classes = probabilities.shape[1]
    counts = np.bincount(given, minlength=classes)
    own = probabilities[np.arange(len(given)), given]
    # Where no row has a class, there is none to hold another to.
    limits = np.where(counts, np.bincount(given, own, classes) / np.maximum(counts, 1), np.inf)
    reached = np.where(probabilities >= limits, probabilities, -1.0)
    counted = reached.max(axis=1) >= 0
    joint = np.zeros((classes, classes))
    np.add.at(joint, (given[counted], reached[counted].argmax(axis=1)), 1)
    return np.rint(joint * (counts / np.maximum(joint.sum(axis=1), 1))[:, None]).astype(np.int64)


def doubt_labels(given: np.ndarray, probabilities: np.ndarray) -> Doubts:
    """Of any number of labels a row: each label is a question of its own, yes or no; a row is as good as its worst.

    Args:
        given: [n, C], multi-hot.
        probabilities: float [n, C].
    """
    each = [
        doubt_classes(given[:, label].astype(np.int64), np.stack([1 - own, own], axis=1))
        for label, own in enumerate(np.asarray(probabilities, np.float64).T)
    ]
    wrong = np.stack([one.wrong for one in each], axis=1)
    quality = np.stack([one.quality for one in each], axis=1).min(axis=1)
    return Doubts(np.asarray(wrong.any(axis=1)), quality, np.where(wrong, 1 - given, given).astype(given.dtype))


def doubt_numbers(given: np.ndarray, predictions: np.ndarray) -> Doubts:
    """Of a number a row: the largest residuals, in robust standard deviations from their median.

    The quality is how often a normal residual would be as large.

    Args:
        given, predictions: float [n].
    """
    residuals = given - predictions
    residuals = residuals - np.median(residuals)
    far = np.abs(residuals) / (DEVIATION_OF_MEDIAN * np.median(np.abs(residuals)) or 1.0)
    quality = np.array([math.erfc(one / math.sqrt(2)) for one in far])
    return Doubts(np.asarray(far > FAR), quality, np.asarray(predictions, np.float64))
