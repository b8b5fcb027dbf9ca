"""evaluation.calibration: probabilities that mean what they say, by a line for the logits.

Guo, Pleiss, Sun and Weinberger, 2017 (arXiv:1706.04599): logits are divided by the temperature with the smallest loss
on rows that nothing was trained on. The most probable class stays, what changes is its probability. Where labels are
off in different ways each may have a shift of its own beside it (bias-corrected temperature: Alexandari, Kundaje and
Shrikumar, 2020), and where a row has any number of labels a slope of its own too (Platt, 1999); the better of the two
in cross-validation is taken, and the second only where it is clearly better. It goes into the weights of the last
layer, so that whatever asks the served model gets the same; isotonic regression, which no weights can hold, is left.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.tasks.task import Task

# With fewer validation rows a temperature is mostly chance.
FEWEST_ROWS = 200
FOLDS = 5
# Of the slopes' logarithms.
BOUNDS = (-3.0, 3.0)
# Predictions up to which labels get lines of their own: beyond, to find them takes minutes.
MOST_PREDICTIONS = 20_000_000


@dataclass(frozen=True)
class Line:
    """From a model's logits to others: `scale` * logits + `shift`, float64 [] or [K] each."""

    scale: np.ndarray
    shift: np.ndarray

    @classmethod
    def of_temperature(cls, temperature: float) -> "Line":
        """Logits divided by a number."""
        return cls(np.array(1 / temperature), np.array(0.0))

    def predictions(self, task: Task, predictions: np.ndarray) -> np.ndarray:
        """float32 [n, K], for predictions of the model's own logits."""
        return task.predictions_of_logits(task.logits_of(predictions) * self.scale + self.shift)


@dataclass(frozen=True)
class Calibration:
    """A line, and what it does for rows that have not chosen it: each was held out once.

    Attributes:
        line: the same for all labels (a temperature), or one a label.
        rows: validation rows that have chosen it.
        loss, ece: of these rows without and with it: cross-entropy, and expected calibration error.
    """

    line: Line
    rows: int
    loss: tuple[float, float]
    ece: tuple[float, float]

    @property
    def temperature(self) -> float | None:
        """Above 1 the model was too sure of itself, below not sure enough; None: labels have lines of their own."""
        return 1 / float(self.line.scale) if self.line.shift.ndim == 0 else None

    def summary(self) -> dict[str, Any]:
        """For metrics.json."""
        found = {"scale": self.line.scale.tolist(), "shift": self.line.shift.tolist()}
        known = {} if self.temperature is None else {"temperature": self.temperature}
        return known | found | {"rows": self.rows, "loss": list(self.loss), "ece": list(self.ece)}

    def __str__(self) -> str:
        how = "a line a label" if self.temperature is None else f"temperature {self.temperature:.3g}"
        return (
            f"{how} of {self.rows} validation rows: on rows held out from it the loss is "
            f"{self.loss[1]:.4f} in place of {self.loss[0]:.4f}, the calibration error (ECE) {self.ece[1]:.4f} in "
            f"place of {self.ece[0]:.4f}"
        )


def find_calibration(task: Task, values: np.ndarray, predictions: np.ndarray, seed: int = 0) -> Calibration | None:
    """The line of validation rows; None: there are too few, or none is clearly better than none at all, by more than a
    standard error of the difference in 5-fold cross-validation.

    Args:
        task: whose predictions are probabilities; of others None.
        values: of n rows.
        predictions: float32 [n, K], not trained on.
        seed: of the folds.
    """
    if not task.labelled or len(values) < FEWEST_ROWS or not np.isfinite(predictions).all():
        return None
    fold_of = np.random.default_rng(seed).permutation(len(values)) % FOLDS
    chosen, best = None, np.asarray(predictions, np.float32)
    for by_label in (False, True) if predictions.size <= MOST_PREDICTIONS else (False,):
        held_out = np.array(predictions, np.float32)
        for fold in range(FOLDS):
            out = fold_of == fold
            line = _best(task, values[~out], predictions[~out], by_label)
            held_out[out] = line.predictions(task, predictions[out])
        gained = task.row_losses(values, best) - task.row_losses(values, held_out)
        if gained.mean() > gained.std(ddof=1) / np.sqrt(len(gained)):
            chosen, best = by_label, held_out
    if chosen is None:
        return None
    ways = (predictions, best)
    loss = [float(task.row_losses(values, found).mean()) for found in ways]
    ece = [float(task.scores(values, found)["ece"]) for found in ways]
    line = _best(task, values, predictions, chosen)
    return Calibration(line, len(values), (loss[0], loss[1]), (ece[0], ece[1]))


def _best(task: Task, values: np.ndarray, predictions: np.ndarray, by_label: bool) -> Line:
    """The line with the smallest loss. Lines of labels are held to one by a normal prior of deviation 1 on shifts and
    on logarithms of slopes, which counts as one row does."""
    logits, targets = task.logits_of(predictions), task.training_targets(values)
    labels = logits.shape[1] if by_label else 0
    slopes = labels if by_label and task.independent else 1
    # Where labels are independent the loss is their mean.
    each = 1 / len(logits) / (logits.shape[1] if task.independent else 1)

    def line_of(parameters: np.ndarray) -> Line:
        scale, shift = np.exp(parameters[:slopes]), parameters[slopes:]
        return Line(scale if slopes > 1 else scale[0], shift if labels else np.array(0.0))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        line = line_of(parameters)
        found = task.predictions_of_logits(logits * line.scale + line.shift)
        off = (found - targets) * each
        by_slope = (off * logits).sum(axis=0) * line.scale
        gradient = np.append(by_slope if slopes > 1 else by_slope.sum(), off.sum(axis=0) if labels else [])
        prior = 0.5 * each * float(parameters @ parameters) if by_label else 0.0
        total = float(task.row_losses(values, found).mean()) + prior
        return total, gradient + (each * parameters if by_label else 0.0)

    bounds = [BOUNDS] * slopes + [(None, None)] * labels
    # Slow to import, and not needed at the start.
    from scipy.optimize import minimize

    found: Any = minimize(loss, np.zeros(slopes + labels), jac=True, bounds=bounds, method="L-BFGS-B")
    return line_of(found.x)
