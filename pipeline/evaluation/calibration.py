"""evaluation.calibration: probabilities that mean what they say, by one temperature for all logits.

Guo, Pleiss, Sun and Weinberger, 2017 (arXiv:1706.04599): logits are divided by the temperature with the smallest loss
on rows that nothing was trained on. The most probable class stays, what changes is its probability. The division goes
into the weights of the last layer, so that whatever asks the served model gets the same.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from pipeline.tasks.task import Task

# With fewer validation rows a temperature is mostly chance.
FEWEST_ROWS = 200
FOLDS = 5
# Of the temperature's logarithm.
BOUNDS = (-3.0, 3.0)


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it does for rows that have not chosen it: each was held out once.

    Attributes:
        temperature: above 1 the model was too sure of itself, below not sure enough.
        rows: validation rows that have chosen it.
        loss, ece: of these rows without a temperature and with one: cross-entropy, and expected calibration error.
    """

    temperature: float
    rows: int
    loss: tuple[float, float]
    ece: tuple[float, float]

    def summary(self) -> dict[str, Any]:
        """For metrics.json."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"temperature {self.temperature:.3g} of {self.rows} validation rows: on rows held out from it the loss is "
            f"{self.loss[1]:.4f} in place of {self.loss[0]:.4f}, the calibration error (ECE) {self.ece[1]:.4f} in "
            f"place of {self.ece[0]:.4f}"
        )


def find_calibration(task: Task, values: np.ndarray, predictions: np.ndarray, seed: int = 0) -> Calibration | None:
    """The temperature of validation rows; None: there are too few, or it is not clearly better than none, by more than
    a standard error of the difference in 5-fold cross-validation.

    Args:
        task: whose predictions are probabilities; of others None.
        values: of n rows.
        predictions: float32 [n, K], not trained on.
        seed: of the folds.
    """
    if not task.labelled or len(values) < FEWEST_ROWS or not np.isfinite(predictions).all():
        return None
    fold_of = np.random.default_rng(seed).permutation(len(values)) % FOLDS
    held_out = np.array(predictions, np.float32)
    for fold in range(FOLDS):
        out = fold_of == fold
        held_out[out] = task.tempered(predictions[out], _best(task, values[~out], predictions[~out]))
    before, after = task.row_losses(values, predictions), task.row_losses(values, held_out)
    gained = before - after
    if gained.mean() <= gained.std(ddof=1) / np.sqrt(len(gained)):
        return None
    ece = [float(task.scores(values, found)["ece"]) for found in (predictions, held_out)]
    return Calibration(
        _best(task, values, predictions), len(values), (float(before.mean()), float(after.mean())), (ece[0], ece[1])
    )


def _best(task: Task, values: np.ndarray, predictions: np.ndarray) -> float:
    """The temperature with the smallest loss."""

    def loss(logarithm: float) -> float:
        return float(task.row_losses(values, task.tempered(predictions, float(np.exp(logarithm)))).mean())

    found: Any = minimize_scalar(loss, bounds=BOUNDS, method="bounded")
    return float(np.exp(found.x))
