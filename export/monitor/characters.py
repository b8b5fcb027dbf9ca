"""What texts look like, without what they say: numbers and names of n texts at once.

A window of texts is one array of code points; what is asked of a code point (its script, whether it is a letter, what
it is without case and accents) is looked up in tables that are filled as code points turn up. Of a text the first
LONGEST characters are looked at, its length apart.
"""

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

LONGEST = 1000
# A word is a sequence of letters, marks and digits; an ideograph is a word by itself, as in BERT's tokenizers.
LETTER, CAPITAL, ACCENTED, DIGIT, PUNCTUATION, SPACE, IDEOGRAPH = (1 << bit for bit in range(7))
LATIN, OTHER, NONE, ACCENTED_LATIN = "Latin", "other", "no letters", "Latin with accents"
# By the first word of a letter's name in Unicode.
SCRIPTS = {
    "LATIN": LATIN, "CYRILLIC": "Cyrillic", "GREEK": "Greek", "ARABIC": "Arabic", "HEBREW": "Hebrew",
    "DEVANAGARI": "Devanagari", "BENGALI": "Bengali", "TAMIL": "Tamil", "THAI": "Thai", "CJK": "Han",
    "HIRAGANA": "Kana", "KATAKANA": "Kana", "HANGUL": "Hangul", "GEORGIAN": "Georgian", "ARMENIAN": "Armenian",
}  # fmt: skip
SCRIPT_NAMES = (*dict.fromkeys(SCRIPTS.values()), OTHER, ACCENTED_LATIN, NONE)
_NUMBERS = {name: number for number, name in enumerate(SCRIPT_NAMES)}
_LETTERS = len(SCRIPT_NAMES) - 2
_UNSEEN = 255
_CODES = 0x110000


class Tables:
    """What is known of code points; grows as new ones are seen.

    Args:
        lowercase: whether words are compared without case and accents.
    """

    def __init__(self, lowercase: bool = True):
        self._lowercase = lowercase
        self.kinds = np.full(_CODES, _UNSEEN, np.uint8)
        self.scripts = np.zeros(_CODES, np.uint8)
        self.folded = np.arange(_CODES, dtype=np.uint32)

    def learn(self, codes: np.ndarray) -> None:
        """Fill in code points that were not seen yet."""
        for code in np.unique(codes[self.kinds[codes] == _UNSEEN]).tolist():
            character = chr(code)
            self.kinds[code], self.scripts[code] = _described(character)
            if self._lowercase:
                plain = unicodedata.normalize("NFD", character.lower())[:1]
                self.folded[code] = ord(plain or character)


def _described(character: str) -> tuple[int, int]:
    """The kind of a character, and the number of its script."""
    category = unicodedata.category(character)
    if character.isspace() or category[0] == "Z":
        return SPACE, 0
    if category[0] in "PS":
        return PUNCTUATION, 0
    if category[0] == "N":
        return DIGIT, 0
    if category[0] == "M":
        return ACCENTED, 0
    if category[0] != "L":
        return 0, 0
    script = SCRIPTS.get(unicodedata.name(character, "").partition(" ")[0], OTHER)
    kind = LETTER | (CAPITAL if category in ("Lu", "Lt") else 0)
    kind |= IDEOGRAPH if script == "Han" else 0
    kind |= ACCENTED if script == LATIN and character > "\x7f" else 0
    return kind, _NUMBERS[script]


@dataclass(frozen=True)
class Words:
    """Words that a vocabulary has whole, by their hashes; and whether it is of texts without case and accents.

    Attributes:
        hashes: uint32, sorted.
        lowercase: see Tables.
    """

    hashes: np.ndarray
    lowercase: bool = True

    @classmethod
    def of(cls, vocabulary: Collection[str], lowercase: bool) -> "Words":
        """Of the pieces of a WordPiece vocabulary."""
        whole = [piece for piece in vocabulary if piece and not piece.startswith(("##", "["))]
        hashes, _ = Characters(whole, Tables(lowercase)).word_hashes
        return cls(np.unique(hashes), lowercase)

    def has(self, hashes: np.ndarray) -> np.ndarray:
        """bool [n], whether each is known."""
        if not len(self.hashes):
            return np.zeros(len(hashes), bool)
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return self.hashes[places] == hashes


