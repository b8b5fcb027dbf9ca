"""Wikipedia in the forms that it is passed round in, known by what the first lines say."""

import bz2
import gzip
import json
import time
import tracemalloc

import pytest

from pipeline.config import CorpusConfig
from pipeline.data.corpus import documents
from pipeline.data.formats import ReadOptions, open_table, opened
from pipeline.data.formats.wikitext import plain_text
from pipeline.errors import UserError

ARTICLES = [("12", "Cats", "A cat is small. It purrs.\nCats & dogs differ."), ("25", 'The "Dog"', "A dog barks.")]
EXPECTED = [["A cat is small.", "It purrs.", "Cats & dogs differ."], ["A dog barks."]]


def escaped(text):
    return text.replace("&", "&amp;")


def extracted(as_json):
    if as_json:
        names = ("id", "title", "text")
        rows = [dict(zip(names, row, strict=True)) | {"revid": "1", "url": "https://x"} for row in ARTICLES]
        return "".join(json.dumps({**row, "text": escaped(row["text"])}) + "\n" for row in rows)
    return "".join(
        f'<doc id="{number}" url="https://x?curid={number}" title="{title}">\n{title}\n\n{escaped(text)}\n\n</doc>\n'
        for number, title, text in ARTICLES
    )


def page(title, text, ns=0, more=""):
    text = escaped(text).replace("<", "&lt;")
    return (
        f"<page><title>{title}</title><ns>{ns}</ns><id>{len(title)}</id>{more}"
        f"<revision><id>9</id><text xml:space='preserve'>{text}</text></revision></page>\n"
    )


def dump(*pages):
    return (
        '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="de">\n<siteinfo>'
        '<namespaces><namespace key="6">Datei</namespace><namespace key="14">Kategorie</namespace></namespaces>'
        f"</siteinfo>\n{''.join(pages)}</mediawiki>\n"
    )


PAGES = [
    page("Cats", "A '''cat''' is [[size|small]]. It purrs.{{cite}}\n\n== More ==\nCats & [[dog]]s differ."),
    page("Cat", "#REDIRECT [[Cats]]", more='<redirect title="Cats" />'),
    page("Talk:Cats", "I like cats.", ns=1),
    page("Dog", "[[Datei:Dog.jpg|thumb]]A dog barks.[[Kategorie:Dogs]]"),
]


def read(source, **settings):
    return list(documents(str(source), CorpusConfig(**settings)))


def write(path, content, pack=bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pack(content.encode()))
    return path


@pytest.mark.parametrize("name", ["AA/wiki_00", "wiki_00.bz2", "wiki.txt", "wiki.jsonl", "wiki.json.gz", "w.xml"])
@pytest.mark.parametrize("content", [extracted(False), extracted(True), dump(*PAGES)], ids=["doc", "json", "dump"])
def test_first_lines_tell_whatever_the_name(tmp_path, name, content):
    pack = {"2": bz2.compress, "z": gzip.compress}.get(name[-1], bytes)
    assert read(write(tmp_path / name, content, pack)) == EXPECTED


@pytest.mark.parametrize("before", ["\ufeff", "<?xml version='1.0' encoding='utf-8'?>\n<!-- of -today- -->\n", "\n"])
def test_what_may_stand_before(tmp_path, before):
    kinds = [dump(*PAGES)] if "xml" in before else [extracted(False), extracted(True)]
    for content in kinds:
        assert read(write(tmp_path / "a", before + content)) == EXPECTED


def test_a_folder_of_wikiextractor(tmp_path):
    write(tmp_path / "AA" / "wiki_00", extracted(False))
    write(tmp_path / "AA" / "wiki_01.bz2", extracted(True), bz2.compress)
    with open(tmp_path / "AB.txt.zst", "wb") as file, opened(file, ".zst", "wb") as packed:
        packed.write(extracted(False).encode())
    write(tmp_path / "AA" / "notes", "No text of Wikipedia.")
    assert read(tmp_path) == EXPECTED * 3


