"""How far counts in bins are from other counts, and whether chance explains it; of many windows at once.

PSI and Jensen-Shannon say how far; two tests say whether it can be chance. Both samples are samples: the reference has
some thousand rows, and its own error counts.

- Pearson's chi-square of two rows of counts. With 150 labels and a window of 1,000 rows most bins hold a handful of
  rows, where the chi-square distribution is no guide; the p-value is that of the gamma distribution with the mean and
  variance that the statistic has when rows are dealt out at random (Dawson, 1954; Lewontin and Felsenstein, 1965).
- Kolmogorov and Smirnov's largest difference of cumulative shares, for features with an order; of binned values it is
  smaller than of the values themselves, so the p-value is on the safe side.

A window is one look. Its level, by default 0.001, is divided among all tests of the look (Bonferroni), so that, however
the features hang together, of windows in which nothing has moved fewer than one in 1,000 gives an alarm: however many
windows there are, and however often a report is made. Half of the level is used: where bins have few rows, the gamma
distribution's tail is too light by a factor that stayed below 8 in simulations, for the few features that have such.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import rel_entr
from scipy.stats import gamma, kstwobign

# Added to every bin that either sample uses before logarithms are taken.
HALF = 0.5
# What is used of a level.
SAFETY = 0.5
# A window with fewer rows is not looked at.
FEWEST_ROWS = 50


@dataclass(frozen=True)
class Limits:
    """When a feature of a window counts as moved: it is no chance, and it is large enough to matter.

    Attributes:
        level: of false alarms, of a window with all its features.
        psi: the least, less what chance alone gives.
    """

    level: float = 0.001
    psi: float = 0.05


@dataclass(frozen=True)
class Comparison:
    """A feature in each of W windows, against the reference; NaN where a window has too few rows.

    Attributes:
        psi: float [W], population stability index in nats, less what chance alone gives, at least 0.
        js: float [W], Jensen-Shannon divergence in bits, from 0 to 1.
        p: float [W], the smaller p-value of the tests, times their number.
    """

    psi: np.ndarray
    js: np.ndarray
    p: np.ndarray

    def moved(self, limits: Limits, features: int) -> np.ndarray:
        """bool [W].

        Args:
            limits: of an alarm.
            features: how many are looked at in each window.
        """
        return (self.p < SAFETY * limits.level / features) & (self.psi >= limits.psi)


def compare(counts: np.ndarray, reference: np.ndarray, ordered: bool) -> Comparison:
    """Windows against a reference.

    Args:
        counts: int [W, B], rows of each window in each bin.
        reference: int [B].
        ordered: whether the bins but the last have an order.
    """
    rows = counts.sum(axis=1)
    enough = rows >= FEWEST_ROWS
    psi, js, p = (np.full(len(counts), np.nan) for _ in range(3))
    some = counts[enough]
    if len(some):
        psi[enough], js[enough] = distances(some, reference)
        found = chi_square_p(some, reference)
        if ordered:
            found = np.minimum(1.0, 2 * np.minimum(found, kolmogorov_p(some, reference)))
        p[enough] = found
    return Comparison(psi, js, p)


def distances(counts: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """PSI and Jensen-Shannon, float [W] each; see Comparison."""
    rows, total = counts.sum(axis=1, keepdims=True), reference.sum()
    used = (counts > 0) | (reference > 0)
    bins = used.sum(axis=1, keepdims=True)
    here = (counts + HALF * used) / (rows + HALF * bins)
    there = (reference + HALF * used) / (total + HALF * bins)
    psi = ((here - there) * np.log(np.divide(here, there, out=np.ones(here.shape), where=used))).sum(axis=1)
    # By chance it is about chi-square, of one degree less than there are bins, times this (Yurdakul, 2018).
    psi -= (bins[:, 0] - 1) * (1 / rows[:, 0] + 1 / total)
    here, there = counts / rows, np.broadcast_to(reference / total, counts.shape)
    middle = (here + there) / 2
    js = (rel_entr(here, middle) + rel_entr(there, middle)).sum(axis=1) / (2 * np.log(2))
    return np.maximum(psi, 0.0), js


def chi_square_p(counts: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """float [W], p-values of Pearson's statistic of each window and the reference."""
    rows, total = counts.sum(axis=1).astype(float), float(reference.sum())
    columns, everything = (counts + reference).astype(float), rows + total
    shares = np.divide(counts, columns, out=np.zeros_like(columns), where=columns > 0)
    expected = (rows / everything)[:, None]
    # Of a table with two rows: sum of N_j (share_j - share)^2 / (share (1 - share)).
    statistic = (columns * (shares - expected) ** 2).sum(axis=1) / (expected * (1 - expected))[:, 0]
    bins = (columns > 0).sum(axis=1)
    inverse = np.divide(1.0, columns, out=np.zeros_like(columns), where=columns > 0).sum(axis=1)
    n = everything
    v1, v2 = (n - 2) / (n - 1), (bins - 1) * (n - bins) / (n - 1)
    w1, w2 = (n / rows + n / total - 4) / (n - 2), (n * inverse - bins**2) / (n - 2)
    mean = n * (bins - 1) / (n - 1)
    variance = 2 * n / (n - 3) * (v1 - w1) * (v2 - w2) + n**2 / (n - 1) * w1 * w2
    p, known = np.ones(len(counts)), (bins > 1) & (variance > 0)
    scale = variance[known] / mean[known]
    p[known] = gamma.sf(statistic[known], mean[known] / scale, scale=scale)
    return p


def kolmogorov_p(counts: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """float [W], p-values of the largest difference of cumulative shares; the last bin, of missing values, apart."""
    here, there = counts[:, :-1], reference[:-1]
    rows, total = here.sum(axis=1), there.sum()
    p, known = np.ones(len(counts)), rows > 0
    if total and known.any():
        below = np.cumsum(here[known], axis=1) / rows[known, None] - np.cumsum(there) / total
        effective = rows[known] * total / (rows[known] + total)
        p[known] = kstwobign.sf(np.sqrt(effective) * np.abs(below).max(axis=1))
    return p


def moved_since(counts: np.ndarray, reference: np.ndarray) -> int:
    """The window from which on a feature is another: where the rows before it, the reference's among them, and those
    from it on are least like one sample (likelihood ratio of two multinomial distributions).

    Args:
        counts: int [W, B], up to the last window that has moved.
        reference: int [B].
    """
    before = reference + np.cumsum(counts, axis=0) - counts
    after = counts.sum(axis=0) - (before - reference)
    return int(np.argmax(_likelihood(before) + _likelihood(after)))


def _likelihood(counts: np.ndarray) -> np.ndarray:
    """float [W], log-likelihood of counts under their own shares."""
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.ones(counts.shape), where=(counts > 0) & (rows > 0))
    return (counts * np.log(shares)).sum(axis=1)
