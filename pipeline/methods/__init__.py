"""How weights are found: a file a method, which is known by the file's name and has a function `train`, a Train."""

import importlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.assemble import Assembly
    from pipeline.data.split import Split
    from pipeline.training.checkpoint import Checkpoints, Progress

MANY_ROWS = 5000
"""From so many rows on, auto learns all weights without a trial, which would cost as much again."""


class Train(Protocol):
    """Trains the run's model from its newest checkpoint, or as it is, and leaves it as it is to be served."""

    def __call__(
        self, run: "Assembly", rows: "Split", checkpoints: "Checkpoints", score: "Callable[[], dict] | None" = None
    ) -> "Progress":
        """Train.

        Args:
            run: with the model, compiled.
            rows: to learn from.
            checkpoints: of the model and its optimizer.
            score: the validation scores of the weights as they are; None: there are no rows for them.

        Returns:
            The progress; finished, unless run.pause was reached before.

        Raises:
            UserError: the method does not go with the model, or the loss is not finite any more.
            Stopped: SIGTERM or Ctrl-C came; the state is saved.
        """
        ...


def method(name: str) -> Train:
    """The `train` of the method of this name."""
    return importlib.import_module(f"{__name__}.{name}").train
