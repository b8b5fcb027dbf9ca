"""What goes into a model: from columns of the data to the inputs of its signatures. No TensorFlow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Features:
    """The texts of a row.

    Args:
        text_columns: one column of the data, or two for pairs of texts.
    """

    text_columns: tuple[str, ...] = ("text",)

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs of all signatures over texts, and of the features in a tf.Example."""
        return ["text_a", "text_b"] if len(self.text_columns) == 2 else ["text"]

    def metadata(self) -> dict[str, Any]:
        """JSON-able: "inputs" and what `from_metadata` needs."""
        return {"inputs": self.inputs, "text_columns": list(self.text_columns)}

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> Self:
        """The inverse of `metadata`; other keys are passed over."""
        return cls(tuple(metadata.get("text_columns") or metadata["inputs"]))

    @classmethod
    def of(cls, text_columns: Sequence[str]) -> Self:
        """Of data.text_columns."""
        return cls(tuple(text_columns))


ONE_TEXT, TWO_TEXTS = Features(("text",)), Features(("text_a", "text_b"))
