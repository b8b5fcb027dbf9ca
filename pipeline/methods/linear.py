"""A linear layer on fixed features: the task's own loss with an L2 penalty, minimised by L-BFGS."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from threadpoolctl import threadpool_limits

from pipeline.tasks.task import Task

# Of features that are centred and scaled to a mean squared norm of 1: as scikit-learn's C, the inverse of the penalty
# on a sum of losses.
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
MOST_ITERATIONS = 100


@dataclass(frozen=True)
class Examples:
    """What is learned from.

    Attributes:
        features: float32 [n, hidden].
        targets: float32 [n, outputs], as the task's loss takes them.
        weights: float32 [n].
    """

    features: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def part(self, chosen: np.ndarray) -> "Examples":
        """Those where `chosen`, bool [n], is true."""
        return Examples(self.features[chosen], self.targets[chosen], self.weights[chosen])


@dataclass(frozen=True)
class Linear:
    """features @ kernel + bias; kernel float32 [hidden, outputs], bias float32 [outputs]."""

    kernel: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """The task's logits, float32 [n, outputs]."""
        return features @ self.kernel + self.bias


class LinearFit:
    """Fits linear layers for one task; compiled once.

    The objective, over examples i with weights w: sum_i w_i loss_i + |kernel|^2 / (2 C), of features that are centred
    and scaled. For one label a row that is scikit-learn's LogisticRegression.

    Args:
        task: whose loss is minimised.
        label_smoothing: of that loss.
    """

    def __init__(self, task: Task, label_smoothing: float = 0.0):
        self.outputs = task.outputs
        loss: Any = task.loss(label_smoothing)

        @tf.function(
            input_signature=[tf.TensorSpec([None, None]) for _ in range(2)] + [tf.TensorSpec([None]) for _ in range(2)],
            autograph=False,
        )
        def value_and_slopes(features, targets, weights, layer):
            """Sum of losses, and its gradient by the layer, float32 [(hidden + 1) * outputs]."""
            with tf.GradientTape() as tape:
                tape.watch(layer)
                kernel = tf.reshape(layer, [-1, task.outputs])
                losses = loss(targets, tf.matmul(features, kernel[:-1]) + kernel[-1])
                total = tf.reduce_sum(losses * weights)
            return total, tape.gradient(total, layer)

        self._value_and_slopes = value_and_slopes

    def path(self, examples: Examples, strengths: tuple[float, ...] = STRENGTHS) -> Iterator[Linear]:
        """A layer for each of several values of C, rising, as it is asked for; each begins where the one before has
        ended."""
        centre = np.average(examples.features, axis=0, weights=examples.weights)
        centred = examples.features - centre
        scale = float(np.sqrt(np.average((centred**2).sum(axis=1), weights=examples.weights))) or 1.0
        tensors = [tf.constant(array, tf.float32) for array in (centred / scale, examples.targets, examples.weights)]
        layer = np.zeros([centred.shape[1] + 1, self.outputs])
        for strength in strengths:
            layer = self._minimum(tensors, layer, strength)
            kernel = layer[:-1] / scale
            yield Linear(kernel.astype(np.float32), (layer[-1] - centre @ kernel).astype(np.float32))

    def fitted(self, examples: Examples, strength: float) -> Linear:
        """The layer of one of STRENGTHS, reached as in a choice among all."""
        *_, layer = self.path(examples, STRENGTHS[: STRENGTHS.index(strength) + 1])
        return layer

    def _minimum(self, tensors: list[tf.Tensor], start: np.ndarray, strength: float) -> np.ndarray:
        # Slow to import, and not needed at the start.
        from scipy.optimize import minimize

        total = max(float(tf.reduce_sum(tensors[2])), 1e-9)

        def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
            value, slopes = self._value_and_slopes(*tensors, tf.constant(flat, tf.float32))
            penalised = flat.reshape(start.shape).copy()
            penalised[-1] = 0.0
            penalty = 0.5 / strength * float((penalised**2).sum())
            gradient = slopes.numpy().astype(np.float64) + penalised.ravel() / strength
            # By the number of examples, so that the tolerances mean the same for few and many.
            return (float(value) + penalty) / total, gradient / total

        options = {"maxiter": MOST_ITERATIONS, "ftol": 1e-7, "gtol": 1e-5}
        with threadpool_limits(1):
            return minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(
                start.shape
            )


def choose_strength(fit: LinearFit, examples: Examples, task: Task, folds: np.ndarray) -> tuple[float, np.ndarray]:
    """C by cross-validation: the one with the smallest loss on rows that were not learned from. Larger ones, which take
    longest, are not tried once two in a row have been worse.

    Args:
        fit: of the task.
        examples: all of them.
        task: whose activation makes predictions.
        folds: int [n], the fold of each row.

    Returns:
        C, and its predictions on held-out rows, float32 [n, K].
    """
    loss: Any = task.loss()
    held_out = [folds == fold for fold in np.unique(folds)]
    paths = [fit.path(examples.part(~out)) for out in held_out]
    losses, best = [], np.zeros(examples.targets.shape, np.float32)
    for layers in zip(*paths, strict=True):
        logits, total = np.zeros_like(best), 0.0
        for out, layer in zip(held_out, layers, strict=True):
            asked = examples.part(out)
            logits[out] = layer(asked.features)
            total += float(np.sum(loss(asked.targets, logits[out]).numpy() * asked.weights))
        losses.append(total)
        if total == min(losses):
            best = logits
        elif len(losses) - 1 - int(np.argmin(losses)) == 2:
            break
    return STRENGTHS[int(np.argmin(losses))], task.activation(tf.constant(best)).numpy()
