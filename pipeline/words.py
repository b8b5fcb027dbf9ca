"""The words that WordPiece cuts into tokens, counted without TensorFlow; they are those that TextEncoder finds."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator

from pipeline.normalizer import (
    MAX_EXPANSION,
    Switches,
    is_ideograph,
    normalize_character,
    unassigned,
    unknown_character,
)
from pipeline.tokenizer_rules import MAX_WORD_CHARACTERS

# After so many characters it is looked whether what was met is to be normalised, to make room.
_LOOKED_AT = 1 << 22
# As much as may be met until then: strings between spaces, and their characters (in Chinese a string is a paragraph).
MOST_STRINGS, MOST_CHARACTERS = 1 << 18, 1 << 23
_ASCII_MARKS = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


class WordCounter:
    """Counts words as google-research/bert's rules make them.

    A string between two spaces has the same words wherever it stands, so that each is looked at once, however often it
    is met: most of the time goes into finding the spaces.

    Args:
        lowercase: as TextEncoder's.
        vocabulary: whose characters are kept, though Unicode has not assigned them.

    Attributes:
        unknown: the character that stands for others that Unicode has not assigned, and for words too long.
    """

    def __init__(self, lowercase: bool, vocabulary: Iterable[str] = ()):
        kept = unassigned(vocabulary)
        self.unknown = unknown_character(kept)
        self._lowercase = lowercase
        self._table = _Table(lowercase, self.unknown, kept)

    def count(self, texts: Iterable[str]) -> Iterator[Counter[str]]:
        """How often each word is met, for one stretch of the texts after the other.

        Args:
            texts: read once; a word lies in one of them.

        Returns:
            Counts that add up to those of all texts.
        """
        met: Counter[str] = Counter()
        read = 0
        for text in texts:
            met.update(text.split(" "))
            read += len(text)
            if read >= _LOOKED_AT:
                read = 0
                if len(met) >= MOST_STRINGS or sum(map(len, met)) >= MOST_CHARACTERS:
                    yield self._words_of(met)
                    met.clear()
        if met:
            yield self._words_of(met)

    def words(self, text: str) -> list[str]:
        """The words of a text in their order."""
        if self._lowercase and "Σ" in text:
            # Python's lower() knows where a sigma is final; what BERT drops before must not hide that.
            text = "".join(c for c in text if normalize_character(c, Switches(False, False))).lower()
        words = text.translate(self._table).split()
        if len(text) * MAX_EXPANSION > MAX_WORD_CHARACTERS:
            return [word if len(word) <= MAX_WORD_CHARACTERS else self.unknown for word in words]
        return words

    def _words_of(self, met: Counter[str]) -> Counter[str]:
        words: Counter[str] = Counter()
        for text, count in met.items():
            for word in self.words(text):
                words[word] += count
        return words


class _Table(dict[int, str]):
    """For str.translate: a character to what it becomes, found when it is first met."""

    def __init__(self, lowercase: bool, unknown: str, kept: frozenset[str]):
        super().__init__()
        self._switches, self._unknown, self._kept = Switches(lowercase, lowercase), unknown, kept

    def __missing__(self, code: int) -> str:
        found = self[code] = self._made(chr(code))
        return found

    def _made(self, character: str) -> str:
        category = unicodedata.category(character)
        if category == "Cs":  # half a pair, which UTF-8 does not have
            return ""
        if category == "Cn" and not is_ideograph(ord(character)) and character not in self._kept:
            return self._unknown
        parts = normalize_character(character, self._switches)
        return "".join(f" {c} " if c in _ASCII_MARKS or is_ideograph(ord(c)) else c for c in parts)
