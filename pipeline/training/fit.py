"""The epochs of a run: train, score, keep the best, save; and go on from wherever an earlier process stopped."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from pipeline.config import TextConfig, TrainingConfig
from pipeline.data.batching import steps_per_epoch, training_batches
from pipeline.data.load import Split
from pipeline.errors import UserError
from pipeline.text import TextEncoder
from pipeline.training.checkpoint import Checkpoints, Progress

# Losses are looked at this often: each look waits for the device.
LOSS_EVERY = 50


def fit(
    model: keras.Model,
    train: Split,
    encoder: TextEncoder,
    config: TrainingConfig,
    text: TextConfig,
    checkpoints: Checkpoints,
    logs: Path,
    score: Callable[[], dict] | None,
) -> Progress:
    """Train a compiled classifier, from its newest checkpoint where there is one, and leave it with its best weights.

    Args:
        model: compiled TrainableClassifier.
        train: the rows.
        encoder: strings to token ids.
        config, text: the training and text sections.
        checkpoints: of this model.
        logs: folder for TensorBoard.
        score: computes the validation scores of the current weights (a dict with config.monitor); None: no validation.

    Returns:
        The finished progress, with the history of all epochs.

    Raises:
        UserError: the loss is not finite any more.
    """
    progress = checkpoints.restore()
    steps = steps_per_epoch(len(train), config.batch_size)
    if progress.finished:
        print("training is already complete")
    elif progress.epoch or progress.step:
        print(f"resuming in epoch {progress.epoch + 1} after {progress.step} of {steps} batches")
    elif config.epochs:
        # With a checkpoint from the start, a kill in the first minutes resumes like any other.
        checkpoints.save(progress)
    weights = balanced_weights(train) if config.class_weights == "balanced" else None
    writer = tf.summary.create_file_writer(str(logs))
    while not progress.finished:
        epoch = progress.epoch
        batches = training_batches(
            train,
            encoder,
            batch_size=config.batch_size,
            num_classes=train.num_classes,
            seed=config.seed,
            epoch=epoch,
            skip=progress.step,
            by_length=config.bucket_by_length,
            fixed_length=text.fixed_length,
            class_weights=weights,
        )
        watch = _Watch(progress, checkpoints, config, writer, steps)
        if progress.step < steps:
            # The batches come in their final order; where no one watches, lines take the place of the bar.
            verbose = 1 if sys.stdout.isatty() else 0
            model.fit(batches, initial_epoch=epoch, epochs=epoch + 1, callbacks=[watch], shuffle=False, verbose=verbose)
        row = watch.finish(len(train))
        if score is not None:
            row |= {f"validation_{name}": value for name, value in score().items() if np.isscalar(value)}
        _log(writer, row, (epoch + 1) * steps)
        progress.history.append(row)
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items() if name in _shown(config)), flush=True)
        if score is not None and (progress.best_epoch is None or _better(progress, config.monitor)):
            progress.best_epoch = epoch
            progress.best_weights = checkpoints.save_weights(epoch)
        patient = config.early_stopping is None or epoch - (progress.best_epoch or 0) < config.early_stopping
        if not patient:
            print(f"no better validation {config.monitor} for {config.early_stopping} epochs: stopping early")
        progress.epoch, progress.step, progress.loss_sum, progress.seconds = epoch + 1, 0, 0.0, 0.0
        progress.finished = epoch + 1 >= config.epochs or not patient
        checkpoints.save(progress)
    if progress.best_weights:
        checkpoints.restore_weights(progress.best_weights)
    return progress


class _Watch(keras.callbacks.Callback):
    """Counts batches, adds up the loss, and saves the state when it is time."""

    def __init__(self, progress: Progress, checkpoints: Checkpoints, config: TrainingConfig, writer, steps: int):
        super().__init__()
        self.progress, self.checkpoints, self.config, self.writer, self.steps = (
            progress,
            checkpoints,
            config,
            writer,
            steps,
        )
        self.first_step = progress.step
        self.pending: list = []
        self.started = self.saved = time.monotonic()
        self.spent_before = progress.seconds

    def on_train_batch_end(self, batch, logs=None):
        self.progress.step += 1
        self.pending.append(logs["loss"])
        seconds = time.monotonic() - self.started
        logs["examples/s"] = (self.progress.step - self.first_step) * self.config.batch_size / seconds
        if len(self.pending) >= LOSS_EVERY:
            self._take_losses()
        if time.monotonic() - self.saved > self.config.checkpoint_seconds and self.progress.step < self.steps:
            self._take_losses()
            self.progress.seconds = self.spent_before + seconds
            self.checkpoints.save(self.progress)
            self.saved = time.monotonic()

    def _take_losses(self) -> None:
        losses = [float(loss) for loss in self.pending]
        self.pending.clear()
        if not losses:
            return
        if not all(map(math.isfinite, losses)):
            raise UserError(
                f"the loss is not finite any more in epoch {self.progress.epoch + 1}, before batch "
                f"{self.progress.step}; lower training.learning_rate (the last good state: {self.checkpoints.folder})."
            )
        self.progress.loss_sum += sum(losses)
        mean = sum(losses) / len(losses)
        step = self.progress.epoch * self.steps + self.progress.step
        rate = float(self.model.optimizer.learning_rate)
        _log(self.writer, {"batch_loss": mean, "learning_rate": rate}, step)
        if not sys.stdout.isatty():
            done = self.progress.step - self.first_step
            speed = done * self.config.batch_size / (time.monotonic() - self.started)
            print(f"epoch {self.progress.epoch + 1}  batch {self.progress.step}/{self.steps}  loss {mean:.4f}  "
                  f"{speed:.1f} examples/s", flush=True)  # fmt: skip

    def finish(self, rows: int) -> dict:
        """The numbers of the finished epoch."""
        self._take_losses()
        seconds = self.spent_before + time.monotonic() - self.started
        return {
            "epoch": self.progress.epoch + 1,
            "loss": self.progress.loss_sum / max(self.steps, 1),
            "seconds": seconds,
            "examples_per_second": rows / seconds,
        }


def balanced_weights(train: Split) -> np.ndarray:
    """float32 [C]: rows / (C * rows of the class), as scikit-learn's "balanced"; 0 for a class without rows."""
    counts = train.counts()
    return np.where(counts > 0, len(train) / (len(counts) * np.maximum(counts, 1)), 0).astype(np.float32)


def _better(progress: Progress, monitor: str) -> bool:
    new = progress.history[-1][f"validation_{monitor}"]
    best = progress.history[progress.best_epoch][f"validation_{monitor}"]
    return new < best if monitor == "loss" else new > best


def _shown(config: TrainingConfig) -> tuple[str, ...]:
    return (
        "epoch",
        "loss",
        "examples_per_second",
        "validation_loss",
        "validation_accuracy",
        f"validation_{config.monitor}",
    )


def _log(writer: tf.summary.SummaryWriter, row: dict, step: int) -> None:
    with writer.as_default():
        for name, value in row.items():
            tf.summary.scalar(name, value, step)
    writer.flush()
