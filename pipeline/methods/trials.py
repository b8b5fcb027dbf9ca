"""A method tried on some of the training rows and asked about the others, from the weights that a run begins with."""

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.assemble import Assembly
from pipeline.data.extra_columns import GROUP
from pipeline.data.folds import fold_numbers, part
from pipeline.data.formats import whole_file
from pipeline.data.split import Split
from pipeline.errors import UserError
from pipeline.evaluation.calibration import BOUNDS
from pipeline.methods import method
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.workers import Workers


@dataclass(frozen=True)
class Trials:
    """Trials of one run, whose outcomes are kept in its folder: a killed one goes on where it was.

    Args:
        run: its model as it was made, whatever its folder holds; it is so again after each trial.
        rows: the training rows.
        workers: of the run.
        taught: bool [folds, n], the rows that may be learned from where a fold is asked about. None: all.
    """

    run: Assembly
    rows: Split
    workers: Workers
    taught: np.ndarray | None = None

    @property
    def folder(self) -> Path:
        """Where the outcomes are kept: those of other rows or tokens lie elsewhere."""
        return Path(str(self.run.config.run_dir)) / "trials" / identity_of(self.run.resume_identity)

    @cached_property
    def updates(self) -> int:
        """Of a trial: those of a training on the labelled rows, also where the run learns from more."""
        train, learned = self.run.data.train, self.run.data.learned
        return self.run.updates if train is None or learned is None else self.run.updates_of(train)

    @property
    def of_which_rows(self) -> str:
        """Part of the names of outcomes: which rows are learned from, and how they are dealt to folds."""
        doubted = "" if self.taught is None else "-with-doubted-rows"
        # Rows without groups were always dealt as they are now.
        return doubted + ("-of-groups" if GROUP in self.rows.store.columns else "")

    def out_of_fold(self, name: str, folds: int, asked: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Train by a method without each fold in turn, and ask about that fold.

        Args:
            name: of the method.
            folds: how many.
            asked: only the first so many of them; None: all.

        Returns:
            bool [n], the rows that were asked about, and the task's logits of these, float32 [m, outputs].

        Raises:
            UserError: all rows are in one fold, or what the method raises.
        """
        numbers = fold_numbers(self.rows, folds, self.run.config.training.seed)
        if len(np.unique(numbers)) < 2:
            raise UserError(
                f"{len(self.rows)} training rows have one text or one group (data.group_column) between them: there is "
                "nothing to hold out, for evaluation.cross_validation or training.method auto."
            )
        logits = np.zeros([len(self.rows), self.run.data.task.outputs], np.float32)
        more = self.of_which_rows + ("" if self.updates == self.run.updates else f"-in-{self.updates}-updates")
        for fold in range(folds if asked is None else asked):
            out = numbers == fold
            known = ~out if self.taught is None else ~out & self.taught[fold]
            # There may be fewer texts than folds.
            if out.any() and known.any():
                logits[out] = self._fold(name, f"{name}-{fold + 1}-of-{folds}{more}", known, out)
        known = numbers < (folds if asked is None else asked)
        return known, logits[known]

    def _fold(self, name: str, title: str, known: np.ndarray, out: np.ndarray) -> np.ndarray:
        kept = self.folder / f"{title}.npy"
        with self.workers.chief_first():
            done = kept.is_file()
        if done:
            return np.load(kept)
        print(f"trying {title.replace('-', ' ')}, on {int(known.sum())} rows", flush=True)
        run = self.run
        state = [variable.numpy() for variable in self._variables()]
        identity = run.resume_identity | {"trial": title}
        checkpoints = Checkpoints(
            self.folder / title / "checkpoints", run.model, run.model.optimizer, identity, workers=self.workers
        )
        # It ends, wherever the run itself is to pause; but not after its deadline.
        pause, run.pause = run.pause, replace(run.pause, epochs=None)
        with run.making(self.updates):
            method(name)(run, part(self.rows, known), checkpoints, None)
        run.pause = pause
        logits = run.forward("logits", self.workers)(part(self.rows, out))
        for variable, value in zip(self._variables(), state, strict=True):
            variable.assign(value)
        if self.workers.chief:
            with whole_file(kept) as file:
                np.save(file, logits)
            shutil.rmtree(self.folder / title, ignore_errors=True)
        self.workers.barrier()
        return logits

    def _variables(self) -> list[Any]:
        model = self.run.model
        return [*model.variables, *model.optimizer.variables]


def identity_of(rows_and_tokens: dict[str, str]) -> str:
    """A name that changes with them."""
    return hashlib.sha256(json.dumps(rows_and_tokens, sort_keys=True).encode()).hexdigest()[:12]


def calibrated_losses(run: Assembly, rows: Split, logits: np.ndarray) -> np.ndarray:
    """float64 [n], the task's loss of each row, of labels (probabilities too) with the temperature that suits these
    rows best.

    A method that has fitted few rows perfectly is too sure of itself, which calibration takes away: how well it tells
    rows apart is what counts here.
    """
    loss: Any = run.data.task.loss()
    targets = rows.training_targets(run.data.task, slice(None))

    def at(log_scale: float) -> np.ndarray:
        return loss(targets, tf.constant(logits * np.float32(np.exp(log_scale)))).numpy().astype(np.float64)

    if not run.data.task.labelled:
        return at(0.0)
    # Slow to import, and not needed at the start.
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(lambda log_scale: at(log_scale).mean(), bounds=BOUNDS, method="bounded")
    return at(float(found.x))
