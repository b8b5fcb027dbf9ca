"""evaluation.cross_validation: scores on rows that were each held out once, where a split would leave a handful."""

from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.assemble import Assembly
from pipeline.methods.auto import chosen_method
from pipeline.methods.trials import Trials
from pipeline.tasks.task import Task
from pipeline.training.workers import Workers

NAME = "cross_validation"


def cross_validate(run: Assembly, task: Task, workers: Workers) -> dict[str, dict[str, Any]]:
    """Scores of the training rows by models that have not seen them, as "cross_validation"; {} where nobody asks.

    The model that is served learns from all of these rows, and is a little better. Rows that training.drop_suspicious
    leaves out are scored, though nothing learns from them: without the rows that are hard to predict, all are easy.

    Args:
        run: its model as it was made.
        task: as it is served.
        workers: of the run.
    """
    folds, train, doubted = run.config.evaluation.cross_validation, run.data.train, run.data.doubted
    if not folds or train is None or not run.updates:
        return {}
    name, rows, taught = chosen_method(run, train, workers), train, None
    if doubted is not None:
        rows = replace(train, rows=np.union1d(train.rows, doubted.rows))
        taught = np.isin(rows.rows, train.rows)
    _, logits = Trials(run, rows, workers, taught).out_of_fold(name, folds)
    predictions = task.activation(tf.constant(logits)).numpy()
    return {NAME: {"folds": folds, "method": name} | task.scores(rows.targets(), predictions)}
