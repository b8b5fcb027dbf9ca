"""model.fusion auto: how columns come to the text, by what a linear layer learns from the checkpoint as it is."""

from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.data.load import DataSplits
from pipeline.data.split import Split
from pipeline.decided import decided
from pipeline.features import Features
from pipeline.labels.vectors import frozen
from pipeline.methods.learned import learn
from pipeline.tasks.task import Task
from pipeline.training.workers import Workers

FILE = "fusion.json"
# Rows that are looked at, evenly spread.
MOST_ROWS = 4000
TEXT = "the text alone"


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
    choice = decided(config, data, workers, FILE, lambda: _choose(config, data, train))
    fusion, losses = choice["fusion"], choice["losses"]
    said = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items())
    print(f"model.fusion auto: {fusion}, by the loss on held-out training rows ({said})", flush=True)
    warnings, gained = data.warnings, losses[TEXT] - losses[fusion]
    if gained <= 0:
        warning = (
            f"the columns beside the text are of no use to a linear layer on the checkpoint's vectors: its loss on "
            f"held-out rows is {losses[fusion]:.3f} with them and {losses[TEXT]:.3f} without."
        )
        print(f"warning: {warning}")
        warnings = [*warnings, warning]
    config = replace(config, model=replace(config.model, fusion=fusion))
    return config, replace(data, features=replace(features, fusion=fusion), warnings=warnings)


def _choose(config: Config, data: DataSplits, train: Split) -> dict[str, Any]:
    """The way, and what a held-out row loses by each, and with the text alone."""
    every = -(-len(train) // MOST_ROWS)
    rows = replace(train, rows=train.rows[::every])
    features = data.features
    vectors = {name: frozen(config, replace(features, fusion=name))(rows) for name in _possible(features)}
    # Behind the text's vector stand the columns' numbers.
    width = replace(features, fusion="concat").width
    ways = {TEXT: vectors["concat"][:, : vectors["concat"].shape[1] - width], **vectors}
    losses = {name: _loss(config, data.task, rows, found) for name, found in ways.items()}
    return {"fusion": min(vectors, key=lambda name: losses[name]), "losses": losses}


def _possible(features: Features) -> list[str]:
    names = ["concat"]
    if all(column.as_text for column in features.columns):
        names.append("text")
    if any(column.kind == "category" for column in features.columns):
        names.append("hybrid")
    return names


def _loss(config: Config, task: Task, rows: Split, vectors: np.ndarray) -> float:
    """Of a row that was held out, on average."""
    learned = learn(task, rows, vectors, config.training.seed)
    values = rows.targets()
    try:
        return float(np.mean(task.row_losses(values, learned.held_out)))
    except NotImplementedError:  # Of a number, whose score is its error.
        return float(np.mean(task.row_scores(values, learned.held_out).values))
