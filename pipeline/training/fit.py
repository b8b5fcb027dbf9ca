"""The epochs of a run: train, score, keep the best, save; and go on from wherever an earlier process stopped."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf

from pipeline.backbone.low_rank import merge, merged
from pipeline.config import TextConfig, TrainingConfig
from pipeline.data.batching import BatchOptions, batch_lengths, training_batches
from pipeline.data.ladder import ladder
from pipeline.data.split import Split
from pipeline.tasks.task import Task
from pipeline.text import TextEncoder
from pipeline.training.averaging import averaged_weights
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.model import ExactModel
from pipeline.training.pause import Pause
from pipeline.training.plan import Plan
from pipeline.training.watch import Interval, StopRequest, Watch, log


@dataclass(frozen=True)
class Lesson:
    """What a model is trained on, and how.

    Attributes:
        train: the rows.
        encoder: strings to token ids.
        task: what is predicted.
        config, text: the training and text sections.
        plan: the updates.
        score: computes the validation scores of the current weights (a dict with the monitored one); None: no
            validation.
        pause: where to pause before the end.
        batches: makes the batches of an epoch, called as training_batches.
        end: what there is to do once all updates are made, before the state is saved as a finished one.
    """

    train: Split
    encoder: TextEncoder
    task: Task
    config: TrainingConfig
    text: TextConfig
    plan: Plan
    score: Callable[[], dict] | None
    pause: Pause = field(default_factory=Pause)
    batches: Callable[..., tf.data.Dataset] = training_batches
    end: Callable[[], None] | None = None

    @property
    def monitor(self) -> str:
        """The validation score that chooses the best epoch."""
        return self.task.monitored(self.config.monitor)

    @property
    def rows_a_batch(self) -> float:
        """On average."""
        if self.config.tokens_per_batch is None:
            return self.config.batch_size
        return self.plan.passes * len(self.train) / self.plan.steps

    def examples(self, steps: int) -> float:
        """How many rows so many updates of an epoch see; the last batch of training_batches may be filled up, others
        draw rows as often as they need them."""
        drawn = steps * self.rows_a_batch
        return min(drawn, self.plan.passes * len(self.train)) if self.batches is training_batches else drawn


def fit(model: ExactModel, lesson: Lesson, checkpoints: Checkpoints) -> Progress:
    """Train a compiled model, from its newest checkpoint where there is one, and leave it with its best weights.

    Args:
        model: compiled.
        lesson: its rows and settings.
        checkpoints: of this model; beside their folder stands `logs`, for TensorBoard.

    Returns:
        The progress, with the history of all epochs; unfinished where lesson.pause was reached before the end.

    Raises:
        Diverged: the loss is not finite any more.
        Stopped: SIGTERM or Ctrl-C came, or as Paused the deadline of lesson.pause; the state is saved.
    """
    progress, config, plan = checkpoints.restore(), lesson.config, lesson.plan
    if progress.finished:
        print("training is already complete")
    elif progress.epoch or progress.step:
        steps = plan.steps_of(progress.epoch)
        print(f"resuming in epoch {progress.epoch + 1} after {progress.step} of {steps} batches")
    elif plan.total:
        # With a checkpoint from the start, a kill in the first minutes resumes like any other.
        checkpoints.save(progress)
    workers = checkpoints.workers
    balanced = config.class_weights == "balanced"
    options = BatchOptions(
        config.batch_size,
        config.seed,
        config.bucket_by_length and plan.passes == 1,
        () if lesson.text.fixed_length else None,
        plan.passes,
        workers.shard,
        lesson.task.example_weights(lesson.train.targets()) if balanced else None,
        config.accumulation * model.distribute_strategy.num_replicas_in_sync,
    )
    if model.xla and not progress.finished:
        options = _compile_ahead(model, lesson, options, checkpoints)
    logs = checkpoints.folder.parent / "logs"
    writer = tf.summary.create_file_writer(str(logs)) if workers.chief else tf.summary.create_noop_writer()
    with StopRequest(lesson.pause) as stop:
        while not progress.finished and not lesson.pause.reached(progress.epoch):
            row = _train_epoch(model, lesson, options, progress, checkpoints, writer, stop)
            _finish_epoch(model, lesson, progress, checkpoints, row)
            log(writer, row, min(progress.epoch * plan.steps, plan.total))
    if progress.finished and progress.best_weights:
        # The others may be here before the chief has written them.
        workers.barrier()
        checkpoints.restore_weights(progress.best_weights)
        _say_kept(progress, lesson)
    return progress


def _compile_ahead(model: ExactModel, lesson: Lesson, options: BatchOptions, checkpoints: Checkpoints) -> BatchOptions:
    """Have XLA make its programs before there is anything to time; returns the options with the lengths that they are
    for."""
    if not lesson.text.fixed_length:
        longest = batch_lengths(lesson.train, lesson.encoder, options)
        options = replace(options, lengths=ladder(longest, lesson.encoder.sequence_length))
    batches = lesson.batches(lesson.train, lesson.encoder, lesson.task, options, epoch=0)
    lengths = options.lengths or (lesson.encoder.sequence_length,)
    for number, length in enumerate(lengths, 1):
        started = time.perf_counter()
        print(f"compiling for batches of {length} tokens ({number} of {len(lengths)})", end="", flush=True)
        model.compile_for(batches.element_spec, length)
        print(f": {time.perf_counter() - started:.1f} s", flush=True)
    # Each was run once, on a batch of nothing.
    checkpoints.restore()
    return options


def _train_epoch(
    model: ExactModel,
    lesson: Lesson,
    options: BatchOptions,
    progress: Progress,
    checkpoints: Checkpoints,
    writer: tf.summary.SummaryWriter,
    stop: StopRequest,
) -> dict:
    """The batches of an epoch that are not done yet; returns its line of the history, without validation."""
    epoch, steps = progress.epoch, lesson.plan.steps_of(progress.epoch)
    batches = lesson.batches(lesson.train, lesson.encoder, lesson.task, options, epoch=epoch, skip=progress.step)
    watch = Watch(
        progress,
        checkpoints,
        Interval(f"epoch {epoch + 1}", steps, epoch * lesson.plan.steps),
        batch_size=lesson.rows_a_batch,
        checkpoint_seconds=lesson.config.checkpoint_seconds,
        writer=writer,
        stop=stop,
    )
    if progress.step < steps:
        model.run_updates(batches, steps - progress.step, [watch])
    row = {"epoch": epoch + 1, **watch.finish()}
    return row | {"examples_per_second": lesson.examples(steps) / row["seconds"]}


def _finish_epoch(model: ExactModel, lesson: Lesson, progress: Progress, checkpoints: Checkpoints, row: dict) -> None:
    """Score the weights at the end of an epoch, keep them where they are the best, and save."""
    config, epoch = lesson.config, progress.epoch
    with averaged_weights(model), merged(model.low_rank):
        if lesson.score is not None:
            row |= {f"validation_{name}": value for name, value in lesson.score().items() if np.isscalar(value)}
        progress.history.append(row)
        if _best_yet(progress, lesson):
            progress.best_epoch = epoch
            progress.best_weights = checkpoints.save_weights(epoch)
    shown = ["epoch", "loss", "examples_per_second", *(f"validation_{name}" for name in lesson.task.shown)]
    shown.append(f"validation_{lesson.monitor}")
    print("  ".join(f"{name} {value:.4g}" for name, value in row.items() if name in shown), flush=True)
    patient = _patient(progress, lesson)
    if not patient:
        print(f"no better validation {lesson.monitor} for {config.early_stopping} epochs: stopping early")
    progress.epoch, progress.step, progress.sums, progress.seconds = epoch + 1, 0, {}, 0.0
    progress.finished = epoch + 1 >= lesson.plan.epochs or not patient
    if progress.finished:
        merge(model.low_rank)
        if lesson.end is not None:
            lesson.end()
    checkpoints.save(progress)


def _best_yet(progress: Progress, lesson: Lesson) -> bool:
    """Whether the last epoch's weights are to be kept: by validation, of equal scores by its loss, else the newest
    averages. An undefined score is worse than any other."""
    scores = _monitored(progress, lesson)
    best = None if progress.best_epoch is None else scores[progress.best_epoch]
    if scores[-1] is None:
        return best is None and lesson.config.ema is not None
    if best is None:
        return True
    if scores[-1] == best:
        # Few rows have few different scores, and the first epoch that reaches one has learned the least.
        losses = [progress.history[epoch].get("validation_loss", 0.0) for epoch in (-1, progress.best_epoch or 0)]
        return losses[0] < losses[1]
    return (scores[-1] > best) == lesson.task.monitors[lesson.monitor]


def _say_kept(progress: Progress, lesson: Lesson) -> None:
    """Of which epoch the weights are, where validation has chosen one."""
    best = progress.best_epoch
    if best is not None and _monitored(progress, lesson)[best] is not None:
        print(f"the weights of epoch {best + 1} are kept: best validation {lesson.monitor}")


def _patient(progress: Progress, lesson: Lesson) -> bool:
    """Whether training goes on, as far as training.early_stopping goes; where there is no score to beat, it does. An
    equal score is no better one, whatever its loss."""
    epochs, scores = lesson.config.early_stopping, _monitored(progress, lesson)
    known = [score for score in scores if score is not None]
    if epochs is None or not known:
        return True
    best = (max if lesson.task.monitors[lesson.monitor] else min)(known)
    return len(scores) - 1 - scores.index(best) < epochs


def _monitored(progress: Progress, lesson: Lesson) -> list[float | None]:
    """Of each epoch, the validation score that chooses the best; None: there is none, or it is undefined."""
    return [row.get(f"validation_{lesson.monitor}") for row in progress.history]
