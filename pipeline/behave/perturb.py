"""Changes to texts that should not change an answer, or should change it one way. No TensorFlow.

A change takes a text and random numbers, and gives the text back as it is where it does not apply.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from pipeline.evaluation.baseline import UNSPACED, unspaced

Change = Callable[[str, Random], str]
Texts = tuple[str, ...]
"""The texts of a row."""

MARKS = ".!?…。！？"
# Of the words of a text one in so many is changed, and at least one.
ONE_IN = 10
# Shorter words have nothing to swap, or are not read as themselves any more.
WORD = re.compile(r"[^\W\d_]{4,}")
LEET = str.maketrans("aeiostAEIOST", "@310$7@310$7")
# Cyrillic letters that look like Latin ones.
LOOKALIKES = str.maketrans("aceiopxyABCEHKMOPTX", "асеіорхуАВСЕНКМОРТХ")
FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
HALF_WIDTH = {full: half for half, full in FULL_WIDTH.items()}


@dataclass(frozen=True)
class Drawn:
    """A change that is decided once of a text, and then done to all parts of it alike.

    Attributes:
        decide: takes a text and random numbers, and gives what is done to a part.
    """

    decide: Callable[[str, Random], Callable[[str], str]]

    def __call__(self, text: str, chance: Random) -> str:
        return self.decide(text, chance)(text)


def whitespace(text: str, chance: Random) -> str:
    """Spaces doubled or of another kind, and more of them around the text."""
    return " " + re.sub(" ", lambda _: chance.choice(("  ", "\n", "\u00a0")), text) + "  "


def punctuation(text: str, chance: Random) -> str:
    """The marks at the end left out, or one added."""
    whole = text.rstrip()
    bare = whole.rstrip(MARKS)
    if bare != whole:
        return bare or text
    return whole + chance.choice("。！" if unspaced([whole]) else ".!")


def _case(text: str, chance: Random) -> Callable[[str], str]:
    """All letters capitals, or none."""
    capitals = text == text.lower() or (text != text.upper() and chance.random() < 0.5)
    return str.upper if capitals else str.lower


def characters(text: str, chance: Random) -> str:
    """Two neighbours swapped, of characters of writing without spaces such as Chinese; one pair in twice ONE_IN."""
    places = [i for i in range(len(text) - 1) if _swaps(text[i], text[i + 1])]
    found = list(text)
    for i in chance.sample(places, min(len(places), 1 + len(places) // (2 * ONE_IN))):
        found[i], found[i + 1] = found[i + 1], found[i]
    return "".join(found)


def _swaps(one: str, other: str) -> bool:
    return one != other and bool(UNSPACED.match(one) and UNSPACED.match(other))


def width(text: str, chance: Random) -> str:
    """In writing without spaces: full-width letters, digits and marks to half-width ones, or, without any, back."""
    if not unspaced([text]):
        return text
    half = text.translate(HALF_WIDTH)
    return half if half != text else text.translate(FULL_WIDTH)


TEXTS: dict[str, Change] = {
    "whitespace": whitespace, "punctuation": punctuation, "case": Drawn(_case), "characters": characters,
    "width": width,
}  # fmt: skip


def typos(word: str, chance: Random) -> str:
    """Two neighbouring letters swapped, the first and the last in their place."""
    places = [i for i in range(1, len(word) - 2) if word[i] != word[i + 1]]
    if not places:
        return word
    i = chance.choice(places)
    return f"{word[:i]}{word[i + 1]}{word[i]}{word[i + 2 :]}"


def leet(word: str, chance: Random) -> str:
    """Digits and signs in place of letters that they look like: 1d107."""
    return word.translate(LEET)


def spaced(word: str, chance: Random) -> str:
    """Something between all letters: i.d.i.o.t"""
    return chance.choice((" ", ".", "-", "_")).join(word)


def repeated(word: str, chance: Random) -> str:
    """One letter three times more: idioooot"""
    i = chance.randrange(1, len(word)) if len(word) > 1 else 0
    return word[:i] + 3 * word[i] + word[i:]


def starred(word: str, chance: Random) -> str:
    """A letter inside hidden: idi*t"""
    if len(word) < 3:
        return word
    i = chance.randrange(1, len(word) - 1)
    return f"{word[:i]}*{word[i + 1 :]}"


def lookalikes(word: str, chance: Random) -> str:
    """Letters of another alphabet in place of Latin ones, which nobody sees."""
    return word.translate(LOOKALIKES)


def invisible(word: str, chance: Random) -> str:
    """A space of no width inside."""
    i = chance.randrange(1, len(word)) if len(word) > 1 else 1
    return f"{word[:i]}\u200b{word[i:]}"


WORDS: dict[str, Change] = {
    "typos": typos, "leet": leet, "spaced": spaced, "repeated": repeated, "starred": starred,
    "lookalikes": lookalikes, "invisible": invisible,
}  # fmt: skip


def in_words(change: Change, words: Sequence[str] = ()) -> Change:
    """A change of words in a text: wherever one of `words` stands, or without them one word in ONE_IN."""
    pattern = WORD if not words else _pattern(_with_capitals({word: word for word in words}))

    def changed(text: str, chance: Random) -> str:
        found = [match.span() for match in pattern.finditer(text) if words or not UNSPACED.search(match.group())]
        chosen = found if words else chance.sample(found, min(len(found), 1 + len(found) // ONE_IN))
        for begin, end in sorted(chosen, reverse=True):
            text = text[:begin] + change(text[begin:end], chance) + text[end:]
        return text

    return changed


def add(phrases: Sequence[str], at_end: bool) -> Change:
    """One of the phrases before or behind the text."""

    def changed(text: str, chance: Random) -> str:
        phrase = chance.choice(list(phrases))
        between = "" if UNSPACED.search(phrase) else " "
        return f"{text}{between}{phrase}" if at_end else f"{phrase}{between}{text}"

    return changed


def swap(words: Sequence[str]) -> Change:
    """Each of the words becomes another one, in all texts of a row the same."""

    def decide(text: str, chance: Random) -> Callable[[str], str]:
        shift = chance.randrange(1, len(words))
        others = replace(dict(zip(words, [*words[shift:], *words[:shift]], strict=True)), both_ways=False)
        return lambda part: others(part, chance)

    return Drawn(decide)


def replace(pairs: Mapping[str, str], both_ways: bool = True) -> Change:
    """Words and phrases become the others of their pairs, whichever of the two stands in the text."""
    table = {other: one for one, other in pairs.items()} | dict(pairs) if both_ways else dict(pairs)
    table = _with_capitals(table)
    pattern = _pattern(table)

    def changed(text: str, chance: Random) -> str:
        return pattern.sub(lambda match: table[match.group()], text)

    return changed


def _with_capitals(table: Mapping[str, str]) -> dict[str, str]:
    """The same also where a sentence begins with a word."""
    return {_capital(one): _capital(other) for one, other in table.items()} | dict(table)


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Any of the words, the longest first; whole words in writing with spaces."""
    whole = (re.escape(word) if UNSPACED.search(word) else rf"(?<!\w){re.escape(word)}(?!\w)" for word in words)
    return re.compile("|".join(sorted(whole, key=len, reverse=True)))


def sparing(change: Change, kept: Sequence[str]) -> Change:
    """A change that leaves parts of a text as they are, such as placeholders of what is redacted."""
    if not kept:
        return change
    pattern = re.compile(f"({'|'.join(map(re.escape, kept))})")

    def changed(text: str, chance: Random) -> str:
        parts = pattern.split(text)
        decided = change.decide("".join(parts[::2]), chance) if isinstance(change, Drawn) else None
        for i, part in enumerate(parts):
            if i % 2 == 0 and part.strip():
                parts[i] = decided(part) if decided else change(part, chance)
        return "".join(parts)

    return changed


def changed_rows(rows: Iterable[Texts], change: Change, seed: str) -> list[Texts]:
    """The rows with their texts changed. Row and seed decide the random numbers, of each text of a row the same: a name
    becomes the same in both texts of a pair."""
    return [tuple(change(text, Random(f"{seed} {number}")) for text in row) for number, row in enumerate(rows)]
