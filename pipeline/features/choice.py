"""model.fusion auto: how columns come to the text, by what a linear layer learns from the checkpoint as it is."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.assemble import seed_all
from pipeline.config import Config
from pipeline.data.load import DataSplits
from pipeline.data.split import Split
from pipeline.features import ALONE, Features
from pipeline.files import write_text
from pipeline.labels.vectors import frozen
from pipeline.methods.learned import learn
from pipeline.tasks.task import Task
from pipeline.training.workers import Workers

FILE = "fusion.json"
# Rows that are looked at, evenly spread.
MOST_ROWS = 4000
TEXT = "the text alone"


@dataclass(frozen=True)
class Choice:
    """What was chosen, and of which rows."""

    fusion: str
    losses: dict[str, float]
    """A held-out row's, by the way; of the text alone too."""
    data: str
    """DataSplits.fingerprint."""


def with_fusion(config: Config, data: DataSplits, workers: Workers) -> tuple[Config, DataSplits]:
    """A run with its way decided, in config.model and in data.features. It is chosen once and kept in the run's folder
    as fusion.json; what was found is said, and whether the columns do any good.

    Args:
        config: of the run.
        data: all of its rows.
        workers: of the run, who all take the same.
    """
    features, train = data.features, data.train
    if config.model.fusion != "auto":
        return config, replace(data, features=replace(features, fusion=config.model.fusion))
    if not features.columns or train is None:
        return replace(config, model=replace(config.model, fusion="concat")), data
    path = Path(str(config.run_dir)) / FILE
    with workers.chief_first():
        if workers.chief and _kept(path, data) is None:
            write_text(path, json.dumps(asdict(_choose(config, data, train)), indent=1))
    choice = _kept(path, data)
    assert choice is not None, "the chief has written it"
    # To ask a model has drawn numbers, and a run that is taken up again does not ask.
    seed_all(config.training)
    said = ", ".join(f"{name} {loss:.3f}" for name, loss in choice.losses.items())
    print(f"model.fusion auto: {choice.fusion}, by the loss on held-out training rows ({said})", flush=True)
    warnings, gained = data.warnings, choice.losses[TEXT] - choice.losses[choice.fusion]
    if gained <= 0:
        warning = (
            f"the columns beside the text are of no use to a linear layer on the checkpoint's vectors: its loss on "
            f"held-out rows is {choice.losses[choice.fusion]:.3f} with them and {choice.losses[TEXT]:.3f} without."
        )
        print(f"warning: {warning}")
        warnings = [*warnings, warning]
    config = replace(config, model=replace(config.model, fusion=choice.fusion))
    return config, replace(data, features=replace(features, fusion=choice.fusion), warnings=warnings)


def _kept(path: Path, data: DataSplits) -> Choice | None:
    """What was decided for these rows before; None: nothing was."""
    found = Choice(**json.loads(path.read_text())) if path.is_file() else None
    return found if found and found.data == data.fingerprint else None


def _choose(config: Config, data: DataSplits, train: Split) -> Choice:
    every = -(-len(train) // MOST_ROWS)
    rows = replace(train, rows=train.rows[::every])
    features = data.features
    ways = {TEXT: replace(features, fusion=ALONE)}
    ways |= {name: replace(features, fusion=name) for name in _possible(features)}
    losses = {name: _loss(config, data.task, rows, way) for name, way in ways.items()}
    best = min(_possible(features), key=lambda name: losses[name])
    return Choice(best, losses, data.fingerprint)


def _possible(features: Features) -> list[str]:
    names = ["concat"]
    if all(column.as_text for column in features.columns):
        names.append("text")
    if any(column.kind == "category" for column in features.columns):
        names.append("hybrid")
    return names


def _loss(config: Config, task: Task, rows: Split, features: Features) -> float:
    """Of a row that was held out, on average."""
    learned = learn(task, rows, frozen(config, features)(rows), config.training.seed)
    values = rows.targets()
    try:
        return float(np.mean(task.row_losses(values, learned.held_out)))
    except NotImplementedError:  # Of a number, whose score is its error.
        return float(np.mean(task.row_scores(values, learned.held_out).values))
