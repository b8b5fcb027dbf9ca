"""BERT's text normalisation as data for tensorflow-text's FastBertNormalize op.

The op maps each code point through a table that it is given. tensorflow-text's own table case-folds with NFKC, which
is not what BERT does ("，" becomes ",", "ß" becomes "ss", "①" becomes "1"). This module computes the table of
google-research/bert's `BasicTokenizer` from Python's `unicodedata`, as that code does, and the tables of its kin, which
differ in one of four switches.
"""

import functools
import unicodedata
from collections.abc import Container, Iterable
from typing import NamedTuple

import flatbuffers
import numpy as np

from pipeline.double_array import CODE_POINTS, double_array

# What google-research/bert calls CJK and puts spaces round. These ranges, and ASCII's punctuation, are written out in
# the FastWordpieceTokenize op as well: there it splits by itself, and the table can leave them alone.
IDEOGRAPHS = (
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF), (0x2F800, 0x2FA1F),
)  # fmt: skip
# The most characters that one can become (a Hangul syllable).
MAX_EXPANSION = 3
# How far an ideograph moves that is to be a letter: into planes where Unicode has assigned nothing.
_MOVE = 0x40000
_CHANGED = 1 << 30


class Switches(NamedTuple):
    """What of a character BERT's tokenizers treat differently."""

    lowercase: bool
    strip_accents: bool
    """Decompose (NFD) and drop what is of class Mn."""
    split_ideographs: bool = True
    """Each ideograph is a word; else a letter."""
    clean: bool = True
    """Drop control and format characters, NUL and U+FFFD."""


def move_ideographs(text: str) -> str:
    """Text whose ideographs stand where the wordpiece op does not split at them."""
    return "".join(chr(ord(c) + _MOVE) if is_ideograph(ord(c)) else c for c in text)


def is_dropped(character: str) -> bool:
    """Whether BERT's cleaning drops it."""
    return character not in "\t\n\r" and (character in "\0\ufffd" or unicodedata.category(character) in ("Cc", "Cf"))


def normalize_character(character: str, switches: Switches) -> str:
    """What google-research/bert's BasicTokenizer makes of one character, with spaces where it splits.

    Left out is what FastWordpieceTokenize does in every release, spaces round ASCII's punctuation and ideographs, and
    what depends on neighbours: final sigma (text.py), and the canonical order of combining marks.
    """
    if character in "\t\n\r" or unicodedata.category(character) in ("Zs", "Zl", "Zp"):
        return " "
    if is_dropped(character):
        if switches.clean:
            return ""
        # Unicode's other white space.
        return " " if character in "\x0b\x0c\x85" else character
    if switches.lowercase:
        character = character.lower()
    if switches.strip_accents:
        parts = unicodedata.normalize("NFD", character)
        character = "".join(part for part in parts if unicodedata.category(part) != "Mn")
    if not switches.split_ideographs:
        character = move_ideographs(character)
    return "".join(f" {c} " if c > "\x7f" and unicodedata.category(c)[0] == "P" else c for c in character)


def unassigned(vocabulary: Iterable[str]) -> frozenset[str]:
    """Characters of tokens that Unicode has not assigned or leaves to private use."""
    return frozenset(c for c in set().union(*vocabulary) if unicodedata.category(c) in ("Cn", "Co"))


def unknown_character(kept: Container[str]) -> str:
    """A character that stands for words too long and for those that Unicode has not assigned; not one of `kept`."""
    return next(chr(code) for code in range(0x10FFFF, 0, -1) if chr(code) not in kept)


