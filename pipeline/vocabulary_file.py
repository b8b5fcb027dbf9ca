"""vocab.txt: a vocabulary as a file, a token a line, its line number from 0 its id. No TensorFlow."""

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.tokenizer_rules import SPECIAL_TOKENS


def load_vocabulary(path: str | os.PathLike) -> list[str]:
    """The tokens of a vocab.txt, as google-research/bert's load_vocab reads them: one a line, outer spaces stripped.

    A token of nothing but a space character (such as U+3000 in Chinese vocabularies) stays, to keep its place. So does
    an empty line between tokens, and a token that comes again (the last is the one that text becomes), as a token
    [unusedN] that no text has.

    Raises:
        UserError: no such file, not UTF-8, or no tokens.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: the vocabulary cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the vocabulary is not UTF-8 at byte {error.start}: save it as UTF-8.") from error
    # Only newlines end a line: str.splitlines would also split at characters that may be tokens.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    tokens = [line.strip() or line for line in lines]
    while tokens and not tokens[-1]:
        tokens.pop()
    if not tokens:
        raise UserError(f"{path}: the vocabulary is empty.")
    return with_unused(tokens)


def with_unused(tokens: Sequence[str]) -> list[str]:
    """Tokens in their order, with a name of its own, [unusedN], for each that is empty or comes again later."""
    last = {token: number for number, token in enumerate(tokens)}
    named = []
    for number, token in enumerate(tokens):
        if not token or last[token] != number:
            free = number
            while (token := f"[unused{free}]") in last:
                free += len(tokens)
            last[token] = number
        named.append(token)
    return named


def save_vocabulary(tokens: Sequence[str], path: str | os.PathLike) -> None:
    """Write a vocab.txt, a token a line: beside, then renamed, so that a reader never sees half of it."""
    write_text(path, "".join(f"{token}\n" for token in tokens))


def special_ids(vocabulary: Sequence[str], source: str) -> list[int]:
    """Ids of SPECIAL_TOKENS.

    Args:
        vocabulary: tokens.
        source: what messages call it.

    Raises:
        UserError: a token is there twice, or a special one is not.
    """
    ids: dict[str, int] = {}
    for number, token in enumerate(vocabulary):
        if ids.setdefault(token, number) != number:
            lines = f"lines {ids[token] + 1} and {number + 1}"
            raise UserError(f"{source} has {token!r} twice, in {lines}: rename one, for a token has one id.")
    missing = [token for token in SPECIAL_TOKENS if token not in ids]
    if missing:
        raise UserError(f"{source} lacks {', '.join(missing)}: a BERT vocabulary has a line for each.")
    return [ids[token] for token in SPECIAL_TOKENS]
