"""What makes a row usable: text that is text."""

from collections.abc import Sequence
from typing import Any

from pipeline.data.formats import NO_TEXT, text_of


def clean_texts(cells: Sequence[Any]) -> list[bytes]:
    """The texts of a row as UTF-8. Of more than two, which are read as one, some may be empty.

    Raises:
        ValueError: one cannot be used; the message is the end of a sentence about the row.
    """
    found = [text_of(cell) for cell in cells]
    if len(cells) > 2 and any(isinstance(text, bytes) for text in found):
        found = [b"" if text == NO_TEXT else text for text in found]
    texts = [text for text in found if isinstance(text, bytes)]
    if len(texts) < len(found):
        raise ValueError(next(text for text in found if isinstance(text, str)))
    return texts
