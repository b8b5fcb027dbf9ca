"""Wikipedia as it is passed round: MediaWiki's XML dumps, and what WikiExtractor makes of them."""

import html
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

from pipeline.data.formats.file import File
from pipeline.data.formats.jsonl import read_jsonl
from pipeline.data.formats.options import keeps_ascii
from pipeline.data.formats.wikitext import plain_text
from pipeline.errors import UserError

# Bytes of a first line that may be JSON; no article is longer.
LONGEST_LINE = 1 << 24
_DOC = re.compile(r'<doc (?=.*\bid=")(.*)>\s*$')
# Quotation marks within a title are not escaped.
_ATTRIBUTE = re.compile(r'(\w+)="(.*?)"(?=\s+\w+="|\s*$)')
_DUMP = re.compile(rb"(?:<\?xml[^>]*\?>\s*)?(?:<!--(?:(?!-->).)*-->\s*)*<mediawiki[\s>]", re.DOTALL)
_EXTRACTED = {"id", "url", "title", "text"}
# Namespaces of a dump: pages of text, then those whose links show nothing (media, files, categories).
_ARTICLES, _UNSEEN = "0", ("-2", "6", "14")


def told_by_first_lines(file: File, column: str | None) -> str | None:
    """The format that the first lines of a text file say, None where they say nothing.

    Args:
        file: opened.
        column: jsonl is a file whose first line is an object with this key; None: it is not told.
    """
    if not keeps_ascii(file.options.encoding):
        return None
    start = file.start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if _DUMP.match(start):
        return "mediawiki"
    if _DOC.match(start.partition(b"\n")[0].decode(errors="replace")):
        return "wiki_doc"
    if not start.startswith(b"{"):
        return None
    with file.open() as stream:
        line = next((line for line in iter(lambda: stream.readline(LONGEST_LINE), b"") if line.strip()), b"")
    try:
        record = json.loads(line.decode(file.options.encoding).removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    return "wiki_json" if record.keys() >= _EXTRACTED else "jsonl" if column in record else None


def read_wiki_json(file: File, wanted: list[str] | None) -> Iterator:
    """WikiExtractor's output with --json: objects whose texts are escaped as in HTML."""
    rows = read_jsonl(file, wanted)
    yield next(rows)
    for number, cells in rows:
        if not isinstance(cells, str):
            cells = [html.unescape(cell) if isinstance(cell, str) else cell for cell in cells]
        yield number, cells


def read_wiki_doc(file: File, wanted: list[str] | None) -> Iterator:
    """WikiExtractor's output: <doc id="" url="" title="">, the title, the text, </doc>; escaped as in HTML.

    A row's number is the line of its <doc>. The title is no part of its text.
    """
    yield ["id", "url", "title", "text"]
    with file.lines() as lines:
        first, attributes, text = 0, {}, []
        for line in lines:
            line = line.strip()
            if problem := lines.take_problem():
                yield lines.number, problem
            elif first and line == "</doc>":
                yield first, _doc(attributes, text)
                first = 0
            elif first:
                text.append(html.unescape(line))
            elif match := _DOC.match(line):
                first, text = lines.number, []
                attributes = {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(match[1])}
            elif line:
                yield lines.number, "stands outside of <doc ...> and </doc>"
        if first:
            yield first, "begins a <doc> that no </doc> ends: the file is cut off"


def _doc(attributes: dict[str, str], text: list[str]) -> list[str | None]:
    title = attributes.get("title")
    if text and text[0] == title:
        text = text[1:]
    return [attributes.get("id"), attributes.get("url"), title, "\n".join(text).strip("\n")]


def read_mediawiki(file: File, wanted: list[str] | None) -> Iterator:
    """The articles of a dump (pages-articles.xml), without redirects; their text without markup.

    A row's number is that of its page in the dump.
    """
    yield ["id", "title", "text"]
    page, unseen = 0, {"file", "image", "category"}
    try:
        with file.open() as stream:
            events = ET.iterparse(stream, ("start", "end"))
            _, root = next(events)
            if _name(root) != "mediawiki":
                raise UserError(f"{file.name} is no MediaWiki dump: it begins with <{_name(root)}>.")
            for event, element in events:
                if event == "start":
                    continue
                if _name(element) == "namespace" and element.get("key") in _UNSEEN:
                    unseen.add((element.text or "").lower())
                if _name(element) != "page":
                    continue
                page += 1
                found = {_name(part): part.text or "" for part in element.iter()}
                root.clear()  # or all pages stay in memory
                if found.get("ns", _ARTICLES) == _ARTICLES and "redirect" not in found:
                    identity = element.findtext("{*}id")
                    yield page, [identity, found.get("title"), plain_text(found.get("text", ""), frozenset(unseen))]
    except ET.ParseError as error:
        raise UserError(f"{file.name}: the XML is damaged or cut off after page {page}: {error}.") from error


def _name(element: ET.Element) -> str:
    """Without the namespace, which changes with the version of the dump's form."""
    return element.tag.rpartition("}")[2]
