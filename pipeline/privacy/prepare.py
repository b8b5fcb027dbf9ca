"""A private training before its first update: its claim, its secret, its batches and its noise."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from pipeline.backbone.dropout import without_dropout
from pipeline.data.batching import training_batches
from pipeline.data.extra_columns import GROUP
from pipeline.data.split import Split
from pipeline.errors import UserError
from pipeline.privacy.layers import let_note
from pipeline.privacy.model import Mechanism, PrivateClassifier
from pipeline.privacy.sampling import PoissonSampling, maker, units_of
from pipeline.privacy.secret import FILE as SECRET
from pipeline.privacy.secret import derived, secret_of
from pipeline.privacy.statement import FILE, Statement, planned, statement_of
from pipeline.training.checkpoint import Checkpoints, await_chief
from pipeline.training.plan import Plan

if TYPE_CHECKING:
    from pipeline.assemble import Assembly


def prepare(run: "Assembly", rows: Split, plan: Plan, checkpoints: Checkpoints) -> Callable[..., tf.data.Dataset]:
    """Give the run's model its mechanism, and write what is claimed into the run's folder.

    Returns:
        What makes the batches of an epoch, called as training_batches.

    Raises:
        UserError: no noise does, a run that was begun has lost its secret, workers share no folder, or it is a TPU.
    """
    training, run_dir = run.config.training, Path(str(run.config.run_dir))
    assert isinstance(run.model, PrivateClassifier)
    let_note(run.model.classifier_parts)
    # Masks belong to places in a batch, and follow from a seed that is no secret. A row more or less moves the others
    # to other places, and what they add to the sum changes with their masks, by more than the norm of any one of them.
    if without_dropout(run.model):
        print("private: dropout is off, for its masks would tell which rows are in a batch")
    # Norms and sums are of float32 products, which TensorFlow rounds to 10 bits on newer GPUs.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if isinstance(run.strategy, tf.distribute.TPUStrategy):
        raise UserError(
            "training.privacy goes without TPUs, which round the products that norms are of: use GPUs or CPUs."
        )
    members, starts = units_of(rows)
    begun, finished = checkpoints.begun(), checkpoints.finished()
    with checkpoints.workers.chief_first():
        if checkpoints.workers.chief:
            # A run that goes on claims what it did when it began. One that was stopped before may have other rows now.
            if not begun or statement_of(run_dir) is None:
                unit = f"group of {run.config.data.group_column}" if GROUP in rows.store.columns else "row"
                units, trained = len(starts) - 1, training.trainable
                planned(training.privacy, unit, units, training.batch_size, plan.total, trained).save(run_dir)
        else:
            # Its secret comes from there too: of two secrets the batches would overlap, and the claim be false.
            await_chief(run_dir / FILE)
            if not finished and training.privacy.seed is None:
                await_chief(run_dir / SECRET)
        # Of a training that is complete the secret is gone, and nothing is drawn any more.
        made = begun or not checkpoints.workers.chief
        secret = b"" if finished else secret_of(run_dir, training.privacy.seed, made)
    statement = statement_of(run_dir)
    assert statement is not None
    print(f"private: {statement.sentence()}", flush=True)
    if finished:
        return training_batches
    run.model.use(_mechanism(statement, secret))
    of_batches = int.from_bytes(derived(secret, "batches"), "little")
    return maker(PoissonSampling(members, starts, statement.sampling_rate, statement.updates, of_batches))


def _mechanism(statement: Statement, secret: bytes) -> Mechanism:
    first, second, *_ = np.frombuffer(derived(secret, "noise"), "<i8").tolist()
    return Mechanism(statement.clip_norm, statement.noise_multiplier, statement.batch_size, (first, second))
