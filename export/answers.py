"""What an answer consists of where it is written: its columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from export.loading import Answers

REASON = "reason"
"""The column that says why a row has no answer."""


def columns_of(answers: "Answers", label_names: Sequence[str], top: int = 1) -> dict[str, list[str] | np.ndarray]:
    """The columns of n answers by name: strings, or float arrays; each of length n, which may be 0."""
    columns: dict[str, list[str] | np.ndarray] = {"label": answers.labels, "score": answers.scores}
    if top > 1:
        best = (-answers.probabilities).argsort(axis=1, kind="stable")[:, :top]
        for rank in range(best.shape[1]):
            columns[f"label_{rank + 1}"] = [label_names[k] for k in best[:, rank]]
            columns[f"score_{rank + 1}"] = np.take_along_axis(answers.probabilities, best[:, rank : rank + 1], 1)[:, 0]
    return columns


def line_of(answer: dict) -> str:
    """One answer, its cells by column, for people."""
    ranks = [int(name.removeprefix("label_")) for name in answer if name.startswith("label_")]
    pairs = [(answer[f"label_{rank}"], answer[f"score_{rank}"]) for rank in ranks] or [
        (answer["label"], answer["score"])
    ]
    return "  ".join(f"{label} {score:.4f}" for label, score in pairs)
