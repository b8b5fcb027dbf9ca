"""95 % intervals of a mean over rows."""

import math

import numpy as np


def wilson(share: float, rows: int) -> list[float]:
    """Of a proportion (Wilson 1927), which holds for small samples and near 0 and 1 too."""
    from scipy.stats import binomtest

    interval = binomtest(round(share * rows), rows).proportion_ci(0.95, method="wilson")
    return [float(interval.low), float(interval.high)]


def interval_of(values: np.ndarray, share: bool) -> list[float] | None:
    """Of the mean of values, [n]: Wilson's of a share, else Student's; None where one row tells nothing of it."""
    mean = float(values.mean())
    if share:
        return wilson(mean, len(values))
    if len(values) < 2:
        return None
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return [mean - half, mean + half]
