"""Answers: what Classifier and Client give, and what an answer consists of where it is written, its columns."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from pipeline.data.formats import escaped
from pipeline.extras import require

if TYPE_CHECKING:
    import pandas as pd

REASON = "reason"
"""The column that says why a row has no answer."""
Answer: TypeAlias = dict[str, Any]
"""Outputs of serving_default for one row, by name, as json.dumps takes them: {"label": "sport", "score": 0.98, ...}."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers to n rows, in their order.

    Example:
        answers.labels, answers.scores          all of them
        answers[0]["label"], answers["label"][0]
        frame.join(answers.to_frame())          beside the rows of the DataFrame that was asked about
    """

    outputs: dict[str, np.ndarray]
    """The signature's outputs by name, of n rows each; strings as str in an array of objects."""
    index: Any = None
    """Of the DataFrame or Series that was asked about; None: there was none."""
    version: int | None = None
    """Of a served model: the version that answered, where the server says it."""

    @property
    def labels(self) -> list[str]:
        """Label of each."""
        return self.outputs["label"].tolist()

    @property
    def scores(self) -> np.ndarray:
        """float32 [n], of each the probability of its label (with any number of labels a row: the highest)."""
        return self.outputs["score"]

    @property
    def probabilities(self) -> np.ndarray:
        """float32 [n, C], in the order of the model's labels (Classifier.task.names)."""
        return self.outputs["probabilities"]

    def __len__(self) -> int:
        return len(next(iter(self.outputs.values()), ()))

    @overload
    def __getitem__(self, key: int) -> Answer: ...
    @overload
    def __getitem__(self, key: str) -> np.ndarray: ...
    def __getitem__(self, key: int | str) -> Answer | np.ndarray:
        """One row, or an output of all rows by its name."""
        if isinstance(key, str):
            return self.outputs[key]
        return {name: values[key].tolist() if hasattr(values[key], "tolist") else values[key]
                for name, values in self.outputs.items()}  # fmt: skip

    def __iter__(self) -> Iterator[Answer]:
        return (self[row] for row in range(len(self)))

    def to_frame(self) -> "pd.DataFrame":
        """A column for each output of one value a row (label and score), with the index that was asked about.

        Raises:
            UserError: pandas is not installed.
        """
        pd = require("pandas", "pandas")
        return pd.DataFrame({k: v for k, v in self.outputs.items() if v.ndim == 1}, index=self.index)


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


def answer_columns(names: Sequence[str], classes: Sequence[str] = (), top: int = 1) -> list[str]:
    """The names of all that is written behind the columns of an input: those of `columns_of`, and the reason."""
    ranks = range(1, min(top, len(classes)) + 1) if top > 1 else ()
    return [*names, *(f"{kind}_{rank}" for rank in ranks for kind in ("label", "score")), REASON]


def prefix_of(columns: Collection[str], added: Collection[str]) -> str:
    """What stands before the names of the columns that are added, so that none is a column of the input."""
    prefix = ""
    while any(f"{prefix}{name}" in columns for name in added):
        prefix += "predicted_"
    return prefix


HIGHEST = "highest"
"""The cell with the most probable class of a row that is given no label, in what is shown to people."""


def line_of(answer: Mapping[str, Any]) -> str:
    """One answer, its cells by column, for people; where no label is given, so it says."""
    ranks = [int(name.removeprefix("label_")) for name in answer if name.startswith("label_")]
    if ranks:
        return "  ".join(f"{escaped(answer[f'label_{rank}'])} {answer[f'score_{rank}']:.4f}" for rank in ranks)
    cells = [value for name, value in answer.items() if name not in (REASON, HIGHEST)]
    if answer.get("label") == "" and "score" in answer:
        most = answer.get(HIGHEST)
        named = " score" if most is None else f": {escaped(most)}"
        others = [value for name, value in answer.items() if name not in ("label", "score", REASON, HIGHEST)]
        cells = [f"(no label; highest{named} {answer['score']:.4f})", *others]
    return " ".join(escaped(value) if isinstance(value, str) else f"{value:.4f}" for value in cells)
