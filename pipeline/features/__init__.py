"""What goes into a model: from columns of the data to the inputs of its signatures. No TensorFlow."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from pipeline.features.columns import Column, FeatureColumn, Vector, column_from, metadata_of

TEXT_INPUTS = {1: ("text",), 2: ("text_a", "text_b")}
"""Names of the inputs of one text a row, and of a pair."""


@dataclass(frozen=True)
class Features:
    """What of a row a model reads.

    Args:
        text_columns: one column of the data, two for pairs of texts, or more, which are read as one text.
        columns: numbers, categories, dates and vectors beside the texts, with what the training rows say of them.
        fusion: how they come together with the text, as in model.fusion.
    """

    text_columns: tuple[str, ...] = ("text",)
    columns: tuple[Column, ...] = ()
    fusion: str = "concat"

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs of all signatures over texts, and of the features in a tf.Example; in the order of
        `cells`."""
        texts = TEXT_INPUTS.get(len(self.text_columns))
        names = [*(texts or input_names(self.text_columns, ()))]
        return names + input_names([column.name for column in self.columns], names)

    @property
    def cells(self) -> list[str]:
        """Columns of the data in the order of `inputs`."""
        return [*self.text_columns, *(column.name for column in self.columns)]

    @property
    def composed(self) -> bool:
        """Whether what is tokenized is put together of several cells, rather than sent as it is."""
        return len(self.text_columns) > 2 or any(self.read_as_text(column) for column in self.columns)

    @property
    def texts_read(self) -> int:
        """Texts that are tokenized: 2 of pairs, else 1."""
        return 2 if len(self.text_columns) == 2 else 1

    @property
    def plain(self) -> bool:
        """Whether a row is one text or two, and nothing else."""
        return not self.columns and len(self.text_columns) <= 2

    @property
    def beside(self) -> tuple[Column, ...]:
        """The columns that go into the model as numbers."""
        return () if self.fusion == "text" else self.columns

    @property
    def width(self) -> int:
        """How many numbers they are."""
        return sum(column.width for column in self.beside)

    def read_as_text(self, column: Column) -> bool:
        """Whether a column is put into words before the text."""
        return column.as_text and (self.fusion == "text" or (self.fusion == "hybrid" and column.kind == "category"))

    def wanted(self, setting: str) -> list[FeatureColumn]:
        """How the columns beside the texts are read; `setting` names where from, for messages."""
        return [
            FeatureColumn(column.name, type(column), setting, self.sizes.get(column.name)) for column in self.columns
        ]

    @property
    def sizes(self) -> dict[str, int]:
        """How many numbers the vectors of a column have, by its name."""
        return {column.name: column.size for column in self.columns if isinstance(column, Vector)}

    def metadata(self) -> dict[str, Any]:
        """JSON-able: "inputs" and what `from_metadata` needs."""
        found = {"inputs": self.inputs, "text_columns": list(self.text_columns)}
        if self.columns:
            found |= {"fusion": self.fusion, "columns": list(map(metadata_of, self.columns))}
        return found

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> Self:
        """The inverse of `metadata`; other keys are passed over."""
        columns = tuple(map(column_from, metadata.get("columns", ())))
        return cls(tuple(metadata.get("text_columns") or metadata["inputs"]), columns, metadata.get("fusion", "concat"))


ONE_TEXT, TWO_TEXTS = Features(("text",)), Features(("text_a", "text_b"))


def input_names(columns: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Names of inputs for columns, each once: letters, digits and _, as a signature's inputs have them."""
    found: list[str] = []
    for column in columns:
        plain = re.sub(r"\W", "_", column, flags=re.ASCII)
        plain = plain if re.match(r"[A-Za-z]", plain) else f"column_{plain}"
        name, number = plain, 2
        while name in (*taken, *found):
            name, number = f"{plain}_{number}", number + 1
        found.append(name)
    return found
