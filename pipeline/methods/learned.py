"""A linear layer learned from rows on fixed vectors, and what it predicts for those that it has not learned from."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from pipeline.data.folds import inner_fold_numbers
from pipeline.data.split import Split
from pipeline.errors import UserError
from pipeline.methods.linear import Examples, Linear, LinearFit, choose_strength
from pipeline.tasks.task import Task

FOLDS = 5


@dataclass(frozen=True)
class Learned:
    """What was learned from rows.

    Attributes:
        task: of the rows.
        layer: learned from all of them.
        strength: C of the layer.
        held_out: predictions for the rows themselves, each by a layer of the same C that has learned from the other
            folds, float32 [n, K].
    """

    task: Task
    layer: Linear
    strength: float
    held_out: np.ndarray

    def predict(self, vectors: np.ndarray) -> np.ndarray:
        """float32 [m, K], for other rows."""
        return self.task.activation(tf.constant(self.layer(vectors))).numpy()


def learn(
    task: Task, rows: Split, vectors: np.ndarray, seed: int, *, label_smoothing: float = 0.0, balanced: bool = False
) -> Learned:
    """Learn rows with their targets and weights, under the C that is best for rows not learned from; equal texts are in
    one fold, and so are the rows of a group, where there are two groups or more.

    Args:
        task: of the rows.
        rows: n of them.
        vectors: float32 [n, hidden].
        seed: of the folds.
        label_smoothing: of the loss.
        balanced: whether classes count alike, whatever their number of rows.

    Raises:
        UserError: all rows have one text.
    """
    folds = inner_fold_numbers(rows, FOLDS, seed)
    if len(np.unique(folds)) < 2:
        raise UserError(f"{len(rows)} training rows have one text between them: there is nothing to hold out.")
    values = rows.targets()
    weights = task.example_weights(values)(values) if balanced else np.ones(len(rows), np.float32)
    if rows.weights is not None:
        weights = weights * rows.weights
    examples = Examples(vectors, rows.training_targets(task, slice(None)), weights)
    fit = LinearFit(task, label_smoothing)
    strength, held_out = choose_strength(fit, examples, task, folds)
    return Learned(task, fit.fitted(examples, strength), strength, held_out)
