"""Exported models: written, verified, compared, asked.

TensorFlow, which takes seconds to import, is imported by `load`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.interrupt import end_while_importing

if TYPE_CHECKING:
    from export.loading import Answers, Classifier, Explanation
    from export.versions import ModelError

__all__ = ["Answers", "Classifier", "Explanation", "ModelError", "load"]


end_while_importing()


def load(path: str | Path) -> "Classifier":
    """An exported model as a function from texts to answers.

    Example:
        from export import load

        classifier = load("runs/quickstart")
        classifier("The striker scored twice.")["label"]

    Args:
        path: a run directory (its newest version), a directory of versions, or one version.

    Raises:
        ModelError: there is no model, or it cannot be loaded.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from export.loading import Classifier

    return Classifier(path)


def __getattr__(name: str):
    if name in __all__:
        from export import loading

        return getattr(loading, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
