"""training.drop_suspicious: training rows whose labels held-out predictions contradict are left out of the run."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from pipeline.config import Config
from pipeline.data.extra_columns import GROUP
from pipeline.data.folds import fold_numbers, part
from pipeline.data.load import DataSplits, Judged, described
from pipeline.data.split import Split
from pipeline.decided import decided
from pipeline.labels.check import Checked
from pipeline.labels.table import write_table
from pipeline.labels.vectors import frozen
from pipeline.methods.learned import learn
from pipeline.tasks.task import Task
from pipeline.training.workers import Workers

FILE, TABLE = "dropped.json", "dropped.csv"


def without_suspicious(config: Config, data: DataSplits, workers: Workers) -> DataSplits:
    """The rows of a run without the training rows that `python -m pipeline.labels check` says are predicted otherwise.

    Which they are is decided once and kept in the run's folder: as dropped.json, and for people as dropped.csv. A label
    keeps its rows where all of them would go. Validation and test rows stay as they are, and what is said of the
    training rows is of those that are left.

    Args:
        config: of the run.
        data: all of its rows.
        workers: of the run, who all leave out the same.
    """
    if not config.training.drop_suspicious or data.train is None:
        return data
    train, table = data.train, Path(str(config.run_dir)) / TABLE
    # For both decisions, and for none where they are kept.
    vectors = cache(lambda: frozen(config, data.features)(train))
    rows = decided(config, data, workers, FILE, lambda: {"rows": _dropped(config, data.task, train, vectors())})["rows"]
    dropped = np.isin(np.arange(len(train)), rows)
    left = part(train, ~dropped)
    # The weights of a run that has begun answer in the scale of its numbers.
    task = data.task.fitted(left.targets()) if data.task.labelled else data.task
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
    warning = (
        f"training.drop_suspicious: {len(rows)} of {len(train)} training rows ({len(rows) / len(train):.1%}) are left "
        f"out, as their labels are likely to be wrong; {table} has them for you to look at."
    )
    found = described(replace(data, task=task, train=left, judged=_judged(config, data, vectors, workers)))
    return replace(
        found,
        warnings=[*found.warnings, warning],
        summary=found.summary | {"train": found.summary["train"] | {"dropped_as_suspicious": len(rows)}},
        fingerprint=f"{data.fingerprint} without:{digest}",
    )


def _dropped(config: Config, task: Task, train: Split, vectors: np.ndarray) -> list[int]:
    """The training rows to leave out; they are written down for people too."""
    learned = learn(task, train, vectors, config.training.seed)
    doubts = task.doubts(train.targets(), learned.held_out)
    checked = Checked(task, train, doubts, {}, learned.strength, config.text.redaction)
    dropped = _spared(task, train, checked.doubts.wrong)
    rows = zip(checked.suspicious.tolist(), checked.table(), strict=True)
    write_table(Path(str(config.run_dir)) / TABLE, checked.columns, (cells for row, cells in rows if dropped[row]))
    return np.flatnonzero(dropped).tolist()


def _judged(config: Config, data: DataSplits, vectors: Callable[[], np.ndarray], workers: Workers) -> Judged | None:
    """What evaluation.cross_validation scores, and may learn from: for each fold the others are judged by themselves.
    Rows that were chosen with a look at the labels of a fold would agree with it more than others do."""
    folds, train = config.evaluation.cross_validation, data.train
    if not folds or train is None:
        return None
    numbers = fold_numbers(train, folds, config.training.seed)

    def decide() -> dict:
        return {"rows": [_dropped_beside(config, data.task, train, vectors(), numbers == one) for one in range(folds)]}

    # Rows without groups were always dealt as they are now.
    kind = "folds_of_groups" if GROUP in train.store.columns else "folds"
    rows = decided(config, data, workers, f"dropped_in_{folds}_{kind}.json", decide)["rows"]
    return Judged(train, np.stack([~np.isin(np.arange(len(train)), one) for one in rows]))


def _dropped_beside(config: Config, task: Task, train: Split, vectors: np.ndarray, out: np.ndarray) -> list[int]:
    """The rows to leave out, as if those of `out`, bool [n], were not there."""
    rows, kept = np.flatnonzero(~out), part(train, ~out)
    learned = learn(task, kept, vectors[rows], config.training.seed)
    return rows[_spared(task, kept, task.doubts(kept.targets(), learned.held_out).wrong)].tolist()


def _spared(task: Task, train: Split, wrong: np.ndarray) -> np.ndarray:
    """bool [n], those of `wrong` whose labels all have other rows left; of numbers, whose tenth has."""
    groups, rows = task.groups(train.targets()), np.arange(len(train))
    named, labels = (np.repeat(rows, groups.counts), groups.members) if groups.names else (rows, train.strata())
    left = np.bincount(labels[~wrong[named]], minlength=int(labels.max(initial=0)) + 1)
    return wrong & ~np.isin(rows, named[left[labels] == 0])
