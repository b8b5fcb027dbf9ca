"""Answers: what Classifier and Client give, and what an answer consists of where it is written, its columns."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from pipeline.data.formats import escaped
from pipeline.errors import UserError
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


def is_share(name: str) -> bool:
    """Whether an output is of probabilities, by its name; others have any unit."""
    return name in ("score", "probabilities", "fit") or name.startswith("score_")


def rounded(value: float, share: bool) -> float:
    """A number as it is written: of a probability six digits behind the point; of what has any unit the
    fewest that are read back as the same float32."""
    return round(float(value), 6) if share else float(str(np.float32(value)))


def refuse_late(columns: Collection[str], added: Collection[str], place: str) -> None:
    """See that columns which only later rows have do not take the place of answers, whose names are decided by then.

    Args:
        columns: those that come late.
        added: names of the answers' columns, with what stands before them.
        place: where they come.

    Raises:
        UserError: a column has the name of an answer.
    """
    for name in columns:
        if name in added:
            raise UserError(f"{place} has a column {name!r}, as an answer is named, which no row at the beginning has: "
                            "rename it, or give it to the first row too, were it as null.")  # fmt: skip


def line_of(answer: Mapping[str, Any]) -> str:
    """One answer, its cells by column, for people; where no label is given, so it says."""
    ranks = [int(name.removeprefix("label_")) for name in answer if name.startswith("label_")]
    if ranks:
        return "  ".join(f"{escaped(answer[f'label_{rank}'])} {answer[f'score_{rank}']:.4f}" for rank in ranks)
    if answer.get("label") == "" and "score" in answer:
        most = answer.get(HIGHEST)
        named = " score" if most is None else f": {escaped(most)}"
        none = f"(no label; highest{named} {_shown('score', answer['score'])})"
        others = {name: value for name, value in answer.items() if name not in ("label", "score")}
    else:
        none, others = None, answer
    cells = [_shown(name, value) for name, value in others.items() if name not in (REASON, HIGHEST)]
    return " ".join(cells if none is None else [none, *cells])


def _shown(name: str, value: Any) -> str:
    if isinstance(value, str):
        return escaped(value)
    # Of a small number with a unit four digits behind the point are perhaps all zeros.
    return f"{value:.4g}" if not is_share(name) and 0 < abs(value) < 0.1 else f"{value:.4f}"