@functools.lru_cache(maxsize=8)
def normalizer_table(switches: Switches, unknown: str, kept: frozenset[str] = frozenset()) -> bytes:
    """The flatbuffer (fast_bert_normalizer_model.fbs) that FastBertNormalize reads.

    Args:
        switches: what of BERT's normalisation is done.
        unknown: a character that stands for all that Unicode has not assigned, as far as this Python knows. The
            wordpiece op may know newer punctuation and would split there.
        kept: unassigned characters to leave as they are.

    Returns:
        The bytes; the same for the same version of Unicode.
    """
    targets: dict[str, int] = {}
    pool = bytearray()

    def encode(target: str) -> int:
        """Bit 30, then 24 bits of place in the pool and 6 bits of length."""
        if target not in targets:
            encoded = target.encode()
            targets[target] = _CHANGED | len(pool) << 6 | len(encoded)
            pool.extend(encoded)
        return targets[target]

    values = np.zeros(CODE_POINTS, np.uint32)
    values[_categories() == b"Cn"] = encode(unknown)
    for low, high in IDEOGRAPHS:
        values[low : high + 1] = 0
        if not switches.split_ideographs:
            values[low : high + 1] = [encode(chr(code + _MOVE)) for code in range(low, high + 1)]
    for character in kept | {unknown}:
        values[ord(character)] = 0
    for code, target in _changes(switches).items():
        values[code] = encode(target)
    if not switches.clean:
        # In the vocabulary it stands for pieces that no text has.
        values[1] = encode(unknown)
    nul = _CHANGED if switches.clean else encode(unknown)

    trie = double_array(values)
    builder = flatbuffers.Builder(len(pool) + trie.nbytes + 64)
    trie_offset = builder.CreateNumpyVector(trie)
    pool_offset = builder.CreateByteVector(bytes(pool))
    builder.StartObject(4)
    builder.PrependBoolSlot(0, switches.lowercase, False)
    builder.PrependUOffsetTRelativeSlot(1, trie_offset, 0)
    builder.PrependInt32Slot(2, nul, 0)
    builder.PrependUOffsetTRelativeSlot(3, pool_offset, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


@functools.cache
def sigma_context(clean: bool) -> tuple[str, str]:
    """RE2 ranges of the characters that decide whether a sigma is final.

    Python's str.lower() makes "Σ" a "ς" where the last character before it that is not case-ignorable is cased, and
    the first such after it is not. The two sets are read off str.lower() itself. Characters that BERT drops before
    lower-casing count as ignorable.

    Args:
        clean: whether it drops any.

    Returns:
        (cased but not ignorable, ignorable), to be put between brackets.
    """
    codes = [code for code in _candidates() if code != ord(" ")]
    alone = " ".join(chr(code) + "Σ" for code in codes).lower().split(" ")
    after_a = " ".join(f"a{chr(code)}Σ" for code in codes).lower().split(" ")
    cased, ignorable = [], [0]
    for code, first, second in zip(codes, alone, after_a, strict=True):
        if clean and is_dropped(chr(code)):
            ignorable.append(code)
        elif first.endswith("ς"):
            cased.append(code)
        elif second.endswith("ς"):
            ignorable.append(code)
    return _ranges(cased), _ranges(sorted(ignorable))


@functools.cache
def _changes(switches: Switches) -> dict[int, str]:
    """Code point to target, for all that normalize_character changes."""
    targets = ((code, normalize_character(chr(code), switches)) for code in _candidates())
    return {code: target for code, target in targets if target != chr(code)}


@functools.cache
def _categories() -> np.ndarray:
    return np.frombuffer("".join(map(unicodedata.category, map(chr, range(CODE_POINTS)))).encode(), "S2")


@functools.cache
def _candidates() -> list[int]:
    """The code points that normalize_character may change or a sigma's context may name, but for NUL."""
    named = ~np.isin(_categories(), (b"Cn", b"Co", b"Cs"))
    # The unified ideographs, more than half of Unicode, have neither case nor decomposition.
    for low, high in ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0x20000, 0x2CEAF), (0x2CEB0, 0x2EBEF), (0x30000, 0x3FFFF)):
        named[low : high + 1] = False
    return np.flatnonzero(named)[1:].tolist()


@functools.cache
def word_ranges(ideographs: bool) -> str:
    """RE2 ranges of letters, marks, digits and connectors, as `\\w` of Hugging Face's tokenizers names them.

    Args:
        ideographs: with them, wherever they stand (see move_ideographs).
    """
    within = np.isin(_categories(), [b"Lu", b"Ll", b"Lt", b"Lm", b"Lo", b"Mn", b"Mc", b"Me", b"Nd", b"Nl", b"Pc"])
    within[[0x200C, 0x200D]] = True
    for low, high in IDEOGRAPHS:
        within[low : high + 1] = within[low + _MOVE : high + _MOVE + 1] = ideographs
    return _ranges(np.flatnonzero(within).tolist())


def is_ideograph(code: int) -> bool:
    """Whether BERT puts spaces round a character."""
    return any(low <= code <= high for low, high in IDEOGRAPHS)


def _ranges(codes: list[int]) -> str:
    starts = np.flatnonzero(np.diff(codes, prepend=-2) != 1)
    ends = [*(starts[1:] - 1), len(codes) - 1]
    return "".join(rf"\x{{{codes[a]:X}}}-\x{{{codes[b]:X}}}" for a, b in zip(starts, ends, strict=True))
