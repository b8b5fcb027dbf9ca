"""What a model that was evaluated says, with which its export is compared."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Expected:
    """What the evaluated model says to n texts.

    Attributes:
        predictions: float32 [n, K].
        tolerance: largest difference of a prediction that is taken as equal.
        fit: float [n], of a task whose answers have it.
    """

    predictions: np.ndarray
    tolerance: float
    fit: np.ndarray | None = None

    @property
    def fit_tolerance(self) -> float:
        """Largest difference of a fit."""
        return fit_tolerance(self.tolerance)


def fit_tolerance(tolerance: float) -> float:
    """Largest difference of a fit, by that of a prediction: a distance is a sum over all dimensions, whose rounding
    adds up."""
    return 50 * tolerance
