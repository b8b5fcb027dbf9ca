"""The classification layer alone is learned, on the vectors that the checkpoint gives as it is: seconds, for few labels
or for a first look."""

import time

import numpy as np

from pipeline.assemble import Assembly
from pipeline.classifier import parts_of
from pipeline.data.folds import fold_numbers
from pipeline.data.split import Split
from pipeline.errors import UserError
from pipeline.methods.linear import Examples, LinearFit, choose_strength
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.workers import Workers

FOLDS = 5


def train(run: Assembly, rows: Split, checkpoints: Checkpoints, score=None) -> Progress:
    """See pipeline.methods.Train."""
    progress = checkpoints.restore()
    if progress.finished:
        print("training is already complete")
        return progress
    if has_new_weights(run):
        raise UserError(
            f"training.method head: model.pooling {run.config.model.pooled_by} has weights of its own, which nothing "
            "would train: use mean, first or cls."
        )
    started = time.perf_counter()
    fit_head(run, rows, checkpoints.workers)
    seconds = max(time.perf_counter() - started, 1e-9)
    progress.history = [{"epoch": 1, "seconds": seconds, "examples_per_second": len(rows) / seconds}]
    progress.epoch, progress.finished = 1, True
    checkpoints.save(progress)
    return progress


def has_new_weights(run: Assembly) -> bool:
    """Whether the pooling has weights that the checkpoint does not bring."""
    parts = parts_of(run.model)
    assert parts is not None
    return any(layer.weights for layer in parts.pooling.layers)


def fit_head(run: Assembly, rows: Split, workers: Workers) -> None:
    """Put the best linear layer on the model's pooled vectors as they now are in place of its head, and say so."""
    parts = parts_of(run.model)
    assert parts is not None
    examples = examples_of(run, rows, run.forward("vectors", workers)(rows))
    fit = LinearFit(run.data.task, run.config.training.label_smoothing)
    folds = fold_numbers(rows, FOLDS, run.config.training.seed)
    strength, _ = choose_strength(fit, examples, run.data.task, folds)
    layer = fit.fitted(examples, strength)
    parts.head.kernel.assign(layer.kernel)
    parts.head.bias.assign(layer.bias)
    print(f"head fitted on {len(rows)} rows, C = {strength:g} of {FOLDS}-fold cross-validation", flush=True)


def examples_of(run: Assembly, rows: Split, features: np.ndarray) -> Examples:
    """Features with the targets and the weights that rows have in training."""
    task, values = run.data.task, rows.targets()
    balanced = run.config.training.class_weights == "balanced"
    weights = task.example_weights(values)(values) if balanced else np.ones(len(rows), np.float32)
    if rows.weights is not None:
        weights = weights * rows.weights
    return Examples(features, rows.training_targets(task, slice(None)), weights)
