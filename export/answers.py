"""What an answer consists of where it is written: its columns."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

REASON = "reason"
"""The column that says why a row has no answer."""


def columns_of(
    outputs: Mapping[str, np.ndarray], names: Sequence[str], classes: Sequence[str] = (), top: int = 1
) -> dict[str, list[str] | np.ndarray]:
    """The columns of n answers by name: strings, or float arrays; each of length n, which may be 0.

    Args:
        outputs: of serving_default.
        names: of the outputs that are columns.
        classes: of the columns of "probabilities".
        top: with more than 1, so many of the most probable classes are columns too.

    Raises:
        ValueError: `top` of answers that are no classes.
    """
    columns = {name: outputs[name].tolist() if outputs[name].dtype == object else outputs[name] for name in names}
    if top > 1:
        if "probabilities" not in outputs:
            raise ValueError(f"--top is for models that answer labels; this one answers {', '.join(names)}.")
        best = (-outputs["probabilities"]).argsort(axis=1, kind="stable")[:, :top]
        for rank in range(best.shape[1]):
            chosen = best[:, rank : rank + 1]
            columns[f"label_{rank + 1}"] = [classes[k] for k in best[:, rank]]
            columns[f"score_{rank + 1}"] = np.take_along_axis(outputs["probabilities"], chosen, 1)[:, 0]
    return columns


def prefix_of(columns: Collection[str], added: Collection[str]) -> str:
    """What stands before the names of the columns that are added, so that none is a column of the input."""
    prefix = ""
    while any(f"{prefix}{name}" in columns for name in added):
        prefix += "predicted_"
    return prefix


def line_of(answer: Mapping[str, Any]) -> str:
    """One answer, its cells by column, for people."""
    ranks = [int(name.removeprefix("label_")) for name in answer if name.startswith("label_")]
    if ranks:
        return "  ".join(f"{answer[f'label_{rank}']} {answer[f'score_{rank}']:.4f}" for rank in ranks)
    cells = [value for name, value in answer.items() if name != REASON]
    return " ".join(value if isinstance(value, str) else f"{value:.4f}" for value in cells)
