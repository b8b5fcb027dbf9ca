"""Cells of rows, whatever the format: what is a text, and how values are written where all is text."""

import json
import re
import unicodedata
from typing import Any

# UTF-8 that was read as latin-1 or cp1252: its lead byte, then one that goes on.
_MISREAD = re.compile("[ÂÃ][\x80-\xbfŒœŠšŸŽžƒˆ˜–—‘-‚“-„†‡•…‰‹›€™]|â(?:€|\x80)")


class Nothing(str):
    """In place of a row's cells: a line that is no row, and why ("is blank"). Not an error."""


def text_of(cell: Any) -> bytes | str:
    """A text as UTF-8; where the cell holds none, what is wrong, as the end of a sentence about the row."""
    if isinstance(cell, bytes):
        try:
            cell = cell.decode()
        except UnicodeDecodeError:
            return "has bytes in its text that are not UTF-8"
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return NO_TEXT
    if not isinstance(cell, str):
        return f"has a {type(cell).__name__} where text is expected"
    if "\0" in cell:
        return "has a NUL character in its text (is the file's encoding right?)"
    # JSON can hold half a surrogate pair, which no encoding has; it becomes a question mark.
    return cell.encode("utf-8", "replace")


NO_TEXT = "has no text"


def looks_misread(cell: Any) -> bool:
    """Whether a text seems to be UTF-8 that was decoded as something else, before us or by us: Â£, â€™, Ã©."""
    if not isinstance(cell, str) or cell.isascii():
        return False
    # To look for single characters is much faster than the expression.
    return ("Ã" in cell or "Â" in cell or "â" in cell) and _MISREAD.search(cell) is not None


def printable(text: str) -> str:
    """On one line, whatever it holds."""
    return "".join(character if character.isprintable() else " " for character in text)


def escaped(text: str) -> str:
    """On one line, and with no power over a terminal: control characters, line ends and marks of direction as in JSON.

    JSON stays JSON of the same meaning. The joiners of emoji and of Indic and Persian words are let through.
    """
    if text.isprintable():
        return text
    return "".join(json.dumps(c)[1:-1] if unicodedata.category(c) in _UNSEEN and c not in _JOINERS else c for c in text)


_UNSEEN, _JOINERS = ("Cc", "Cf", "Cs", "Zl", "Zp"), "\u200c\u200d"


def encodable(cell: Any) -> Any:
    """A cell whose texts have no half surrogate pairs: each becomes a question mark."""
    if isinstance(cell, str):
        return cell if cell.isascii() else cell.encode("utf-8", "replace").decode()
    if isinstance(cell, list):
        return [encodable(item) for item in cell]
    return {encodable(k): encodable(v) for k, v in cell.items()} if isinstance(cell, dict) else cell


def as_text(cell: Any) -> str:
    """A cell for formats that know only text."""
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    if isinstance(cell, list | dict):
        return json.dumps(cell, ensure_ascii=False, default=as_text)
    return str(cell)
