"""What makes a row usable: text that is text, and labels that are strings or integers."""

import numbers
from functools import lru_cache
from typing import Any

import numpy as np

from pipeline.data.formats import text_of


def clean(cells: list[Any], separator: str | None) -> tuple[list[bytes], list[str]] | str:
    """(texts as UTF-8, labels) of a row, or what is wrong with it, as the end of a sentence."""
    *texts, label = cells
    encoded: list[bytes] = []
    for cell in texts:
        text = text_of(cell)
        if isinstance(text, str):
            return text
        encoded.append(text)
    several = isinstance(label, (list, tuple, np.ndarray))
    if several and separator is None:
        return "has a list of labels (set data.label_separator where a row has several)"
    try:
        if separator is None:
            name = _label(label)
            return (encoded, [name]) if name else "has no label"
        parts = label if several else _label(label).split(separator)
        # An empty cell is a row without any label, which multi-label tasks have.
        return encoded, sorted({name for name in map(_label, parts) if name})
    except TypeError as error:
        return str(error)


def _label(value: Any) -> str:
    """A label as a string, "" where there is none; white space at its ends is dropped, 3.0 is 3, and NaN is none.

    Raises:
        TypeError: neither a string nor an integer; the message is the end of a sentence about the row.
    """
    if isinstance(value, str):
        return _label_of_string(value)
    if value is None:
        return ""
    if isinstance(value, bytes):
        return _label_of_string(value.decode("utf-8", "replace"))
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        if value != value:
            return ""
        if float(value).is_integer():
            return str(int(value))
        raise TypeError(f"has a label that is neither a string nor an integer: {value}")
    raise TypeError(f"has a label that is neither a string nor an integer: a {type(value).__name__}")


@lru_cache(maxsize=10_000)
def _label_of_string(value: str) -> str:
    if "\0" in value:
        raise TypeError("has a NUL character in its label (is the file's encoding right?)")
    # Half a surrogate pair becomes a question mark, as in texts.
    return value.strip().encode("utf-8", "replace").decode()
