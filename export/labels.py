"""What an answer's label is."""

from dataclasses import dataclass

import numpy as np

from pipeline.errors import UserError


@dataclass(frozen=True)
class LabelRule:
    """From probabilities to the label of an answer.

    With one label a text it is the most probable one, or `abstain_label` where its probability is below
    `abstain_below`. With several it is every label of at least `threshold`, joined by `separator` in the order of
    `names`, and empty where there is none.
    """

    names: tuple[str, ...]
    multi_label: bool = False
    threshold: float = 0.5
    separator: str = "|"
    abstain_below: float = 0.0
    abstain_label: str = ""

    def __post_init__(self) -> None:
        if self.abstain_below and self.abstain_label in self.names:
            raise UserError(f"export.abstain_label {self.abstain_label!r} is the name of a label: give another.")

    def __call__(self, probabilities: np.ndarray) -> list[str]:
        """Labels of float32 [n, C]."""
        if not self.multi_label:
            # In float32, as the graph compares.
            sure = probabilities.max(axis=1) >= np.float32(self.abstain_below)
            best = probabilities.argmax(axis=1)
            return [self.names[i] if yes else self.abstain_label for i, yes in zip(best, sure, strict=True)]
        given = probabilities >= np.float32(self.threshold)
        return [self.separator.join(name for name, yes in zip(self.names, row, strict=True) if yes) for row in given]
