"""How well a text fits, in a model's answers, and the answer to those that do not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from export.config import ExportConfig

FIT = "fit"
"""The output: float32 [batch], from 0 to 1, the share of texts of the model's own kind that fit no better."""


@dataclass(frozen=True)
class Outside:
    """That answers have `fit`, and which texts are outside.

    Attributes:
        below: texts that fit less have another label; 0: none.
        label: of these.
    """

    below: float = 0.0
    label: str = ""

    @classmethod
    def wanted(cls, export: "ExportConfig") -> Self | None:
        """By the settings of an export; None: fit is not asked for."""
        if not (export.fit or export.outside):
            return None
        # Not 1 - 0.95, which is a little more than 0.05.
        return cls(round(1 - export.outside, 9), export.outside_label) if export.outside else cls()

    def applied(self, answer: dict[str, Any], fit) -> dict[str, Any]:
        """The outputs of serving_default, tensors, with the fit of their rows, float32 [batch]."""
        import tensorflow as tf

        label = {"label": tf.where(fit < self.below, self.label, answer["label"])} if self.below else {}
        return answer | label | {FIT: fit}

    def labels_of(self, labels: Sequence[str], fit: Sequence[float]) -> list[str]:
        """The labels of n rows of which these would be the labels if all of them fitted."""
        # In float32, as the graph compares.
        outside = np.asarray(fit, np.float32) < np.float32(self.below)
        return [self.label if out else label for label, out in zip(labels, outside, strict=True)]

    def metadata(self) -> dict[str, Any]:
        """JSON-able."""
        return {"below": self.below, "label": self.label} if self.below else {}

    def notes(self) -> str:
        """A sentence for who asks the model."""
        found = (
            "`fit`, from 0 to 1, tells how well a text fits what the model was trained on: the twentieth of such texts "
            "that fit least have up to 0.05."
        )
        if self.below:
            found += f" The `label` is {self.label!r} below {self.below:.4g}, which withholds as many of the answers."
        return found
