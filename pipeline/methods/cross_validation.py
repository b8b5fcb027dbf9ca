"""evaluation.cross_validation: scores on rows that were each held out once, where a split would leave a handful."""

from dataclasses import replace
from typing import Any

import tensorflow as tf

from pipeline.assemble import Assembly
from pipeline.data.folds import fold_numbers
from pipeline.evaluation.baseline import out_of_fold_baseline
from pipeline.evaluation.evaluate import compares
from pipeline.evaluation.report import CROSS_VALIDATION
from pipeline.methods.auto import choose
from pipeline.methods.trials import Trials
from pipeline.tasks.task import Task
from pipeline.training.workers import Workers

BY_THE_SAME_ROWS = (
    "the scores of cross-validation are a little too good: training.method auto has chosen by held-out rows among these"
)
AT_ONE_HALF = "thresholds are 0.5 in cross-validation: those of evaluation.threshold tuned are of the validation rows"


def cross_validate(run: Assembly, task: Task, workers: Workers) -> dict[str, dict[str, Any]]:
    """Scores of the training rows by models that have not seen them, as "cross_validation", and of the
    linear baseline, which the chief alone makes and keeps beside the trials, as "cross_validation_baseline"; {} where
    nobody asks.

    The model that is served learns from all of these rows, and is a little better. Where it also learns from texts that
    a model has given labels (data.unlabelled), what is scored is a training without them. Rows that
    training.drop_suspicious leaves out are scored too, for those that are hard to predict are among them; each model
    learns from what the rows of its own folds leave of each other.

    Args:
        run: its model as it was made.
        task: as it is served.
        workers: of the run.

    Raises:
        UserError: the rows have one text, or one group, between them.
    """
    folds, train, judged = run.config.evaluation.cross_validation, run.data.train, run.data.judged
    if not folds or train is None or not run.updates:
        return {}
    method = run.config.training.method
    choice = choose(run, train, workers) if method == "auto" else None
    name = choice.method if choice else method
    rows, taught = (train, None) if judged is None else (judged.rows, judged.taught)
    trials = Trials(run, rows, workers, taught)
    _, logits = trials.out_of_fold(name, folds)
    predictions = task.activation(tf.constant(logits)).numpy()
    about: dict[str, Any] = {"folds": folds, "method": name}
    notes = ((BY_THE_SAME_ROWS, choice and choice.tried), (AT_ONE_HALF, run.config.evaluation.threshold == "tuned"))
    if said := [note for note, needed in notes if needed]:
        about["note"] = "; ".join(said)
    found = {CROSS_VALIDATION: about | task.scores(rows.targets(), predictions)}
    if workers.chief and compares(run.config.evaluation, rows, task, folds):
        numbers = fold_numbers(rows, folds, run.config.training.seed)
        named = replace(rows, name=CROSS_VALIDATION)
        kept = trials.folder / f"baseline-of-{folds}{trials.of_which_rows}.npz"
        baseline = out_of_fold_baseline(predictions, named, numbers, taught, task, run.encoder.redacted, kept)
        found[f"{CROSS_VALIDATION}_baseline"] = baseline.metrics(task)
    return found
