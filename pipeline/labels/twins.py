"""Equal and nearly equal texts under different labels, of which at most one is right."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Rows that are compared with all others at a time.
BLOCK = 1024
# Each row is compared with each: of more rows that takes longer than people wait for it.
MOST_ROWS = 50_000


@dataclass(frozen=True)
class Twin:
    """The row with another label that a row's text is most like.

    Attributes:
        row: its number.
        cosine: of the two texts' vectors; None: the texts are equal.
    """

    row: int
    cosine: float | None = None


def plain(text: str) -> str:
    """A text by which equal ones are told: without case, punctuation and the kind of its spaces; as it is where it is
    nothing but punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Marks are parts of letters, in Thai and Hindi above all.
    kept = "".join(c if unicodedata.category(c)[0] in "LNMS" else " " for c in folded)
    return " ".join(kept.split()) or text.strip()


def equal_twins(texts: Sequence[str], answers: np.ndarray) -> dict[int, Twin]:
    """By the number of a row: the first row of equal text and another answer.

    Args:
        texts: of n rows.
        answers: [n] of any integers, equal for equal labels.
    """
    groups: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        groups.setdefault(plain(text), []).append(row)
    found = {}
    for rows in groups.values():
        for row in rows if len(rows) > 1 else ():
            other = next((other for other in rows if answers[other] != answers[row]), None)
            if other is not None:
                found[row] = Twin(other)
    return found


def near_twins(vectors: np.ndarray, answers: np.ndarray, least: float) -> dict[int, Twin]:
    """By the number of a row: the row of another answer whose vector is nearest, where their cosine is `least` or more.

    Args:
        vectors: float32 [n, hidden]; their mean is taken from each, for all texts' vectors have much in common.
        answers: as for `equal_twins`.
        least: from -1 to 1.
    """
    centred = vectors - vectors.mean(axis=0)
    units = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
    found = {}
    for start in range(0, len(units), BLOCK):
        rows = slice(start, start + BLOCK)
        cosines = units[rows] @ units.T
        cosines[answers[rows, None] == answers] = -2.0
        nearest = cosines.argmax(axis=1)
        for row in np.flatnonzero(cosines.max(axis=1) >= least):
            found[start + int(row)] = Twin(int(nearest[row]), float(cosines[row, nearest[row]]))
    return found
