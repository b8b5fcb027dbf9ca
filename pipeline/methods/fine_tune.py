"""All weights are learned, by the task's own loss: the way of the BERT paper, best where labels are many."""

from collections.abc import Callable
from pathlib import Path

from pipeline.assemble import Assembly
from pipeline.data.batching import training_batches
from pipeline.data.split import Split
from pipeline.data.token_batches import maker
from pipeline.privacy.prepare import prepare
from pipeline.privacy.secret import forget
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.fit import Lesson, fit
from pipeline.training.plan import plan_of


def train(run: Assembly, rows: Split, checkpoints: Checkpoints, score: Callable[[], dict] | None = None) -> Progress:
    """See pipeline.methods.Train."""
    config, training = run.config, run.config.training
    cut = run.cut(rows)
    plan = plan_of(training, len(rows), run.updates, cut and cut.count)
    make = training_batches if cut is None else maker(cut)
    if training.privacy.on:
        make = prepare(run, rows, plan, checkpoints)
    lesson = Lesson(rows, run.encoder, run.data.task, training, config.text, plan, score, run.pause, make)
    progress = fit(run.model, lesson, checkpoints)
    if progress.finished and training.privacy.on and checkpoints.workers.chief:
        forget(Path(str(config.run_dir)))
    return progress
