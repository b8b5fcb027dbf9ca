"""training.method auto: the method that suits the rows, by what each does on training rows that it has not seen."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline.assemble import Assembly
from pipeline.data.folds import part
from pipeline.data.split import Split
from pipeline.files import write_text
from pipeline.methods import MANY_ROWS, method
from pipeline.methods.head import has_new_weights
from pipeline.methods.trials import Trials, calibrated_losses, identity_of
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.workers import Workers

# Below, three folds are asked about; above, one of five.
FEW_ROWS = 1000
# From the simplest on: a method has to be better than those before it by more than its error.
METHODS = ("head", "contrastive", "fine_tune")
FILE = "method.json"


@dataclass(frozen=True)
class Choice:
    """Which method, and why; kept as method.json in the run's folder."""

    method: str
    reason: str
    tried: dict[str, dict[str, float | None]]
    """Of each method, on rows that it has not seen: the calibrated loss and, but for the loss, the monitored score."""
    identity: str = ""
    """Of the rows and tokens that it was chosen for."""


def train(run: Assembly, rows: Split, checkpoints: Checkpoints, score: Callable[[], dict] | None = None) -> Progress:
    """See pipeline.methods.Train."""
    labelled = rows if run.data.learned is None or run.data.train is None else run.data.train
    return method(choose(run, labelled, checkpoints.workers).method)(run, rows, checkpoints, score)


def chosen_method(run: Assembly, rows: Split, workers: Workers) -> str:
    """The method of a run by name, which may have to be chosen first."""
    name = run.config.training.method
    return choose(run, rows, workers).method if name == "auto" else name


def choose(run: Assembly, rows: Split, workers: Workers) -> Choice:
    """The method for these rows; what was chosen before, where a run is taken up again or has chosen in the first round
    of data.unlabelled.

    Args:
        run: its model as it was made.
        rows: the training rows, without texts that a model has given labels.
        workers: of the run, who all choose alike.

    Raises:
        UserError: the rows have one text, or one group, between them; or what a method raises.
    """
    path, identity = Path(str(run.config.run_dir)) / FILE, identity_of(run.labelled_identity)
    with workers.chief_first():
        known = path.is_file()
    if known and (earlier := Choice(**json.loads(path.read_text()))).identity == identity:
        return earlier
    choice = replace(_choose(run, rows, workers), identity=identity)
    if workers.chief:
        write_text(path, json.dumps(asdict(choice), indent=1))
    workers.barrier()
    print(f"training.method auto: {choice.method}, {choice.reason}", flush=True)
    return choice


def _choose(run: Assembly, rows: Split, workers: Workers) -> Choice:
    if run.config.distillation.teacher:
        return Choice("fine_tune", "as a teacher teaches all weights", {})
    if rows.temperature != 1:
        return Choice("fine_tune", "as no other draws languages by data.language_temperature (nothing was tried)", {})
    if len(rows) >= MANY_ROWS:
        return Choice("fine_tune", f"as {len(rows)} rows are enough to learn all weights (nothing was tried)", {})
    names = [name for name in METHODS if _fits(name, run, rows)]
    folds, asked = (3, 3) if len(rows) < FEW_ROWS else (5, 1)
    if len(names) == 1 or len(rows) < 2 * folds:
        return Choice(names[-1], "the only one that these rows and this model allow", {})
    trials, tried, best = Trials(run, rows, workers), {}, names[0]
    of_rows: dict[str, np.ndarray] = {}
    for name in names:
        known, logits = trials.out_of_fold(name, folds, asked)
        asked_about = part(rows, known)
        of_rows[name] = calibrated_losses(run, asked_about, logits)
        predictions = run.data.task.activation(tf.constant(logits)).numpy()
        scores = run.data.task.scores(asked_about.targets(), predictions)
        monitor = run.data.task.monitored(run.config.training.monitor)
        # A score may be undefined, as R2 is of equal numbers; a loss that is monitored is not the calibrated one.
        tried[name] = {monitor: scores[monitor]} | {"loss": float(of_rows[name].mean())}
        if name != best and _clearly_less(of_rows[name], of_rows[best]):
            best = name
    said = ", ".join(f"{name} {scores['loss']:.3f}" for name, scores in tried.items())
    least = min(tried, key=lambda name: tried[name]["loss"])
    simpler = "" if least == best else f"; {least} is not clearly better, so the simpler one is taken"
    return Choice(best, f"by the calibrated loss on held-out training rows ({said}){simpler}", tried)


def _fits(name: str, run: Assembly, rows: Split) -> bool:
    """Whether a method goes with the run."""
    training = run.config.training
    if name == "head":
        return not has_new_weights(run)
    if name == "contrastive":
        groups = run.data.task.groups(rows.targets())
        return len(np.unique(groups.members)) > 1 and training.accumulation == 1 and training.ema is None
    return True


def _clearly_less(losses_of_one: np.ndarray, losses_of_other: np.ndarray) -> bool:
    """Whether the mean is less by more than a standard error of the difference."""
    gained = losses_of_other - losses_of_one
    if len(gained) < 2:
        return False
    return float(gained.mean()) > float(gained.std(ddof=1)) / np.sqrt(len(gained))
