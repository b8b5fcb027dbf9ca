"""Files of every format: what is read, what is written, and the sentence where neither can be."""

import bz2
import gzip
import io
import json
import lzma
import re
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from time import process_time

import openpyxl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from pipeline.config import DataConfig
from pipeline.data.formats import FORMATS, Nothing, Notices, ReadOptions, compression, open_table, opened
from pipeline.data.load import load
from pipeline.errors import UserError

ROWS = [["1", "a goal"], ["2", 'say "NA", or null'], ["3", "中国 é"]]
TABLE = pa.table({"id": [row[0] for row in ROWS], " text ": [row[1] for row in ROWS]})


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read(source, wanted=None, notices=None, **options):
    """Columns, and cells or what is wrong, without lines that are no rows."""
    table = open_table(source, ReadOptions(**options), wanted, notices)
    return table.columns, [cells for _, cells in table if not isinstance(cells, Nothing)]


def workbook(path, rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return str(path)


def files(folder):
    """ROWS in all formats but TFRecord, which test_data.py has."""
    lines = [json.dumps(dict(zip(("id", "text"), row, strict=True))) for row in ROWS]
    yield write(folder / "a.tsv", "id\t text \n" + "".join("\t".join(row) + "\n" for row in ROWS))
    cells = "".join('{},"{}"\n'.format(i, text.replace('"', '""')) for i, text in ROWS)
    yield write(folder / "a.csv", "id, text \n" + cells)
    yield write(folder / "a.ndjson", "\n".join(lines))
    yield write(folder / "lines.json", "\n".join(lines))
    yield write(folder / "array.json", "\ufeff [\n" + " ,\n".join(lines) + "\n]\n")
    pq.write_table(TABLE, folder / "a.parquet")
    yield str(folder / "a.parquet")
    pyarrow.feather.write_feather(TABLE, folder / "a.feather")
    yield str(folder / "a.feather")
    with pa.ipc.new_stream(folder / "stream.arrow", TABLE.schema) as stream:
        stream.write_table(TABLE)
    yield str(folder / "stream.arrow")
    yield workbook(folder / "a.xlsx", [[], ["id", " text "], *ROWS])


def test_all_formats_give_the_same_rows(tmp_path):
    for file in files(tmp_path):
        assert read(file) == (["id", "text"], ROWS), file
        assert read(file, ["text"]) == (["text"], [row[1:] for row in ROWS]), file
        with pytest.raises(UserError, match=r"has no column 'body'; it has 'id', 'text'"):
            read(file, ["body"])


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2", ".zst"])
@pytest.mark.parametrize("named", [True, False])
def test_compression_is_told_by_the_bytes(tmp_path, suffix, named):
    path = tmp_path / f"a.csv{suffix if named else ''}"
    with open(path, "wb") as file, opened(file, suffix, "wb") as packed:
        packed.write(b"text\na\nb\n")
    assert read(str(path)) == (["text"], [["a"], ["b"]])


def test_zstandard_of_several_frames(tmp_path):
    """As pzstd and zstd write them, put together; and what is cut off is noticed."""
    one, two = (pa.compress(text, "zstd", asbytes=True) for text in (b"text\na\n", b"b\n" * 5000))
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0\x10\0\0\0"
    path = tmp_path / "a.csv.zst"
    path.write_bytes(skipped + one + skipped + two)
    assert read(str(path)) == (["text"], [["a"], *[["b"]] * 5000])
    path.write_bytes(one + two[:-3])
    with pytest.raises(UserError, match=r"a\.csv\.zst cannot be read: Truncated"):
        read(str(path))


@pytest.mark.parametrize("installed", [True, False])
def test_zstandard_where_pyarrow_has_none(tmp_path, monkeypatch, installed):
    path = tmp_path / "a.csv.zst"
    path.write_bytes(pa.compress(b"text\na\n", "zstd", asbytes=True) + pa.compress(b"b\n", "zstd", asbytes=True))
    monkeypatch.setattr(compression, "arrow_has_zstandard", lambda: False)
    if not installed:
        monkeypatch.setitem(sys.modules, "zstandard", None)
        with pytest.raises(UserError, match="pip install zstandard"):
            read(str(path))
        return
    pytest.importorskip("zstandard")
    assert read(str(path)) == (["text"], [["a"], ["b"]])
    with open(path, "wb") as file, opened(file, ".zst", "wb") as packed:
        packed.write(b"text\nc\n")
    assert read(str(path)) == (["text"], [["c"]])


@pytest.mark.parametrize("format", [name for name, known in FORMATS.items() if known.write])
def test_what_is_written_is_read_again(tmp_path, format):
    path = tmp_path / f"a{FORMATS[format].suffixes[0]}"
    rows = [["=1+1", 0.5], ["é \ud800 ,;'", None], ["007", 2.0], ["a\rb" if format in ("csv", "jsonl") else "a b", 1.0]]
    with open(path, "wb") as file, FORMATS[format].write(file, ["name", "score"], {"score": float}) as write_rows:
        write_rows(rows[:2])
        write_rows(rows[2:])
    columns, found = read(str(path))
    assert columns == ["name", "score"]
    # Half a surrogate pair, which no encoding has, becomes a question mark.
    assert [row[0] for row in found] == [row[0].replace("\ud800", "?") for row in rows]
    assert [None if row[1] in (None, "") else float(row[1]) for row in found] == [0.5, None, 2.0, 1.0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"PK\x03\x04 fake", "is a zip archive or an Excel workbook by its first bytes"),
        ("a.txt", b"PAR1\x15\x04", "is a parquet file by its first bytes"),
        ("a.xlsx", b"PK\x03\x04\x14\0 fake workbook", "is no Excel workbook"),
        ("a.xlsx", b"id,text\n1,a\n", "is no xlsx file by its first bytes"),
        ("a.arrow", b"id,text\n1,a\n", "is no arrow file by its first bytes"),
        ("a.csv.gz", b"text\na\n", r"its name ends in \.gz, but its bytes are others"),
        ("a.csv.gz", lzma.compress(b"text\na\n"), r"its name ends in \.gz, but its bytes are those of a \.xz"),
        ("a.csv.bz2", bz2.compress(b"text\n" * 99)[:-9], "cannot be read"),
        ("a.xlsx", gzip.compress(b"text\n", mtime=0), r"a xlsx file is not read through \.gz"),
        ("a.csv", "text\na\n".encode("utf-16"), "set --encoding to utf-16"),
        ("a.csv", "text\na, b and c\n".encode("utf-16-le"), "NUL in every other byte: is it UTF-16"),
        ("a.csv", bytes(range(1, 9)) * 20, "is no text file"),
        ("a.csv", b"", "is empty"),
        ("a.foo", b"text\n", "its name does not tell the format; set --input_format"),
        ("a.csv", "id;text\n1;a, b\n", "has no column 'text'; .* separated by ';'; set --delimiter"),
        ("a.csv", "id\ttext\n1\ta\n", "separated by '\\\\t'; set --delimiter"),
        ("a.csv", 'text\n"He said \\"hi\\", then",\n', r"line 2: .* escaped as \\\" here: set --escape"),
        ("a.json", '[{"text": "a"}, {"text": ]', "item 2 of its array is not JSON"),
        ("a.json", '[{"text": "a"}, {"text": "b"', "item 2 of its array is not JSON"),
        ("a.json", '[{"text": "a"}] {"text": "b"}', "more after its JSON array, which ends with item 1"),
    ],
)
def test_wrong_kinds_are_one_sentence(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read(write(tmp_path / name, content), ["text"])
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding_fallback": "latin-99"}, "--encoding_fallback 'latin-99' is not an encoding"),
        ({"encoding": "hex"}, "--encoding 'hex' is not an encoding"),
        ({"encoding": "utf-16", "encoding_fallback": "latin-1"}, "not utf-16"),
        ({"delimiter": ";;"}, "--delimiter ';;': give one character"),
        ({"format": "docx"}, "--input_format 'docx': it is one of csv, tsv"),
    ],
)
def test_settings_that_no_reader_has(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        read(write(tmp_path / "a.csv", "text\na\n"), **options)


def test_delimiter_quote_and_escape(tmp_path):
    assert read(write(tmp_path / "a.csv", "id;text\n1;a, b\n"), delimiter=";")[1] == [["1", "a, b"]]
    assert read(write(tmp_path / "b.csv", "id\ttext\n1\ta, b\n"), delimiter="\\t")[1] == [["1", "a, b"]]
    assert read(write(tmp_path / "c.csv", 'text\n"a \\"b\\", c"\n'), escape="\\")[1] == [['a "b", c']]
    assert read(write(tmp_path / "d.csv", 'id,text\n1,"a\n'), quote="")[1] == [["1", '"a']]
    assert read(write(tmp_path / "e.tsv", 'id\ttext\n1\t"a\nb"\n'), quote='"')[1] == [["1", "a\nb"]]
    assert read(write(tmp_path / "f.csv", "1,a\n"), column_names=["id", "text"]) == (["id", "text"], [["1", "a"]])


def test_a_quoted_line_break_where_quotes_are_text(tmp_path):
    rows = read(write(tmp_path / "a.tsv", 'text\tlabel\n"one\nmid\ntwo"\tx\n"whole"\ty\n'))[1]
    assert [isinstance(row, str) for row in rows] == [True, True, True, False]
    assert rows[0].startswith("has 1 cells where the header has 2: it begins a quoted cell")
    assert rows[2].startswith("ends a quoted cell: line 2 begins it; set --quote")
    # A quote that begins a cell and nothing that ends it: the next row is whole.
    rows = read(write(tmp_path / "b.tsv", 'text\tlabel\n"one\nplain\tx\ntwo"\ty\n'))[1]
    assert rows[1:] == [["plain", "x"], ['two"', "y"]]


def test_a_line_that_is_not_valid(tmp_path):
    content = b'id,text\n1,caf\xe9\n2,"good\n\xe9"\n3,\xc3\xa9\n4,don\x92t\n'
    rows = read(write(tmp_path / "a.csv", content))[1]
    assert rows[0].startswith("is not valid utf-8: byte 6 of line 2 (0xe9); set --encoding")
    assert rows[1].startswith("is not valid utf-8: byte 1 of line 4")
    assert rows[2] == ["3", "é"]
    notices = Notices()
    rows = read(str(tmp_path / "a.csv"), notices=notices, encoding_fallback="latin-1")[1]
    assert rows[:3] == [["1", "café"], ["2", "good\né"], ["3", "é"]]
    # In latin-1 it would be a control character: the line is in neither.
    assert rows[3].startswith("is valid neither as utf-8 nor as latin-1: byte 6 of line 6")
    assert notices == {"lines not valid utf-8, read as latin-1": [2, f"{tmp_path}/a.csv, line 2"]}
    assert read(str(tmp_path / "a.csv"), encoding_fallback="cp1252")[1][3] == ["4", "don’t"]
    lines = write(tmp_path / "a.jsonl", b'{"text": "\xe9"}\n{"text": "b"}\n')
    assert read(lines, encoding_fallback="latin-1")[1] == [["é"], ["b"]]
    array = write(tmp_path / "a.json", b'[{"text": "\xe9"}, {"text": "b"}]')
    assert read(array)[1][0].startswith("is not valid utf-8: byte 11 of item 1") and read(array)[1][1] == ["b"]
    assert read(array, encoding_fallback="latin-1")[1] == [["é"], ["b"]]


def test_columns_of_records_that_differ(tmp_path):
    first = "".join(json.dumps({"id": i}) + "\n" for i in range(1200))
    late = write(tmp_path / "a.jsonl", first + '{"id": 0, "note": "x"}\n')
    columns, rows = read(late)
    assert columns == ["id", "note"] and rows[0] == [0] and rows[-1] == [0, "x"]
    assert read(write(tmp_path / "b.jsonl", '{"id": 1}\n{"text": "a", "id": 2}\n'), ["text"])[1] == [[None], ["a"]]
    with pytest.raises(UserError, match="has no column 'note'; it has 'id'"):
        read(late, ["note"])


def test_a_long_array_is_read_item_by_item(tmp_path):
    items = [{"text": "word " * (i % 50) * 100, "number": i} for i in range(500)]
    rows = read(write(tmp_path / "a.json", json.dumps(items, indent=1)), ["number", "text"])[1]
    assert rows == [[item["number"], item["text"]] for item in items]


def test_workbooks(tmp_path):
    path = workbook(tmp_path / "a.xlsx", [["text", "n", None], ["a", 1, None], [], ["b"], ["c", 2, "more"]])
    assert read(path) == (["text", "n"], [["a", 1], ["b", None], "has 3 cells where the header has 2"])
    table = open_table(path, ReadOptions())
    assert [table.place(number) for number, _ in table] == [f"{path}, row {number}" for number in (2, 3, 4, 5)]
    with (
        open(tmp_path / "b.xlsx", "wb") as file,
        pytest.raises(UserError, match="holds 32,767 characters"),
        FORMATS["xlsx"].write(file, ["text"], {}) as rows,
    ):
        rows([["a" * 40_000]])


def test_a_damaged_workbook(tmp_path):
    path = workbook(tmp_path / "a.xlsx", [["text"], ["a"]])
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "b.xlsx", "w") as part:
        for name in whole.namelist():
            content = whole.read(name)
            part.writestr(name, content[:-40] if "sheet1" in name else content)
    with pytest.raises(UserError, match=r"b\.xlsx: the workbook is damaged"):
        read(str(tmp_path / "b.xlsx"))


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    path = workbook(tmp_path / "a.xlsx", [["text"], ["a"]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"pip install 'bert-pipeline\[excel\]'"):
        read(path)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match=r"pip install 'bert-pipeline\[tfds\]'"):
        load(DataConfig(train="tfds:any"), tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_standard_input(monkeypatch, packed):
    def given(content):
        data = gzip.compress(content, mtime=0) if packed else content
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    given(b"one text\r\nanother\twith a tab\n\nlast")
    assert read("-") == (["text"], [["one text"], ["another\twith a tab"], ["last"]])
    given(b"a\tb\nc\n")
    assert read("-", ["text_a", "text_b"])[1] == [["a", "b"], "has one text, not two with a tab between"]
    given(b"id,text\n1,a\n" * 5000)
    assert len(read("-", ["text"], format="csv")[1]) == 5000


def test_no_tensorflow_for_files_without_it(tmp_path):
    path = write(tmp_path / "a.csv", "text\na\n")
    code = (
        "import sys; from pipeline.data.formats import *; print([r for r in open_table(sys.argv[1], ReadOptions())]);"
        "print([n for n in ('tensorflow', 'pyarrow', 'openpyxl', 'pipeline.config') if n in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert process.stdout.splitlines() == ["[(2, ['a'])]", "[]"]


# What training makes of it.


def trained(path, **settings):
    settings = {"train": str(path), "validation_fraction": 0, "test_fraction": 0} | settings
    splits = load(DataConfig(**settings), path.parent / "cache")
    return [text.decode() for text in splits.train.texts(slice(None))[0]], splits


def test_training_reads_the_new_formats(tmp_path):
    rows = [["text", "label"], ["a", "x"], ["b", 3]]
    assert trained(tmp_path / workbook(tmp_path / "a.xlsx", rows))[0] == ["a", "b"]
    write(tmp_path / "a.json", '[{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]')
    assert trained(tmp_path / "a.json")[0] == ["a", "b"]
    pq.write_table(pa.table({"text ": ["a", "b"], " label": ["x", "y"]}), tmp_path / "a.parquet")
    assert trained(tmp_path / "a.parquet")[0] == ["a", "b"]
    write(tmp_path / "b.json", '[{"text": "a", "label": "x"}, {"text": 1, "label": "y"}]')
    with pytest.raises(UserError, match=r"b\.json, item 2: the row has a int where text is expected"):
        trained(tmp_path / "b.json")
    with pytest.raises(UserError, match="standard input cannot be read again"):
        load(DataConfig(train="-"), tmp_path)


def test_training_skips_and_counts_what_is_no_row(tmp_path):
    write(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "b", "label": "y"}\n{"text": "c", "label": "x"}\n')
    with pytest.raises(UserError, match="line 1: the row has no label"):
        trained(tmp_path / "a.jsonl")
    assert trained(tmp_path / "a.jsonl", bad_rows="skip")[0] == ["b", "c"]
    write(tmp_path / "a.csv", b"text,label\na,x\ncaf\xe9,x\nb,y\n")
    texts, splits = trained(tmp_path / "a.csv", bad_rows="skip")
    assert texts == ["a", "b"] and splits.warnings == ["skipped 1 row of the train source: 1 is not valid utf-8."]
    write(tmp_path / "a.tsv", 'text\tlabel\n"one\ntwo"\tx\na\tx\nb\ty\n')
    assert trained(tmp_path / "a.tsv", bad_rows="skip")[0] == ["a", "b"]


def test_training_warns_of_what_was_met_with_numbers(tmp_path):
    content = "text,label\na,x\n\ufefftext,label\nb,y\n\ufeffc,x\nCafÃ© Â£5,y\ntext,label\n"
    path = tmp_path / "a.csv"
    write(path, content.encode() + b"f\xfcr,x\n")
    texts, splits = trained(path, encoding_fallback="latin-1")
    assert texts == ["a", "b", "c", "CafÃ© Â£5", "für"]
    assert splits.warnings == [
        f"train source: byte-order marks inside the file, left out: 2, the first at {path}, line 3.",
        f"train source: lines that repeat the header, left out: 2, the first at {path}, line 3.",
        f"train source: rows that seem to be decoded wrongly (Â£, â€™, Ã©): 1, the first at {path}, line 6.",
        f"train source: lines not valid utf-8, read as latin-1: 1, the first at {path}, line 8.",
    ]
    assert json.loads(json.dumps(splits.summary))["train"]["notices"]
    assert trained(path, encoding_fallback="latin-1")[1].warnings == splits.warnings, "also from the stored rows"


def test_the_file_of_a_folder_that_is_not_valid_is_read_in_the_fallback(tmp_path):
    for label, content in (("x", "5 £".encode()), ("y", "5 £".encode("latin-1"))):
        (tmp_path / "texts" / label).mkdir(parents=True)
        (tmp_path / "texts" / label / "1.txt").write_bytes(content)
    texts, splits = trained(tmp_path / "texts", encoding_fallback="latin-1")
    assert texts == ["5 £", "5 £"]
    assert splits.warnings[0] == (
        f"train source: files not valid utf-8, read as latin-1: 1, the first at {tmp_path}/texts/y/1.txt."
    )


@pytest.mark.parametrize("text", ["Caf\u00c3\u00a9", "Â£5", "donâ€™t", "Ã\x89cole", "donâ\x80\x99t"])
def test_texts_decoded_wrongly_are_noticed(tmp_path, text):
    path = tmp_path / "a.csv"
    write(path, f"text,label\n{text},x\nÀ la São Tomé £5 Ångström â,y\n")
    assert "decoded wrongly (Â£, â€™, Ã©): 1, " in trained(path)[1].warnings[0]


@pytest.mark.parametrize("suffix", ["parquet", "feather"])
def test_times_that_python_cannot_hold_are_named_where_they_are_wanted(tmp_path, suffix, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)  # without which Arrow refuses nanoseconds
    path, far = (
        str(tmp_path / f"a.{suffix}"),
        {
            "moment": pa.array([253_402_300_800_000, 0], pa.timestamp("ms")),
            "day": pa.array([10**7, 0], pa.int32()).cast(pa.date32()),
            "long": pa.array([10**18, 0], pa.duration("ms")),
        },
    )
    write_table = pq.write_table if suffix == "parquet" else pyarrow.feather.write_feather
    write_table(pa.table({"text": ["a", "b"]} | far), path)
    for name, values in far.items():
        said = re.escape(f"a.{suffix}: the column {name!r} holds a {values.type} that Python cannot, after row 0")
        with pytest.raises(UserError, match=said):
            read(path, ["text", name])
    with pytest.raises(UserError, match="the column 'moment' holds"):
        read(path)
    assert read(path, ["text"])[1] == [["a"], ["b"]]


def test_nanoseconds_become_microseconds(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    times = {
        "at": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns", "UTC")),
        "took": pa.array([1_001], pa.duration("ns")),
    }
    pq.write_table(pa.table(times), tmp_path / "a.parquet")
    at = datetime(2023, 11, 14, 22, 13, 20, 123_456, UTC)
    assert read(str(tmp_path / "a.parquet"))[1] == [[at, timedelta(microseconds=1)]]


def test_what_follows_a_large_item_of_an_array_is_not_copied_for_each_item(tmp_path):
    small = [{"text": "y" * 100, "label": i} for i in range(30_000)]
    path = write(tmp_path / "a.json", json.dumps([{"text": "z" * 5_000_000, "label": -1}, *small]))
    table = open_table(path, ReadOptions())
    started = process_time()
    rows = [cells for _, cells in table]
    took = process_time() - started
    assert [label for _, label in rows] == list(range(-1, 30_000))
    assert took < 2  # seconds; a copy of the text for each item takes several times as long
