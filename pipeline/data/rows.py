"""What makes a row usable: text that is text."""

from collections.abc import Sequence
from typing import Any


def clean_texts(cells: Sequence[Any]) -> list[bytes]:
    """The texts of a row as UTF-8.

    Raises:
        ValueError: one cannot be used; the message is the end of a sentence about the row.
    """
    return [_clean(cell) for cell in cells]


def _clean(text: Any) -> bytes:
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError:
            raise ValueError("has bytes in its text that are not UTF-8") from None
    if text is None or (isinstance(text, str) and not text.strip()):
        raise ValueError("has no text")
    if not isinstance(text, str):
        raise ValueError(f"has a {type(text).__name__} where text is expected")
    if "\0" in text:
        raise ValueError("has a NUL character in its text (is the file's encoding right?)")
    # JSON can hold half a surrogate pair, which no encoding has; it becomes a question mark.
    return text.encode("utf-8", "replace")
