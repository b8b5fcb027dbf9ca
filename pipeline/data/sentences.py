"""A paragraph to its sentences, by rule: English and Chinese end marks, in time linear in the text.

The rules would rather leave two sentences together than cut one: an end mark ends no sentence before a small letter,
after a title or an initial, or within a number or an address. A paragraph without any capital is taken as text that
was lower-cased, and there small letters tell nothing.
"""

import re

# One or more end marks, then the quotes and brackets that close with the sentence. A mark as Chinese writes it ends a
# sentence without a space after it; so does "!" or "?" right before an ideograph.
_END = re.compile(r"""([.!?…。！？；｡]+)(["'”’»)\]}」』）】》〉]*)""")
_WIDE = frozenset("。！？；｡")
_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]")
# Space and opening quotes or brackets before the next sentence; then its first word.
_GAP = re.compile(r"""(\s*)["'“‘«(\[{「『（【《〈`_*-]*\s*""")
_WORD = re.compile(r"[^\W\d_]+(?![\w.])")
_LAST_WORD = re.compile(r"(?:[^\W_]|[.&-])+$")
_LONGEST_WORD = 24


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# After these the sentence goes on, whatever follows.
_NEVER = _set(
    "mr mrs ms messrs dr prof rev fr sr hon gen col maj capt cpt cmdr lt sgt cpl adm gov sen rep pres supt st mt ft "
    "e.g i.e eg ie cf vs viz al approx ca dept univ assn bros mme mlle"
)
# After these it goes on before a number ("No. 5", "Jan. 3").
_BEFORE_NUMBERS = _set(
    "no nos vol vols fig figs pp p sec eq ch art op jan feb mar apr jun jul aug sep sept oct nov dec"
)
# These may end a sentence or not: they do before a word with which sentences begin.
_EITHER = _set("inc ltd co corp jr etc esq ave blvd rd a.m p.m ph.d b.a m.a u.s u.k u.n d.c a.d b.c")
_BEGINNERS = _set(
    "the a an this that these those there then he she it they we you i his her its their our my your in on at by for "
    "from with as if when while after before but and so or yet however what who where why how no not all some many "
    "most one"
)


def split_sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, stripped, none empty; joined, they have all its characters but outer spaces.

    Text without end marks is one sentence, whatever its length.
    """
    lowered = paragraph == paragraph.lower()
    sentences, start = [], 0
    for match in _END.finditer(paragraph):
        if _ends(paragraph, match, start, lowered):
            sentences.append(paragraph[start : match.end()].strip())
            start = match.end()
    sentences.append(paragraph[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _ends(text: str, match: re.Match, start: int, lowered: bool) -> bool:
    """Whether a sentence that began at `start` ends with the end marks of a match."""
    marks, closers = match.groups()
    end = match.end()
    if end == len(text):
        return True
    if not _WIDE.isdisjoint(marks) or (marks[-1] in "!?…" and _IDEOGRAPH.match(text, end)):
        return text[end] not in "，、,：:；;—"
    gap = _GAP.match(text, end)
    assert gap is not None, "the pattern matches any text"
    if not gap.group(1):
        return False  # 3.14, example.org, end.Next
    if gap.end() == len(text):
        return True
    following = text[gap.end()]
    if following in ",;:)" or (following.islower() and not lowered):
        return False
    if marks != ".":
        return True
    before = _LAST_WORD.search(text, max(start, match.start() - _LONGEST_WORD), match.start())
    if before is None:
        return True
    if match.start() - start < _LONGEST_WORD and text[start : match.start()].strip(" \t\"'“‘([").isdigit():
        return False  # the number of an item: "2. Then"
    word = before.group().rstrip(".").lower()
    if word in _BEFORE_NUMBERS and following.isdigit():
        return False
    if closers:
        return True
    if word in _NEVER:
        return False
    initial = before.group()[-1].isalpha() and (len(word) == 1 or word[-2] == ".")
    if initial or word in _EITHER:
        beginner = _WORD.match(text, gap.end())
        return beginner is not None and beginner.group().lower() in _BEGINNERS
    return True
