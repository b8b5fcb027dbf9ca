"""How many answers are right, estimated from scores alone, without a label of what was asked since.

Two estimates, both of which take it that an answer of some score is as often right as it was in the reference:
- average confidence: each score stands for the share that was right in its bin of the reference, by isotonic
  regression;
- difference of confidences (Guillory et al., 2021, arXiv:2107.03315): the reference's accuracy plus the change of the
  mean score.
A model that is as sure of questions it knows nothing of is beyond both: see what fits least.
"""

from dataclasses import dataclass

import numpy as np

from export.monitor.reference import Accuracy
from export.monitor.sketch import Sketch


@dataclass(frozen=True)
class Estimate:
    """Of the rows of a window.

    Attributes:
        calibrated: by average confidence.
        low, high: its 95 % interval, of chance in reference and window.
        doc: by the difference of confidences.
    """

    calibrated: float
    low: float
    high: float
    doc: float


def measure(right: np.ndarray, scores: np.ndarray, sketch: Sketch) -> Accuracy:
    """The accuracy of the reference's rows, by score.

    Args:
        right: [n], 1 or 0.
        scores: float [n].
        sketch: of the scores.
    """
    from sklearn.isotonic import IsotonicRegression

    bins = sketch.bins(scores)
    counts = np.bincount(bins, minlength=sketch.size)
    shares = np.bincount(bins, weights=right, minlength=sketch.size) / np.maximum(counts, 1)
    used = np.flatnonzero(counts)
    rising = IsotonicRegression(y_min=0, y_max=1).fit(used, shares[used], sample_weight=counts[used])
    # A bin without rows lies between its neighbours.
    by_score = np.interp(np.arange(sketch.size), used, rising.predict(used))
    return Accuracy(len(right), float(right.mean()), tuple(by_score.tolist()), tuple(counts.tolist()))


def estimate(counts: np.ndarray, mean_score: float, accuracy: Accuracy, sketch: Sketch) -> Estimate:
    """Of the rows of a window.

    Args:
        counts: int [bins], of their scores.
        mean_score: of them.
        accuracy: of the reference.
        sketch: of the reference's scores.
    """
    shares, by_score = counts / counts.sum(), np.array(accuracy.by_score)
    found = float(shares @ by_score)
    # A bin where all were right is not known exactly either: one right and one wrong row more (Agresti and Coull).
    rows = np.array(accuracy.rows_by_score) + 2
    spread = (by_score * (rows - 2) + 1) / rows
    variance = float(
        (shares**2 * spread * (1 - spread) / rows).sum() + (shares * spread * (1 - spread)).sum() / counts.sum()
    )
    half = 1.96 * variance**0.5
    doc = accuracy.share + mean_score - sketch.mean
    return Estimate(found, max(found - half, 0.0), min(found + half, 1.0), min(max(doc, 0.0), 1.0))
