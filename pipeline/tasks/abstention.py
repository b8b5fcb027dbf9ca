"""From which score on to answer, so that of the answers no more are wrong than was asked for.

Learn then test (Angelopoulos, Bates, Candes, Jordan and Lei, 2021, arXiv:2110.01052): thresholds, fixed beforehand, are
tested from a high one down, each by the binomial probability of so few wrong answers among the validation rows above it
if the share of wrong ones were larger than wanted; the last one that passes before the first that fails is taken. Where
testing begins follows from how many rows are answered, not from how many are wrong.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONFIDENCE = 0.95
# Evenly spaced in log-odds, from 0.999994 to 0.0067, whatever the scores are.
LEVELS = 1 / (1 + np.exp(-np.linspace(12, -5, 681)))


@dataclass(frozen=True)
class Abstention:
    """A threshold and what it promises.

    Attributes:
        threshold: answers with a score below it are withheld.
        error: at most this share of the answers is wrong, for new rows of the same kind.
        rows, answered, wrong: validation rows that have chosen it; those above it; of these the wrong ones.
    """

    threshold: float
    error: float
    rows: int
    answered: int
    wrong: int

    def __str__(self) -> str:
        return (
            f"answered from a score of {self.threshold:.4g} on: at most {self.error:.1%} of the answers are wrong, "
            f"with {CONFIDENCE:.0%} confidence over the choice of the {self.rows} validation rows, of which "
            f"{self.answered} are answered and {self.wrong} of these wrongly"
        )

    def metadata(self) -> dict[str, Any]:
        """JSON-able."""
        return {"error": self.error, "rows": self.rows, "answered": self.answered, "wrong": self.wrong}


def find_abstention(scores: np.ndarray, wrong: np.ndarray, error: float) -> Abstention | None:
    """The threshold that answers most rows and keeps its promise with CONFIDENCE; None: none does.

    Args:
        scores: float32 [n], of rows that nothing was trained on.
        wrong: bool [n], whether their answers are.
        error: largest share of wrong answers among those given.
    """
    from scipy.stats import binom

    levels = LEVELS.astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    answered = np.searchsorted(-scores[order], -levels, side="right")
    faults = np.append(0, np.cumsum(wrong[order]))[answered]
    least = fewest_rows(error)
    # Of the fewest rows that can pass, one wrong one would be the end.
    start = int(np.searchsorted(answered, np.clip(len(scores) // 5, least, 3 * least)))
    passes = binom.cdf(faults[start:], answered[start:], error) <= 1 - CONFIDENCE
    best = start - 1 + int(np.argmin(np.append(passes, False)))
    if best < start:
        return None
    return Abstention(float(levels[best]), error, len(scores), int(answered[best]), int(faults[best]))


def fewest_rows(error: float) -> int:
    """Rows, all answered rightly, from which a threshold can pass."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-error))


def best_promise(scores: np.ndarray, wrong: np.ndarray, errors: Sequence[float]) -> Abstention | None:
    """Of the first of these errors that can be promised; None: of none."""
    return next((found for error in errors if (found := find_abstention(scores, wrong, error))), None)
