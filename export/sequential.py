"""Decisions that may be looked at after every row, and stopped when they are clear, with an error that is stated.

An interval of 95 % holds for one look. Who looks after each row and stops at the first good one is wrong far more often
than one time in twenty. A confidence sequence holds for all looks together: with probability 1 - error its intervals
contain the true share after every row, however long it goes on and whatever makes one stop. Rows are taken for draws
from one population, so shuffle a file that is sorted.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from scipy.optimize import brentq
from scipy.special import betaln, xlog1py, xlogy

# Next to 0.
SMALLEST = 1e-300
Verdict = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True)
class Bounds:
    """Of a share or a difference of shares.

    Attributes:
        low, high: between which it is, at all looks together.
    """

    low: float
    high: float

    def at_least(self, limit: float) -> Verdict:
        """Whether it is so much or more."""
        return "passed" if self.low >= limit else "failed" if self.high < limit else "undecided"

    def at_most(self, limit: float) -> Verdict:
        """Whether it is so much or less."""
        return "passed" if self.high <= limit else "failed" if self.low > limit else "undecided"


def share_bounds(count: int, rows: int, error: float) -> Bounds:
    """Of the share of rows that have something.

    The likelihood ratio of a uniform mixture of shares against a share is a martingale under that share; the shares
    for which it is below 1 / error are kept (Robbins, 1970; Ville's inequality).

    Args:
        count: rows that have it.
        rows: all so far.
        error: of all looks together.
    """

    if not rows:
        return Bounds(0.0, 1.0)
    return Bounds(_least_share(count, rows, error), 1.0 - _least_share(rows - count, rows, error))


def _least_share(count: int, rows: int, error: float) -> float:
    """The smallest of the shares that are kept."""
    mixture = float(betaln(count + 1, rows - count + 1)) + math.log(error)

    def excess(share: float) -> float:
        return mixture - float(xlogy(count, share) + xlog1py(rows - count, -share))

    # It is highest at 0, and below 0 at count / rows, where the likelihood is largest.
    found: Any = brentq(excess, SMALLEST, count / rows) if count else 0.0
    return float(found)


def drop_bounds(broken: int, fixed: int, rows: int, error: float) -> Bounds:
    """Of the fall of accuracy from one model to another on the same rows.

    Args:
        broken: rows that only the first answers rightly.
        fixed: rows that only the second does.
        rows, error: see `share_bounds`; each of both has half of the error.
    """
    lost, won = share_bounds(broken, rows, error / 2), share_bounds(fixed, rows, error / 2)
    return Bounds(lost.low - won.high, lost.high - won.low)
