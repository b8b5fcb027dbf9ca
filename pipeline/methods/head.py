"""The classification layer alone is learned, on the vectors that the checkpoint gives as it is: seconds, for few labels
or for a first look."""

import time

from pipeline.assemble import Assembly
from pipeline.classifier import Parts
from pipeline.data.split import Split
from pipeline.errors import UserError
from pipeline.methods.learned import FOLDS, learn
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.workers import Workers


def train(run: Assembly, rows: Split, checkpoints: Checkpoints, score=None) -> Progress:
    """See pipeline.methods.Train."""
    progress = checkpoints.restore()
    if progress.finished:
        print("training is already complete")
        return progress
    if has_new_weights(run):
        model, chunks = run.config.model, run.model.classifier_parts.chunk_pooling
        setting, others = f"model.pooling {model.pooled_by}", "mean, first or cls"
        if chunks is not None and chunks.weights:
            setting, others = f"model.chunk_pooling {chunks.kind}", "mean, token_mean or max"
        raise UserError(
            f"training.method head: {setting} has weights of its own, which nothing would train: use {others}."
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
    parts: Parts = run.model.classifier_parts
    return any(layer.weights for layer in parts.layers)


def fit_head(run: Assembly, rows: Split, workers: Workers) -> None:
    """Put the best linear layer on the model's pooled vectors as they now are in place of its head, and say so."""
    training, head = run.config.training, run.model.classifier_parts.head
    found = learn(
        run.data.task,
        rows,
        run.forward("vectors", workers)(rows),
        training.seed,
        label_smoothing=training.label_smoothing,
        balanced=training.class_weights == "balanced",
    )
    head.kernel.assign(found.layer.kernel)
    head.bias.assign(found.layer.bias)
    print(f"head fitted on {len(rows)} rows, C = {found.strength:g} of {FOLDS}-fold cross-validation", flush=True)
