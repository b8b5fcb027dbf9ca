"""The epochs of a run: train, score, keep the best, save; and go on from wherever an earlier process stopped."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.config import TextConfig, TrainingConfig
from pipeline.data.batching import steps_per_epoch, training_batches
from pipeline.data.split import Split
from pipeline.text import TextEncoder
from pipeline.training.averaging import averaged_weights
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.model import TrainableClassifier
from pipeline.training.watch import StopRequest, Watch, log


def fit(
    model: TrainableClassifier,
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
        model: compiled.
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
        Stopped: SIGTERM came; the state is saved.
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
    workers = checkpoints.workers
    writer = tf.summary.create_file_writer(str(logs)) if workers.chief else tf.summary.create_noop_writer()
    with StopRequest() as stop:
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
                shard=workers.shard,
                by_length=config.bucket_by_length,
                fixed_length=text.fixed_length,
                class_weights=weights,
            )
            watch = Watch(
                progress,
                checkpoints,
                batch_size=config.batch_size,
                steps=steps,
                steps_before=epoch * steps,
                checkpoint_seconds=config.checkpoint_seconds,
                title=f"epoch {epoch + 1}",
                writer=writer,
                stop=stop,
            )
            if progress.step < steps:
                model.run_updates(batches, steps - progress.step, [watch])
            row = {"epoch": epoch + 1, **watch.finish()}
            row["examples_per_second"] = len(train) / row["seconds"]
            with averaged_weights(model):
                if score is not None:
                    row |= {f"validation_{name}": value for name, value in score().items() if np.isscalar(value)}
                progress.history.append(row)
                if _best_yet(progress, config):
                    progress.best_epoch = epoch
                    progress.best_weights = checkpoints.save_weights(epoch)
            log(writer, row, (epoch + 1) * steps)
            print("  ".join(f"{name} {value:.4g}" for name, value in row.items() if name in _shown(config)), flush=True)
            patient = config.early_stopping is None or epoch - (progress.best_epoch or 0) < config.early_stopping
            if not patient:
                print(f"no better validation {config.monitor} for {config.early_stopping} epochs: stopping early")
            progress.epoch, progress.step, progress.sums, progress.seconds = epoch + 1, 0, {}, 0.0
            progress.finished = epoch + 1 >= config.epochs or not patient
            checkpoints.save(progress)
    if progress.best_weights:
        # The others may be here before the chief has written them.
        workers.barrier()
        checkpoints.restore_weights(progress.best_weights)
    return progress


def balanced_weights(train: Split) -> np.ndarray:
    """float32 [C]: rows / (C * rows of the class), as scikit-learn's "balanced"; 0 for a class without rows."""
    counts = train.counts()
    return np.where(counts > 0, len(train) / (len(counts) * np.maximum(counts, 1)), 0).astype(np.float32)


def _best_yet(progress: Progress, config: TrainingConfig) -> bool:
    """Whether the last epoch's weights are to be kept: by validation, else the newest averages."""
    scores = [row.get(f"validation_{config.monitor}") for row in progress.history]
    if scores[-1] is None:
        return config.ema is not None
    if progress.best_epoch is None:
        return True
    new, best = scores[-1], scores[progress.best_epoch]
    return new < best if config.monitor == "loss" else new > best


def _shown(config: TrainingConfig) -> tuple[str, ...]:
    return (
        "epoch",
        "loss",
        "examples_per_second",
        "validation_loss",
        "validation_accuracy",
        f"validation_{config.monitor}",
    )
