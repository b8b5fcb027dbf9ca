"""export.fit of a run: what the trained model's vectors say of a text that fits, and of how many held-out ones do."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np

from pipeline.assemble import Assembly
from pipeline.classifier import pooled_model
from pipeline.evaluation.interval import wilson
from pipeline.evaluation.predict import BatchForward
from pipeline.tasks.outside import Outside
from pipeline.typicality import MOST_ROWS, Typicality, find_typicality


@dataclass(frozen=True)
class Shares:
    """Rows of a split that are outside: their share, and its 95 % interval."""

    outside: float
    interval: list[float]


@dataclass(frozen=True)
class Fitting:
    """How well texts fit.

    Attributes:
        typicality: what it follows from.
        settings: what is done with it.
        of_texts: float64 [n], of the texts that the export is verified with.
        test: of the test rows, where texts that do not fit are answered as such; None: they are not, or there are none.
    """

    typicality: Typicality
    settings: Outside
    of_texts: np.ndarray
    test: Shares | None

    def summary(self) -> dict[str, Any]:
        """For metrics.json."""
        train, held_out = self.typicality.rows
        found = {"training_rows": train, "held_out_rows": held_out}
        return found | ({"below": self.settings.below, "test": asdict(self.test)} if self.test else {})

    def __str__(self) -> str:
        train, held_out = self.typicality.rows
        found = f"distances of pooled vectors to those of {train} training rows, measured on {held_out} validation rows"
        if self.test:
            low, high = self.test.interval
            found += (
                f"; {self.test.outside:.1%} of the test rows (95 % interval {low:.1%} to {high:.1%}) are answered as "
                f"{self.settings.label!r} where {self.settings.below:.1%} was asked for"
            )
        return found


def find_fitting(run: Assembly, model: keras.Model, texts: tuple[list[str], ...]) -> Fitting | None:
    """Look at the training and validation rows with the model to be served, and say what was found; None where answers
    have no fit.

    Args:
        run: its training and validation rows exist where export.fit is set (`config_check`).
        model: from `serving_copy`.
        texts: that the export is verified with.
    """
    config = run.config
    settings, train, validation = Outside.wanted(config.export), run.data.train, run.data.validation
    if settings is None or train is None or validation is None:
        return None
    size, fixed = config.evaluation.batch_size, config.text.fixed_length
    vectors = BatchForward(pooled_model(model), run.serving_encoder, size, fixed)
    rows = train
    if len(train) > MOST_ROWS:
        chosen = np.random.default_rng(config.training.seed).permutation(len(train))[:MOST_ROWS]
        rows = replace(train, rows=train.rows[np.sort(chosen)])
    typicality = find_typicality(vectors(rows), run.data.task.groups(rows.targets()), vectors(validation))
    shares = None
    if settings.below and run.data.test is not None and config.evaluation.score_test:
        outside = typicality.fit_of(vectors(run.data.test)) < settings.below
        shares = Shares(float(outside.mean()), wilson(float(outside.mean()), len(outside)))
    found = Fitting(typicality, settings, typicality.fit_of(vectors.texts(texts)), shares)
    print(f"fit: {found}")
    return found
