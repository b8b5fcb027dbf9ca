"""The road from raw text to a served classifier, top to bottom.

python -m pipeline.run                                   the quickstart: real checkpoint, real data
python -m pipeline.run --config from_scratch             nothing pre-trained: vocabulary, pre-training, fine-tuning
python -m pipeline.run --config trec --training.epochs 4 a recipe, with one setting changed
python -m pipeline.run --config my.yaml                  your own
"""

import contextlib
import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from export.versions import versions_in
from pipeline.command_line import checked, parse
from pipeline.complete import mark, metrics_of_complete, state_of, unmark
from pipeline.config import Config, to_yaml
from pipeline.errors import TRY_AGAIN, WORKER_LOST, Stopped, UserError, WorkerLost
from pipeline.files import in_a_sentence
from pipeline.frozen_weights import refuse_frozen
from pipeline.remote import exists
from pipeline.run_folder import held, read_metrics
from pipeline.training.cluster import Cluster, find_cluster
from pipeline.training.pause import Pause
from pipeline.training.rendezvous import rendezvous
from pipeline.training.xla import keep_programs


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, 2 after one sentence on what is wrong, 69 when another worker of the
    cluster is lost, 75 when stopped in training, with the state saved, by SIGTERM or Ctrl-C."""
    folder = "."
    try:
        config = parse(arguments)
        folder = str(config.run_dir)
        _train(config)
    except WorkerLost as loss:
        print(f"error: {loss}", file=sys.stderr)
        return WORKER_LOST
    except Stopped as request:
        print(request, file=sys.stderr)
        return TRY_AGAIN
    except Exception as error:
        print(f"error: {in_a_sentence(error, folder, (UserError, OSError))}", file=sys.stderr)
        return 2
    return 0


@dataclass(frozen=True)
class Run:
    """What a finished run has made, or a paused one so far."""

    run_dir: Path
    """Folder of all of it."""
    metrics: dict[str, Any]
    """What metrics.json holds: scores by split, and how training went. {} at a worker that is not the chief, and in a
    paused run; of stage pretrain, the scores of pre-training."""
    saved_model: Path | None
    """Folder of the newest exported version, for `export.load`; None: nothing was exported."""


def train(config: Config, pause: Pause | None = None) -> Run:
    """Take a run from where its folder stands to its end: all that `python -m pipeline.run` does.

    It may be called any number of times in a process, and each run ends with the weights that it ends with in a process
    of its own. Where the environment describes a cluster, all its workers call it, once.

    Example:
        config = read_config("own_csv")
        config.data.train, config.run_dir = "reviews.csv", "runs/reviews"
        run = train(config)
        run.metrics["test"]["accuracy"], run.saved_model

    Args:
        config: with run_dir set; the same run_dir again goes on where the run stood.
        pause: where to pause fine-tuning before its end; the same call with a later one, or none, goes on exactly as
            if it had not paused.

    Raises:
        UserError: one sentence on what is wrong with the settings, the data or the folder.
        Stopped: SIGTERM or Ctrl-C came in training, or as Paused the deadline of `pause`; the state is saved.
        WorkerLost: another worker of the cluster did not come, or is gone.
    """
    return _train(checked(config), pause)


def _train(config: Config, pause: Pause | None = None) -> Run:
    cluster = find_cluster(config.training.strategy)
    with contextlib.ExitStack() as stack:
        config, print_of_settings = stack.enter_context(held(config, cluster))
        state = state_of(config)
        done = metrics_of_complete(config, state)
        if done is not None:
            print(f"{config.run_dir}: training is already complete, so is all else, and nothing has changed since; "
                  "--export.force true exports it again")  # fmt: skip
            return _made(config, done)
        if cluster is None or cluster.index == 0:
            unmark(config)
        if config.export.enabled and config.export.publish:
            # A wrong name or no right to ask is better known before the training than after it.
            exists(config.export.publish)
        refuse_frozen()
        # TensorFlow takes seconds to import: only now, when the settings are known to be good. And before the workers
        # wait for each other, for between that barrier and TensorFlow's own a worker that fails is not noticed.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        if config.training.xla:
            keep_programs()
        from pipeline.training.session import fresh_session

        if cluster:
            rendezvous(cluster, print_of_settings, config.training.workers_timeout)
            if cluster.index > 0:
                # It says nothing that the chief does not say.
                silence = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(silence))
        stack.enter_context(fresh_session())
        metrics = run(config, cluster, pause or Pause())
        if "task" in metrics:
            mark(config, state)
        return _made(config, metrics)


def _made(config: Config, metrics: dict[str, Any]) -> Run:
    run_dir = Path(str(config.run_dir))
    return Run(run_dir, metrics, next(reversed(versions_in(run_dir / "saved_model")), None))


def run(config: Config, cluster: Cluster | None, pause: Pause) -> dict:
    """The road alone, or together with the other workers of a cluster, who have met; returns what `road` does."""
    from pipeline.training.strategy import check, choose_strategy
    from pipeline.training.workers import Workers, lost_workers_named

    with lost_workers_named(cluster):
        strategy = choose_strategy(config.training.strategy, cluster, config.training.workers_timeout)
        check(strategy, config)
        workers = Workers(strategy, cluster)
        metrics = road(config, strategy, workers, pause)
        # A worker is done when all are: should the chief be killed in its evaluation, all start again.
        workers.barrier()
        return metrics


def road(config: Config, strategy, workers, pause: Pause) -> dict:
    """Take one run from where it stands to its end, or to its pause; returns what metrics.json holds.

    Args:
        config: checked, with run_dir set.
        strategy: tf.distribute.Strategy over all devices.
        workers: of the strategy; the chief alone writes files and goes on after training.
        pause: of fine-tuning, before its end.
    """
    from pipeline.assemble import assemble, seed_all
    from pipeline.evaluation.evaluate import evaluate
    from pipeline.evaluation.report import ReportContent
    from pipeline.evaluation.results import environment, training_summary, write_results
    from pipeline.features.choice import with_fusion
    from pipeline.methods.cross_validation import cross_validate
    from pipeline.methods.self_training import Place, self_trained
    from pipeline.pretraining.stage import pretraining_stage
    from pipeline.privacy.releases import without_releases
    from pipeline.publish import export, serve

    run_dir = Path(str(config.run_dir))
    seed_all(config.training)
    # ---- Pre-training: raw text to a checkpoint, which fine-tuning begins with.
    start, metrics = pretraining_stage(config, strategy, workers)
    content = ReportContent(run_dir.name, metrics, to_yaml(config), environment())
    if config.stage == "pretrain":
        if workers.chief:
            end_pretraining(run_dir, content, start.model.backbone)
        return metrics

    # ---- Data: any source to rows on disk, split; what is to be predicted, and how it is answered.
    start = without_releases(start)
    start, data = with_fusion(start, read_rows(start, run_dir, workers), workers)
    task = task_of_answers(config, data)
    data = self_trained(start, data, Place(strategy, workers, pause))

    # ---- Model: a backbone from its checkpoint, a pooling, a head (fresh, if it is trained); the checkpoint's tokens.
    run = assemble(start, data, strategy, pause)
    warn(data, run.warnings() if workers.chief else [], keep=not start.training.privacy.on)

    # ---- Training: from the newest checkpoint, if there is one; ends with the best epoch's weights.
    metrics |= cross_validate(run, task, workers)
    progress = run.fit(task, workers)
    if not workers.chief or not progress.finished:
        return metrics

    # ---- Evaluation: of the model that will be served, once it is known to be the one that was trained.
    served = serve(run)
    found = evaluate(served.predict, data, task, start.evaluation, run.lengths, run.encoder.redacted)
    metrics |= {"task": task.name, **found.scores, **training_summary(progress, data.train), **served.metrics()}
    content.add(found, data.summary, data.warnings)
    content.environment |= {"devices": run.devices, "served_dtype": run.serving_dtype, **served.about()}
    write_results(run_dir, content)

    # ---- Export: a SavedModel from strings to answers, refused unless a fresh process gets the same ones from it.
    if config.export.enabled:
        export(run, served, found.task, found.scores)
        next_steps(run_dir)
    return metrics


def end_pretraining(run_dir: Path, content, backbone: str | None) -> None:
    """Write the results of a stage, and say what comes next."""
    from pipeline.evaluation.results import write_results

    # What the folder has of a fine-tuned model stands: its calibration is part of the model.
    if "task" not in read_metrics(run_dir):
        write_results(run_dir, content)
    print("next:")
    print(f"  python -m pipeline.run --config own_csv --model.backbone {backbone} --data.train FILE --run_dir FOLDER")


def read_rows(config: Config, run_dir: Path, workers):
    """All rows of a run, its DataSplits; print what was read, and what the user should know of it."""
    from pipeline.data.load import load
    from pipeline.labels.drop import without_suspicious
    from pipeline.privacy.releases import without_statistics

    with workers.chief_first():
        begun = any((run_dir / "checkpoints").glob("[0-9]*"))
        learning = config.training.epochs > 0
        data = load(config.data, run_dir / "data", begun, learning, config.evaluation, config.kept_redaction)
    data = without_suspicious(config, data, workers)
    for note in data.notes:
        print(f"note: {note}")
    for warning in data.warnings:
        print(f"warning: {warning}")
    rows = ", ".join(f"{len(split)} {split.name}" for split in data.splits)
    print(f"{rows or 'no'} rows, {data.task.describe()}")
    return without_statistics(data) if config.training.privacy.on else data


def task_of_answers(config: Config, data):
    """The task of a run, its DataSplits', with the settings of its answers.

    Raises:
        UserError: there are too few validation rows to decide them.
    """
    task = data.task.served(config.evaluation, config.export)
    if fault := task.too_few(len(data.validation or ())):
        raise UserError(fault)
    return task


def warn(data, found: list[str], keep: bool) -> None:
    """Print further warnings, and keep them for the report or do not."""
    for warning in found:
        print(f"warning: {warning}")
    if keep:
        data.warnings += found


def next_steps(run_dir: Path) -> None:
    """Print what can be done with a finished run."""
    print(f'next:\n  python -m export.predict {run_dir} "some text"\n  open {run_dir / "report.html"}')
    # An extra: TensorFlow does not bring it any more.
    if find_spec("tensorboard"):
        print(f"  tensorboard --logdir {run_dir / 'logs'}")
    print(f"  python -m export.kit {run_dir}")


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
