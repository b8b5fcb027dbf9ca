"""MediaWiki's markup taken off a page: its paragraphs as they are read, roughly; in time linear in the text."""

import html
import re

# What is not prose, with all that it holds.
_LEFT_OUT = (
    "ref|math|chem|gallery|timeline|source|syntaxhighlight|score|hiero|imagemap|graph|mapframe|maplink|table|pre|code|"
    "templatestyles|includeonly|references"
)
_ELEMENTS = re.compile(rf"<(/?)({_LEFT_OUT})\b[^<>]*?(/?)>", re.IGNORECASE)
_COMMENTS = re.compile(r"(<!--)|-->")
_TEMPLATES = re.compile(r"(\{\{)|\}\}")
_TABLES = re.compile(r"^[ \t:*]*(\{\|)|^[ \t:*]*\|\}", re.MULTILINE)
_LINK_MARKS = re.compile(r"\[\[|\]\]")
_EXTERNAL = re.compile(r"\[(?:[a-z]+:)?//[^\s\[\]]*[ \t]*([^\[\]\n]*)\]", re.IGNORECASE)
_BREAK = re.compile(r"<br\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_QUOTES = re.compile(r"'{2,}")
_SWITCH = re.compile(r"__[A-Z]{3,}__")
_LIST_MARKS = re.compile(r"^[*#:;]+[ \t]*")
_HEADING = re.compile(r"={1,6}[^=].*=")
# What is left of a pronunciation or a date that was a template.
_EMPTY_BRACKETS = re.compile(r"[ \t]?\([\s,;:]*\)")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]+)*:")


def plain_text(wikitext: str, unseen: frozenset[str] = frozenset({"file", "image", "category"})) -> str:
    """Paragraphs, a line each; without templates, tables, references, pictures, formulas and headings.

    Args:
        wikitext: of a page.
        unseen: namespaces, in small letters, whose links show no text.
    """
    text = _without_elements(_without(wikitext, _COMMENTS))
    text = _without(_without(text, _TEMPLATES), _TABLES)
    text = _EXTERNAL.sub(r"\1", _with_links_read(text, unseen))
    text = _TAG.sub("", _BREAK.sub(" ", text))
    text = _QUOTES.sub("", _SWITCH.sub("", text))
    text = _EMPTY_BRACKETS.sub("", html.unescape(text).replace("\xa0", " "))
    lines = (_LIST_MARKS.sub("", line.strip()) for line in text.splitlines())
    return "\n".join(line for line in lines if line.strip("-|} ") and not _HEADING.fullmatch(line))


def _without(text: str, marks: re.Pattern) -> str:
    """A text without what stands between two marks and them; one may stand in another. The first mark is a group."""
    kept, depth, start, end = [], 0, 0, 0
    for mark in marks.finditer(text):
        if mark[1]:
            if not depth:
                kept.append(text[end : mark.start()])
                start = mark.end()
            depth += 1
        elif depth:
            depth -= 1
            end = mark.end()
    # What is never closed loses its mark alone.
    return "".join(kept) + text[start if depth else end :]


def _without_elements(text: str) -> str:
    kept, inside, start, end = [], None, 0, 0
    for tag in _ELEMENTS.finditer(text):
        closing, name, alone = tag[1], tag[2].lower(), tag[3]
        if inside is None:
            kept.append(text[end : tag.start()])
            start = end = tag.end()
            if not closing and not alone:
                inside = name
        elif closing and name == inside:
            inside, end = None, tag.end()
    return "".join(kept) + text[start if inside else end :]


def _with_links_read(text: str, unseen: frozenset[str]) -> str:
    """Links as they are shown; a picture's caption may have links of its own."""
    open_links: list[list[str]] = [[]]
    end = 0
    for mark in _LINK_MARKS.finditer(text):
        open_links[-1].append(text[end : mark.start()])
        end = mark.end()
        if mark[0] == "[[":
            open_links.append([])
        elif len(open_links) > 1:
            link = "".join(open_links.pop())
            open_links[-1].append(_shown(link, unseen))
    return "".join(part for link in open_links for part in link) + text[end:]


def _shown(link: str, unseen: frozenset[str]) -> str:
    target, *shown = link.split("|")
    namespace, colon, _ = target.partition(":")
    # Only files have more than one bar, whatever a wiki calls them.
    if len(shown) > 1 or (colon and namespace.strip().lower() in unseen):
        return ""
    if not shown:
        return "" if _LANGUAGE.match(target) else target.removeprefix(":")
    return shown[0] or target.partition("(")[0].rpartition(":")[2].strip()