class Characters:
    """The characters of n texts, each with its row.

    Args:
        texts: n of them.
        tables: what is known of characters; filled on the way.
    """

    def __init__(self, texts: Sequence[str], tables: Tables):
        self.lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        read = "".join(text[:LONGEST] for text in texts)
        self._codes = np.frombuffer(read.encode("utf-32-le", "surrogatepass"), np.uint32)
        self._counts = np.minimum(self.lengths, LONGEST)
        self._rows = np.repeat(np.arange(len(texts)), self._counts)
        tables.learn(self._codes)
        self._tables, self._kinds = tables, tables.kinds[self._codes]

    def _per_row(self, chosen: np.ndarray) -> np.ndarray:
        return np.bincount(self._rows[chosen], minlength=len(self.lengths))

    def features(self, words: Words | None) -> dict[str, np.ndarray]:
        """Each [n] by name: numbers, NaN where there are none, and names of scripts as numbers in SCRIPT_NAMES."""
        letters = self._per_row(self._kinds & LETTER > 0)
        solid = self._counts - self._per_row(self._kinds == SPACE)
        found = {
            "characters": self.lengths.astype(float),
            "digits": _share(self._per_row(self._kinds == DIGIT), solid),
            "punctuation": _share(self._per_row(self._kinds == PUNCTUATION), solid),
            "capitals": _share(self._per_row(self._kinds & CAPITAL > 0), letters),
            "script": self._script(letters),
        }
        if words is not None:
            hashes, rows = self.word_hashes
            total = np.bincount(rows, minlength=len(self.lengths))
            found["whole words"] = _share(np.bincount(rows[words.has(hashes)], minlength=len(self.lengths)), total)
        return found

    def _script(self, letters: np.ndarray) -> np.ndarray:
        """int [n], the script of most letters of each text."""
        chosen = self._kinds & LETTER > 0
        places = self._rows[chosen] * _LETTERS + self._tables.scripts[self._codes[chosen]]
        found = np.bincount(places, minlength=len(self.lengths) * _LETTERS).reshape(-1, _LETTERS).argmax(axis=1)
        accented = self._per_row(self._kinds & ACCENTED > 0) > 0
        found[accented & (found == _NUMBERS[LATIN])] = _NUMBERS[ACCENTED_LATIN]
        found[letters == 0] = _NUMBERS[NONE]
        return found

    @cached_property
    def word_hashes(self) -> tuple[np.ndarray, np.ndarray]:
        """uint32 and int64, [words]: the hash of each word without case, if the tables say so, and its row."""
        places = np.flatnonzero(self._kinds & (LETTER | ACCENTED | DIGIT))
        if not len(places):
            return np.zeros(0, np.uint32), np.zeros(0, np.int64)
        rows, alone = self._rows[places], self._kinds[places] & IDEOGRAPH > 0
        first = np.ones(len(places), bool)
        first[1:] = (np.diff(places) > 1) | (np.diff(rows) > 0) | alone[1:] | alone[:-1]
        starts = np.flatnonzero(first)
        within = np.arange(len(places)) - np.repeat(starts, np.diff(starts, append=len(places)))
        codes = self._tables.folded[self._codes[places]].astype(np.uint64)
        with np.errstate(over="ignore"):
            sums = np.add.reduceat((codes + np.uint64(1)) * _POWERS[within], starts)
            mixed = (sums ^ (sums >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
        return (mixed >> np.uint64(32)).astype(np.uint32), rows[starts]


def _powers() -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.cumprod(np.full(LONGEST, 0xD6E8FEB86659FD93, np.uint64), dtype=np.uint64)


# A word's hash is a polynomial of its code points, modulo 2^64, of which 32 mixed bits are kept.
_POWERS = _powers()


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