def test_other_json_lines_are_told_by_their_column(tmp_path):
    path = write(tmp_path / "part-00000", '{"body": "One. Two."}\n{"body": "Three &amp; four."}\n')
    assert read(path, text_column="body") == [["One.", "Two."], ["Three &amp; four."]]
    # Text of another kind that begins with a bracket, or a word for one.
    for text in ('{"title": "One."}', "{One.", "<document>One.", "<doc>One.", "<mediawikis>One."):
        assert read(write(path, text + "\n")) == [[text]]
    assert read(write(path, extracted(True)), format="text")[0][0].startswith('{"id"')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (extracted(False) + "loose text\n", "line 14: the row stands outside of <doc"),
        (extracted(False)[:-8], "line 8: the row begins a <doc> that no </doc> ends: the file is cut off"),
        (dump(*PAGES)[:-50], r"the XML is damaged or cut off after page 3: .*line"),
        (dump(page("A", "x") + "<page><title>&nothing;</title></page>"), "damaged or cut off after page 1: undefined"),
        ('{"id": 1, "url": "", "title": "", "text": 5}\n', "line 1: the row has a int where text is expected"),
    ],
)
def test_damage_is_one_sentence_with_its_place(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read(write(tmp_path / "wiki_00", content))


def test_formats_can_be_named_and_give_their_columns(tmp_path):
    rows = {}
    for kind, content in (("wiki_doc", extracted(False)), ("mediawiki", dump(*PAGES))):
        table = open_table(str(write(tmp_path / kind, content)), ReadOptions(kind))
        rows[kind] = [dict(zip(table.columns, cells, strict=True)) for _, cells in table]
        assert [row["text"] for row in rows[kind]] == [text for _, _, text in ARTICLES]
    found = {
        "id": "25",
        "url": "https://x?curid=25",
        "title": 'The "Dog"',
        "text": "A dog barks.",
    }
    assert rows["wiki_doc"][1] == found
    assert rows["mediawiki"][0]["title"] == "Cats" and rows["mediawiki"][0]["id"] == "4"
    with pytest.raises(UserError, match="is no MediaWiki dump: it begins with <html>"):
        list(open_table(str(write(tmp_path / "a", "<html></html>")), ReadOptions("mediawiki")))


def test_a_dump_is_read_in_little_memory(tmp_path):
    path = write(tmp_path / "wiki", dump(*[page(f"P{i}", "Some words. " * 1000) for i in range(200)]))
    assert path.stat().st_size > 2_400_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in documents(str(path), CorpusConfig(), split=False)) == 200
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("'''Bold''' and ''slanted'', l'''amour'''.", "Bold and slanted, lamour."),
        ("[[A]], [[b|B]], [[Paris (Texas)|]], [[:Category:C]], [[de:Katze]]", "A, B, Paris, Category:C, "),
        ("a[[File:x.jpg|thumb|A [[cat]] and a [[dog|d]]]]b[[Category:Cats]]c [[image:a.png]]", "abc"),
        ("[https://x.org/a?b=c The site], [//y.org plain] [http://z.org]!", "The site, plain !"),
        ("a{{t|{{u|x}}|1}}b", "ab"),
        ("one\n{| class='x'\n! h\n|-\n| {|\n| inner\n|}\n|}\ntwo", "one\ntwo"),
        ('x<ref>R</ref>y<ref name="a"/>z<ref name=b>{{c}}</ref>.<references/>', "xyz."),
        ("<!-- c -->a<br/>b<small>c</small> <math>x<y</math>&nbsp;&lt;tag&gt; &amp;amp;", "a bc  <tag> &amp;"),
        ("== Heading ==\n* one\n** two\n# three\n:four\n----\n=no", "one\ntwo\nthree\nfour\n=no"),
        ("Rome ({{lang|it|Roma}}; {{IPA|x}}) is __NOTOC__ old.", "Rome is  old."),
        # What is never closed loses no text but its mark.
        ("a {{b c", "a b c"), ("a [[b c", "a b c"), ("a ]] }} b", "a  }} b"), ("a <ref>b", "a b"),
        ("a <!-- b", "a  b"),
    ],
)  # fmt: skip
def test_markup_is_taken_off(wikitext, text):
    assert plain_text(wikitext) == text.strip()


@pytest.mark.parametrize(
    "part", ["{{", "[[", "<ref>", "<!--", "{|\n", "[http://x ", "'''", "<a ", "(", "[[a|", "[//", "}}", "==", "<br "]
)
def test_time_is_linear(part):
    def seconds(count):
        start = time.process_time()
        plain_text(part * count)
        return time.process_time() - start

    # The best of three: what else the machine does is no work of ours.
    many, few = (min(seconds(count) for _ in range(3)) for count in (20_000, 2_000))
    assert many < 25 * few + 0.5
