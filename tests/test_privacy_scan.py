"""python -m pipeline.privacy scan: what of persons is in a file."""

import io
import json
import sys
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.privacy.__main__ import main
from pipeline.privacy.names import _pieces
from pipeline.privacy.scan import NOT_SEEN, masked


def scanned(capsys, *words) -> list[str]:
    assert main(["scan", *map(str, words)]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "rows.csv"
    rows = ['"Mail a.b@example.com or 4111 1111 1111 1111",x@y.org', "nothing 1.2.3,me", "call 5551234567,a.b@c.de"]
    path.write_text("\n".join(["text,author", *rows]) + "\n")
    return path


def test_kinds_are_counted_by_column_and_examples_are_masked(table, capsys):
    assert scanned(capsys, table) == [
        "3 rows",
        "email: 3 in 2 rows (author 2, text 1)",
        "  a.*@*******.***",
        "  x@*.***",
        "  a.*@*.**",
        "card: 1 in 1 row (text 1)",
        "  4*** **** **** ****",
        "phone: 1 in 1 row (text 1)",
        "  5*********",
        NOT_SEEN,
    ]


def test_kinds_columns_examples_and_patterns_are_chosen(table, capsys):
    words = [
        "--kinds",
        "email",
        "--text_column",
        "text",
        "--examples",
        "0",
        "--pattern",
        "version=[0-9][.][0-9][.][0-9]",
    ]
    assert scanned(capsys, table, *words) == [
        "3 rows", "version: 1 in 1 row (text 1)", "email: 1 in 1 row (text 1)", NOT_SEEN,
    ]  # fmt: skip


def test_formats_of_all_kinds_are_read(tmp_path, capsys):
    rows = {"id": [4111111111111111, 2], "text": ["a", "b x@y.org"], "tags": [["z@y.org"], []]}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ("x@y.org", "b")))
    (tmp_path / "lines.txt").write_text("x@y.org and more\n\nno more\n")
    (tmp_path / "rows.txt").write_text("text\tlabel\nx@y.org\tb\n")
    (tmp_path / "folder" / "label").mkdir(parents=True)
    (tmp_path / "folder" / "label" / "1.txt").write_text("x@y.org")
    assert "card: 1 in 1 row (id 1)" in scanned(capsys, tmp_path / "rows.parquet")
    assert "email: 2 in 2 rows (tags 1, text 1)" in scanned(capsys, tmp_path / "rows.parquet")
    for name in ("rows.jsonl", "lines.txt", "rows.txt", "folder"):
        assert "email: 1 in 1 row (text 1)" in scanned(capsys, tmp_path / name), name


def test_standard_input_is_read(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x@y.org\nb\n")))
    assert scanned(capsys, "-")[:2] == ["2 rows", "email: 1 in 1 row (text 1)"]


def test_nothing_is_said_to_be_nothing(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("text\nplain\n")
    assert scanned(capsys, tmp_path / "a.csv") == ["1 row", "nothing was found of what was looked for", NOT_SEEN]


def test_rows_that_cannot_be_read_are_warned_of(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"text": "x@y.org"}\nbroken\n')
    assert main(["scan", str(tmp_path / "a.jsonl")]) == 0
    out, err = capsys.readouterr()
    assert "email: 1 in 1 row (text 1)" in out and "rows that cannot be read: 1" in err and "line 2" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone.csv"], "gone.csv: no such file."),
        (["{}", "--pattern", "Ticket=x"], "give NAME=RE2"),
        (["{}", "--pattern", "ticket=(?=x)"], "is no RE2 pattern"),
        (["{}", "--text_column", "body"], "has no column 'body'"),
    ],
)
def test_bad_input_is_one_sentence(table, capsys, words, said):
    assert main(["scan", *(word.format(table) for word in words)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and said in err and err.count("\n") == 1


def test_no_example_shows_more_than_its_first_letter():
    assert masked("4111 1111") == "4*** ****"
    assert masked("+49 (30) 12-34") == "+4* (**) **-**"
    assert masked("") == "" and masked("@-") == "@-"


def test_of_what_is_short_nothing_is_shown():
    assert [masked(text) for text in ("a@b", "漢字語", "王芳", "Bo", "x", "Élo")] == [
        "*@*", "***", "**", "**", "*", "***",
    ]  # fmt: skip
    assert masked("Anna") == "A***" and masked("欧阳娜娜") == "欧***"


def test_marks_of_letters_are_masked_with_them():
    assert masked("Re\u0301ne") == "R****" and masked("प्रिया") == "प*****"


def test_names_need_their_extra_and_a_model(table, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    assert main(["scan", str(table), "--names"]) == 2
    assert "this needs the extra names (spacy is not installed): pip install 'bert-pipeline[names]'" in (
        capsys.readouterr().err
    )
    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=no_model))
    assert main(["scan", str(table), "--names", "xx_none"]) == 2
    assert "--names xx_none is no model of spaCy's that is installed" in capsys.readouterr().err


def no_model(name):
    raise OSError(name)


def test_a_text_longer_than_a_model_takes_is_asked_in_pieces():
    text = "name " * 50_000
    pieces = _pieces(text)
    assert len(pieces) > 1 and max(map(len, pieces)) <= 100_000 and " ".join(pieces) == text.strip()
    assert _pieces("a  b") == ["a  b"]


def test_names_are_found_by_the_model_that_is_named(tmp_path, capsys, monkeypatch):
    """Of spaCy itself, where it is installed: a pipeline of one rule in a folder."""
    spacy = pytest.importorskip("spacy")
    model = spacy.blank("en")
    model.add_pipe("entity_ruler").add_patterns([
        {"label": "PERSON", "pattern": "Ada Lovelace"}, {"label": "GPE", "pattern": "London"},
        {"label": "ORG", "pattern": "Acme"},
    ])  # fmt: skip
    model.to_disk(tmp_path / "model")
    (tmp_path / "rows.csv").write_text("text,more\nAda Lovelace of Acme in London,\nx@y.org,\n")
    found = scanned(capsys, tmp_path / "rows.csv", "--names", tmp_path / "model")
    assert found[1:7] == [
        "person: 1 in 1 row (text 1)", "  A** ********", "place: 1 in 1 row (text 1)", "  L*****",
        "email: 1 in 1 row (text 1)", "  x@*.***",
    ]  # fmt: skip
    assert found[-1].startswith("Names are by the model") and "text.redact finds none" in found[-1]
