"""Which documents of a corpus are left out by named rules: their language, and published rules of quality.

Rules and bounds are those of Gopher (Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from
Training Gopher", section A1.1 and table A1) and C4 (Raffel et al. 2020, "Exploring the Limits of Transfer Learning",
section 2.2, as tensorflow_datasets/text/c4_utils.py has it). They were made for English; a rule that counts words is of
no use for text without spaces. C4 takes lines out of pages, which no rule here does: a document stays whole or goes.
"""

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

from pipeline.data.cell_values import number_of
from pipeline.data.sentences import split_sentences
from pipeline.errors import UserError
from pipeline.extras import require

# Characters that a language is told by.
READ = 1 << 13
_STOP_WORDS = frozenset(["the", "be", "to", "of", "and", "that", "have", "with"])
_POLICY = re.compile("terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies|javascript")
_ELLIPSIS = re.compile(r"\.\.\.|…")
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")


class Text:
    """A document as rules look at it."""

    def __init__(self, paragraphs: list[str]):
        self.lines = paragraphs

    @cached_property
    def text(self) -> str:
        return "\n".join(self.lines)

    @cached_property
    def words(self) -> list[str]:
        return self.text.split()

    def grams(self, size: int) -> list[str]:
        return [" ".join(self.words[start : start + size]) for start in range(len(self.words) - size + 1)]

    def of_words(self, count: float) -> float:
        return count / max(len(self.words), 1)

    def of_lines(self, tells: Callable[[str], bool]) -> float:
        return sum(map(tells, self.lines)) / len(self.lines)


def _repeated(items: list[str]) -> list[str]:
    met: set[str] = set()
    return [item for item in items if item in met or met.add(item)]


def _commonest(size: int, document: Text) -> float:
    """Share of the characters that lie in the commonest n-gram that is met more than once."""
    gram, count = next(iter(Counter(document.grams(size)).most_common(1)), ("", 0))
    return count * len(gram) / len(document.text) if count > 1 else 0


def _in_repeated(size: int, document: Text) -> float:
    """Share of the characters of words that lie in n-grams met before, each counted once."""
    words, met = document.words, set()
    inside = [False] * len(words)
    for start, gram in enumerate(document.grams(size)):
        if gram in met:
            inside[start : start + size] = [True] * size
        met.add(gram)
    return sum(len(word) for word, repeated in zip(words, inside, strict=True) if repeated) / len(document.text)


def _ends_open(line: str) -> bool:
    return line.rstrip().endswith(("...", "…"))


def _c4_sentences(document: Text) -> int:
    """Sentences of the lines that C4 keeps: ended by a mark, of five words or more, nothing of cookies or scripts."""
    found = 0
    for line in document.lines:
        line = _CITATION.sub("", line)
        words = line.split()
        ended = line.endswith((".", "?", "!", '"')) and not line.endswith("...")
        if ended and len(words) >= 5 and len(max(words, key=len)) <= 1000 and not _POLICY.search(line.lower()):
            found += len(split_sentences(line))
    return found


@dataclass(frozen=True)
class Rule:
    """A number of a document, and its bound: least or most, as the rule's name begins with min_ or max_."""

    source: str
    bound: float
    measure: Callable[[Text], float]


RULES = {
    "min_words": Rule("gopher", 50, lambda document: len(document.words)),
    "max_words": Rule("gopher", 100_000, lambda document: len(document.words)),
    "min_word_length": Rule("gopher", 3, lambda document: document.of_words(sum(map(len, document.words)))),
    "max_word_length": Rule("gopher", 10, lambda document: document.of_words(sum(map(len, document.words)))),
    "max_hashes": Rule("gopher", 0.1, lambda document: document.of_words(document.text.count("#"))),
    "max_ellipses": Rule("gopher", 0.1, lambda document: document.of_words(len(_ELLIPSIS.findall(document.text)))),
    "max_bullet_lines": Rule("gopher", 0.9, lambda document: document.of_lines(lambda line: line[:1] in "•-*")),
    "max_open_lines": Rule("gopher", 0.3, lambda document: document.of_lines(_ends_open)),
    "min_words_with_letters": Rule("gopher", 0.8, lambda document: document.of_words(
        sum(any(map(str.isalpha, word)) for word in document.words))),
    "min_stop_words": Rule("gopher", 2, lambda document: len(_STOP_WORDS.intersection(map(str.lower, document.words)))),
    "max_repeated_lines": Rule("gopher", 0.3, lambda document: len(_repeated(document.lines)) / len(document.lines)),
    "max_repeated_line_characters": Rule("gopher", 0.2, lambda document: sum(
        map(len, _repeated(document.lines))) / len(document.text)),
    **{f"max_commonest_{size}gram": Rule("gopher", bound, partial(_commonest, size))
       for size, bound in ((2, 0.20), (3, 0.18), (4, 0.16))},
    **{f"max_repeated_{size}grams": Rule("gopher", bound, partial(_in_repeated, size))
       for size, bound in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))},
    "min_sentences": Rule("c4", 3, _c4_sentences),
    "max_lorem_ipsum": Rule("c4", 0, lambda document: document.text.lower().count("lorem ipsum")),
    "max_curly_brackets": Rule("c4", 0, lambda document: document.text.count("{")),
}  # fmt: skip
SOURCES = sorted({rule.source for rule in RULES.values()})


@dataclass(frozen=True)
class Filters:
    """What corpus.languages and corpus.quality ask for.

    Attributes:
        languages: codes of those to keep; none: all.
        bounds: rules with their bounds.
    """

    languages: tuple[str, ...] = ()
    bounds: tuple[tuple[str, float], ...] = ()

    def __call__(self, paragraphs: list[str]) -> str | None:
        """The first rule that leaves a document out; None: it stays."""
        document = Text(paragraphs)
        for name, bound in self.bounds:
            found = RULES[name].measure(document)
            if found < bound if name.startswith("min_") else found > bound:
                return name
        if self.languages and _identifier().classify(document.text[:READ])[0] not in self.languages:
            return "languages"
        return None


def filters_of(languages: list[str], quality: list[str]) -> Filters | None:
    """The filters that settings ask for; None: there are none.

    Args:
        languages: corpus.languages.
        quality: corpus.quality: names of sources, which stand for all their rules, rules, and rules with bounds; of
            two bounds of a rule the later one holds.

    Raises:
        UserError: an unknown rule or language, or a bound that is no number.
    """
    bounds: dict[str, float] = {}
    for item in quality:
        name, sign, value = item.partition("=")
        if name in SOURCES and not sign:
            bounds |= {rule: known.bound for rule, known in RULES.items() if known.source == name}
        elif name not in RULES:
            raise UserError(f"corpus.quality {item!r}: give {', '.join(SOURCES)} or one of {', '.join(RULES)}, "
                            "with =NUMBER behind for another bound.")  # fmt: skip
        else:
            bound = number_of(value) if sign else RULES[name].bound
            if bound is None or not math.isfinite(bound):
                raise UserError(f"corpus.quality {item!r}: {value!r} is no number.")
            bounds[name] = bound
    known = set(_identifier().labels) if languages else set()
    for code in languages:
        if code not in known:
            raise UserError(f"corpus.languages {code!r}: it is one of {', '.join(sorted(known))}.")
    return Filters(tuple(languages), tuple(bounds.items())) if languages or bounds else None


@lru_cache(1)
def _identifier() -> Any:
    """Of 139 languages, by py3langid's model, which its wheel holds."""
    langid = require("languages", "py3langid.langid")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
