"""What makes a row usable: text that is text."""

from collections.abc import Sequence
from typing import Any

from pipeline.data.formats import text_of


def clean_texts(cells: Sequence[Any]) -> list[bytes]:
    """The texts of a row as UTF-8.

    Raises:
        ValueError: one cannot be used; the message is the end of a sentence about the row.
    """
    texts = []
    for cell in cells:
        text = text_of(cell)
        if isinstance(text, str):
            raise ValueError(text)
        texts.append(text)
    return texts
