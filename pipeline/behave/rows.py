"""The held-out rows of a run, as they may be shown."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.data.split import Split
from pipeline.errors import UserError
from pipeline.redaction.rows import redacted_texts
from pipeline.rows_of_run import rows_of


@dataclass(frozen=True)
class Rows:
    """Rows that a model answers.

    Attributes:
        cells: of each row: its texts, then the cells of the columns beside them.
        texts: how many of the cells are texts.
        places: file and line of each; empty: they come from a suite.
        about: what rows they are.
        shown: whether their texts may be written down.
    """

    cells: list[tuple[Any, ...]]
    texts: int
    places: list[str]
    about: str
    shown: bool = True


def held_out_rows(config: Config, count: int, seed: int) -> Rows | None:
    """Rows that a run has held out, with redacted texts: of its test rows, else of its validation rows, else of those
    that it has learned from; None where it has no rows.

    Args:
        config: of the run.
        count: at most so many, drawn at random.
        seed: of the draw.

    Raises:
        UserError: the rows are others than the run began with, cannot be read, or are private and no other ones there.
    """
    if not any((config.data.train, config.data.validation, config.data.test)):
        return None
    data = rows_of(config)
    # Where the test rows are to stay unseen, they do.
    test = data.test if config.evaluation.score_test else None
    split = test or data.validation or data.train
    if split is data.train and config.training.privacy.on:
        # How often answers to them change is of these rows, and no noise is on it.
        raise UserError("the run is private, and has no rows but those that it has learned from: give a suite whose "
                        "tests all have templates.")  # fmt: skip
    return None if split is None else _drawn(config, split, count, seed)


def _drawn(config: Config, split: Split, count: int, seed: int) -> Rows:
    number = len(config.data.text_columns)
    rows = np.sort(np.random.default_rng(seed).permutation(len(split))[:count])
    columns = [[cell.decode() for cell in column] for column in split.cells(rows)]
    texts = redacted_texts(list(zip(*columns[:number], strict=True)), config.text.redaction)
    beside = list(zip(*columns[number:], strict=True)) or [()] * len(rows)
    places = [split.store.where(row) for row in split.rows[rows].tolist()]
    return Rows(
        [(*one, *other) for one, other in zip(texts, beside, strict=True)],
        number,
        places,
        f"{len(rows)} of {len(split)} {split.name} rows",
        shown=not config.training.privacy.on,
    )
