"""Texts for a model that comes without any: to compare its forms on, not to score it."""

import random

from pipeline.text import TextEncoder

# Of the longest text. All are computed as one batch, which one very long text would make as long for all.
MOST_WORDS = 24


def made_texts(encoder: TextEncoder, columns: int, count: int, seed: int = 0) -> tuple[list[str], ...]:
    """Texts of one to MOST_WORDS random words of the vocabulary.

    Args:
        encoder: whose vocabulary they are of.
        columns: texts of a row.
        count: rows.
        seed: of the words.

    Returns:
        A list a column.
    """
    chance = random.Random(seed)
    words = [piece for piece in encoder.vocabulary if not piece.startswith("##") and not _is_special(piece)]
    words = words or list(encoder.vocabulary)
    lengths = [1 + row * MOST_WORDS // count for row in range(count)]
    return tuple([" ".join(chance.choices(words, k=length)) for length in lengths] for _ in range(columns))


def _is_special(piece: str) -> bool:
    return piece.startswith("[") and piece.endswith("]")
