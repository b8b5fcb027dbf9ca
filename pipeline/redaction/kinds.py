"""The kinds of what is redacted, and what a model's settings say of it. No TensorFlow."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from pipeline.redaction import accounts, dates, identities, others, phones, web, wide
from pipeline.redaction.separators import separated

# Raise it when something else is found: rows that are kept redacted are then redacted anew.
RULES = 3
# Four digits, as far apart as a telephone number's may be.
_DIGITS = r"\d.{0,4}\d.{0,4}\d.{0,4}\d"


@dataclass(frozen=True)
class Kind:
    """What one kind looks like, as RE2 patterns.

    Args:
        shapes: one of which a candidate matches from its first to its last byte.
        sign: what is somewhere in every candidate, and looked for in little time.
        digits: what the candidate's ASCII letters and digits, in capitals, match alone; "": anything.
        checksum: name of a function of checksums.py that these pass; None: there is none.
        longer: what is looked for before all others, for one of their shapes is a part of it; "": there is none.
        context: what stands before it and is left, and a further shape that it has only there; None: there is none.

    But for addresses, which have none, spaces and hyphens of all patterns may be other ones (see separators.py).
    """

    shapes: tuple[str, ...]
    sign: str = _DIGITS
    digits: str = ""
    checksum: str | None = None
    longer: str = ""
    context: tuple[str, str] | None = None


def _written(kind: Kind) -> Kind:
    """The same with other spaces and hyphens between its parts too."""
    context = kind.context and (separated(kind.context[0]), separated(kind.context[1]))
    shapes = tuple(map(separated, kind.shapes))
    return replace(kind, shapes=shapes, longer=separated(kind.longer), context=context)


# In the order in which a candidate is held against them.
KINDS = {
    "url": Kind((web.URL,), r"://|[wW]\."),
    "email": Kind((web.EMAIL,), "@"),
    "iban": _written(Kind(accounts.IBAN, r"(?i:[a-z]{2})\d\d", checksum="iban")),
    "id_cn": Kind((identities.ID_CN,), checksum="id_cn"),
    "card": _written(
        Kind((*accounts.CARD, accounts.CARD_19), digits=accounts.CARD_DIGITS, checksum="luhn", longer=accounts.FIRST)
    ),
    "ip": Kind((web.IPV4, *web.IPV6), rf"{_DIGITS}|:[0-9A-Fa-f]{{0,4}}:"),
    "id_us": _written(Kind(identities.ID_US, digits=identities.ID_US_DIGITS, context=identities.ID_US_CONTEXT)),
    "date": _written(Kind(dates.DATE)),
    "phone": _written(Kind(phones.PHONE, digits=phones.PHONE_DIGITS, context=phones.PHONE_CONTEXT)),
}

# These may hold what others are looking for, and are not looked for unless they are asked for.
WIDE = ("url", "email")
# All shapes, asked for or not, in the order in which RE2 tries them at a place, but for those that may hold others.
_CANDIDATES = tuple(map(separated, (
    *others.FIRST, *accounts.IBAN, identities.ID_CN, *phones.FOURS, *accounts.CARD, *web.IPV6, web.IPV4,
    *phones.INTERNATIONAL, *phones.PAIRS, *others.DOTTED, *dates.DATE, *identities.ID_US, *others.LONG,
    *phones.NATIONAL, *others.LAST,
)))  # fmt: skip
# Where a word before a number says what it is, these are none all the same; and chains of many digits.
NO_CONTEXT = separated(
    "|".join((r"(?:\d[^\d]?){14,}", *others.FIRST, *accounts.IBAN, *accounts.CARD[:-1], *dates.DATE, web.IPV4))
)
NAME = re.compile("[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Redaction:
    """What of a text is replaced before it becomes tokens.

    Args:
        kinds: names of KINDS.
        patterns: names and RE2 patterns of one's own, which are found before all kinds, in this order.
    """

    kinds: tuple[str, ...] = ()
    patterns: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.kinds or self.patterns)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all that is replaced; a candidate that several would take is the first's."""
        return (*(name for name, _ in self.patterns), *(name for name in KINDS if name in self.kinds))

    @property
    def placeholders(self) -> tuple[str, ...]:
        """What stands in the text in place of each of `names`."""
        return tuple(map(placeholder, self.names))

    @property
    def candidates(self) -> str:
        """An RE2 pattern of all that may be one of the kinds, and of what may be taken for one but is none."""
        wide = [shape for name in WIDE if name in self.kinds for shape in KINDS[name].shapes]
        return "|".join((self.settled, *wide, *_CANDIDATES))

    @property
    def signs(self) -> tuple[str, ...]:
        """RE2 patterns of which one at least matches somewhere in a text that anything is replaced in."""
        signs = dict.fromkeys(KINDS[name].sign for name in self.kinds)
        kinds = ("|".join((*signs, f"[{wide.DIGITS}]")),) if signs else ()
        # Own patterns stay apart: two of them may have a group of one name.
        return (*(pattern for _, pattern in self.patterns), *kinds)

    @property
    def unsettling(self) -> str:
        """An RE2 pattern of what is in a text in which, after a search, there may be more to find."""
        words = (f"\\[{name.upper()}\\]" for name in self.kinds if KINDS[name].context)
        return "|".join((f"[{wide.DIGITS}]", *words))

    @property
    def rehearsal(self) -> str:
        """A text that has all kinds looked for, though it holds nothing of them; "" where there are none."""
        # A placeholder, a sign of all that is read in full width, and one of nothing.
        return f"{self.placeholders[0]} \uff10" if self.kinds else ""

    @property
    def settled(self) -> str:
        """An RE2 pattern of the placeholders, which nothing takes a part of."""
        return "|".join(f"\\[{name.upper()}\\]" for name in self.names)

    def metadata(self) -> dict[str, Any]:
        """JSON-able; {} where nothing is redacted."""
        found = {"kinds": list(self.kinds), "patterns": [list(pair) for pair in self.patterns]}
        return {key: value for key, value in found.items() if value}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Self:
        """The inverse of `metadata`."""
        return cls.of(metadata.get("kinds", ()), dict(metadata.get("patterns", ())))

    @classmethod
    def of(cls, kinds: Sequence[str], patterns: Mapping[str, str] | None = None) -> Self:
        """Of settings; the order of the kinds makes no difference."""
        return cls(tuple(name for name in KINDS if name in kinds), tuple((patterns or {}).items()))


NOTHING = Redaction()


def placeholder(name: str) -> str:
    """What stands in a text in place of a kind."""
    return f"[{name.upper()}]"


def pattern_fault(pattern: str) -> str | None:
    """What keeps a pattern of one's own from being used, as the end of a sentence; None: nothing."""
    # RE2 without TensorFlow; it takes a while to import.
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        # By itself, and among others, where a \Q that does not end would swallow them.
        found = [
            pc.match_substring_regex(pa.array([""]), pattern=tried)[0].as_py()  # pyright: ignore
            for tried in (pattern, f"(?:{pattern})")
        ]
    except pa.ArrowInvalid as error:
        return f"is no RE2 pattern ({error})"
    return "matches the empty text, which is everywhere" if any(found) else None
