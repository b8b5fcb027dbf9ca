"""What an answer's label is."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelRule:
    """From probabilities to the label of an answer.

    With one label a text it is the most probable one. With several it is every label of at least `threshold`, joined by
    `separator` in the order of `names`, and empty where there is none.
    """

    names: tuple[str, ...]
    multi_label: bool = False
    threshold: float = 0.5
    separator: str = "|"

    def __call__(self, probabilities: np.ndarray) -> list[str]:
        """Labels of float32 [n, C]."""
        if not self.multi_label:
            return [self.names[i] for i in probabilities.argmax(axis=1)]
        # In float32, as the graph compares.
        given = probabilities >= np.float32(self.threshold)
        return [self.separator.join(name for name, yes in zip(self.names, row, strict=True) if yes) for row in given]
