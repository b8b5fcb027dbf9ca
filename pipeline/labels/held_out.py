"""What a linear layer on fixed vectors predicts for rows that it has not learned from."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from pipeline.data.folds import fold_numbers
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


def learn(task: Task, rows: Split, vectors: np.ndarray, seed: int) -> Learned:
    """Learn rows with their targets and weights; equal texts, and the rows of a group, are in one fold.

    Args:
        task: of the rows.
        rows: n of them.
        vectors: float32 [n, hidden].
        seed: of the folds.

    Raises:
        UserError: all rows have one text.
    """
    folds = fold_numbers(rows, FOLDS, seed)
    if len(np.unique(folds)) < 2:
        raise UserError(f"{len(rows)} training rows have one text between them: there is nothing to hold out.")
    weights = np.ones(len(rows), np.float32) if rows.weights is None else rows.weights
    examples = Examples(vectors, rows.training_targets(task, slice(None)), weights)
    fit = LinearFit(task)
    strength, held_out = choose_strength(fit, examples, task, folds)
    return Learned(task, fit.fitted(examples, strength), strength, held_out)
