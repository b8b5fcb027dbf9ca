"""A vocabulary as the wordpiece kernel of tensorflow-text reads it."""

import numpy as np

from pipeline.added_tokens import MOST, stand_in
from pipeline.errors import UserError
from pipeline.normalizer import Switches, move_ideographs, normalize_character
from pipeline.tokenizer_rules import TokenizerRules

MAX_TOKEN_BYTES = 256


def wordpiece_model(
    vocabulary: tuple[str, ...], source: str, rules: TokenizerRules, more: tuple[str, ...] = ()
) -> np.ndarray:
    """The flatbuffer that FastWordpieceTokenizeWithOffsets reads.

    Args:
        vocabulary: tokens in the order of their ids.
        source: where it is from, for messages.
        rules: how text is normalised.
        more: pieces with the ids behind the vocabulary's.

    Returns:
        uint8.

    Raises:
        UserError: a token that is too long for the kernel, or none that it takes.
    """
    # The builder lives in a private module; passing the vocabulary to FastWordpieceTokenizer would go through a list
    # of integers, which takes ten times as long.
    from tensorflow_text.core.pybinds import pywrap_fast_wordpiece_tokenizer_model_builder as builder

    # Tokens that no word can hold keep their ids, but the kernel must not see them: it would match a token with a
    # space across two words, and has limits and uses of its own for the others. No text has \x01 by then.
    switches = Switches(False, False, clean=rules.clean_text)
    absent = {c for c in set().union(*vocabulary) if not normalize_character(c, switches).strip()} | {"\x01"}
    if more:
        absent.update(map(stand_in, range(-1, MOST)))
    longest = rules.max_word_characters

    def possible(token: str) -> bool:
        return token == "[UNK]" or (token not in ("", "##") and len(token) <= longest + 2 and absent.isdisjoint(token))

    tokens = [token if possible(token) else f"\x01{number}" for number, token in enumerate(vocabulary)]
    if not rules.tokenize_chinese_chars:
        tokens = [move_ideographs(token) for token in tokens]
    for number, token in enumerate(tokens):
        if len(token.removeprefix("##").encode()) > MAX_TOKEN_BYTES:
            raise UserError(
                f"{source} has in line {number + 1} a token of more than {MAX_TOKEN_BYTES} bytes, {token!r}: "
                "tensorflow-text takes none so long; rename it (for example to [unused])."
            )
    try:
        # Words are limited in characters (see text.py), not in bytes.
        model = builder.build_fast_wordpiece_model([*tokens, *more], 4 * longest, "##", "[UNK]", False, False)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{source} is no WordPiece vocabulary: {error}") from error
    return np.frombuffer(model, np.uint8)
