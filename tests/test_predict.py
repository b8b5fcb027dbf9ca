"""Files to predict, compare and ask a server about: every row answered as training would read it, or refused."""

import contextlib
import csv
import gzip
import io
import json
import os
import re

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_export import LABELS, export_tiny

from export import answered, answers, at_once, client, compare, predict, progress
from export.loading import Classifier
from export.savedmodel import ExportSettings
from export.signatures import SignatureOptions
from pipeline.config import DataConfig
from pipeline.data.formats import ReadOptions, open_table
from pipeline.data.sources import read_metadata
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.number import Number

TEXTS = ["the team and the coach", "bank", "a rocket in orbit"]


def export(folder, **options):
    """A model with the metadata that a run with these data settings gives it."""
    read = read_metadata(DataConfig(train="rows.csv", **options))
    return export_tiny(folder, settings=ExportSettings(metadata={"read": read}))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def labels(model):
    return dict(zip(TEXTS, Classifier(model)(TEXTS).labels, strict=True))


def ask(capsys, *arguments):
    status = predict.main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return status, output.out, output.err


def rows_of(capsys, *arguments):
    """The answers as JSON objects."""
    status, output, error = ask(capsys, *arguments, "--format", "jsonl")
    assert status == 0, error
    return [json.loads(line) for line in output.splitlines()]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_quotes_of_a_tsv_are_text_as_in_training(model, tmp_path, capsys):
    content = 'id\ttext\n1\t"the team\n2\tbank\n3\ta new star "\n4\t"He said ""goal"" twice"\n'
    found = rows_of(capsys, model, "--input", write(tmp_path / "a.tsv", content))
    assert [row["text"] for row in found] == ['"the team', "bank", 'a new star "', '"He said ""goal"" twice"']
    assert [row["id"] for row in found] == ["1", "2", "3", "4"]


def test_a_row_without_a_label_says_so_to_people_alone(tmp_path, capsys):
    several = export_tiny(tmp_path, task=MultiLabel(LABELS, 0.999999))
    answers = Classifier(several)(TEXTS)
    most = [LABELS[best] for best in answers.probabilities.argmax(axis=1)]
    _, output, _ = ask(capsys, several, *TEXTS)
    assert answers.labels == [""] * len(TEXTS)
    assert output.splitlines() == [
        f"(no label; highest: {label} {score:.4f})\t{text}"
        for label, score, text in zip(most, answers.scores, TEXTS, strict=True)
    ]
    assert all(row["label"] == "" and "highest" not in row for row in rows_of(capsys, several, *TEXTS))


def test_all_columns_and_rows_are_kept_in_order(model, labels, tmp_path, capsys):
    content = f"id,text,customer\n17,{TEXTS[0]},A\n18,,B\n\n19,{TEXTS[1]},C\nid,text,customer\n20, ,D\n"
    found = rows_of(capsys, model, "--input", write(tmp_path / "a.csv", content))
    assert [(row["id"], row["text"], row["customer"], row["label"], row["reason"]) for row in found] == [
        ("17", TEXTS[0], "A", labels[TEXTS[0]], None),
        ("18", "", "B", None, "has no text"),
        (None, None, None, None, "is blank"),
        ("19", TEXTS[1], "C", labels[TEXTS[1]], None),
        (None, None, None, None, "repeats the header"),
        ("20", " ", "D", None, "has no text"),
    ]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".arrow", ".feather", ".xlsx", ".csv.gz"])
def test_the_name_of_the_output_is_its_format(model, labels, tmp_path, capsys, suffix, monkeypatch):
    monkeypatch.setattr(answered, "WINDOW", 2)
    # The first window has no answer at all.
    rows = "".join(f"{number},{text}\n" for number, text in enumerate(["", "", *TEXTS]))
    output = tmp_path / f"out{suffix}"
    source = write(tmp_path / "a.csv", "id,text\n" + rows)
    assert ask(capsys, model, "--input", source, "--output", output) == (0, "", "")
    table = open_table(str(output), ReadOptions())
    assert table.columns == ["id", "text", "label", "score", "reason"]
    found = [cells for _, cells in table]
    assert [cells[0] for cells in found] == ["0", "1", "2", "3", "4"]
    assert [cells[2] or None for cells in found] == [None, None, *(labels[text] for text in TEXTS)]
    assert all(0 < float(cells[3]) <= 1 for cells in found[2:])
    assert [cells[4] or None for cells in found] == ["has no text", "has no text", None, None, None]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", output.name], "nothing half-written stays"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (["--output", "out.foo"], "has no name of these: end it in .csv, .tsv"),
        (["--output", "out.tfrecord"], "has no name of these: end it in .csv"),
        (["--output", "out.csv", "--format", "jsonl"], "is not named as --format jsonl is"),
        (["--output", "out.csv", "--explain"], "as a table or as jsonl"),
    ],
)
def test_outputs_that_are_refused(output, message, model, capsys):
    status, _, error = ask(capsys, model, "bank", *output)
    assert status == 2 and error.count("\n") == 1 and message in error


def test_columns_that_only_later_records_have(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(answered, "WINDOW", 500)
    lines = [json.dumps({"text": "bank", "id": i}) for i in range(1100)] + ['{"text": "bank", "note": "late"}']
    source = write(tmp_path / "a.jsonl", "\n".join(lines))
    found = rows_of(capsys, model, "--input", source)
    assert len(found) == 1101 and found[-1]["note"] == "late" and found[-1]["label"]
    status, _, error = ask(capsys, model, "--input", source, "--output", tmp_path / "out.csv")
    assert status == 2 and "a.jsonl, line 1101: note: no row at the beginning has it; write a .jsonl" in error
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(("first", "late"), [({}, "label"), ({"label": "mine"}, "predicted_score"), ({}, "reason")])
def test_a_late_column_named_as_an_answer_is_refused(first, late, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(answered, "WINDOW", 500)
    lines = [json.dumps({"text": "bank", **first})] * 1100 + [json.dumps({"text": "bank", late: "of the input"})]
    source = write(tmp_path / "a.jsonl", "\n".join(lines))
    status, _, error = ask(capsys, model, "--input", source, "--output", tmp_path / "out.jsonl")
    assert status == 2 and f"a.jsonl, line 1101 has a column {late!r}, as an answer is named" in error
    assert "give it to the first row too" in error and not (tmp_path / "out.jsonl").exists()


def test_answers_never_take_the_name_of_a_column(model, tmp_path, capsys):
    source = write(tmp_path / "a.csv", "label,text\nmine,bank\n")
    _, output, error = ask(capsys, model, "--input", source, "--format", "csv")
    assert output.splitlines()[0] == "label,text,predicted_label,predicted_score,predicted_reason"
    assert output.splitlines()[1].startswith("mine,bank,")
    assert "the input has a column 'label': the answers are predicted_label" in error
    (explained,) = rows_of(capsys, model, "--input", source, "--explain")
    assert explained["label"] == "mine" and explained["predicted_pieces"]


def workbook(path, rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


@pytest.mark.slow
def test_formats_that_training_reads(model, labels, tmp_path, capsys):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    cells = "text \n" + "".join(f"{text}\n" for text in TEXTS)
    pq.write_table(pa.table({" text": TEXTS}), tmp_path / "a.parquet")
    sources = [
        write(tmp_path / "a.ndjson", lines),
        write(tmp_path / "lines.json", lines),
        write(tmp_path / "array.json", json.dumps([{"text": text} for text in TEXTS])),
        write(tmp_path / "a.csv.gz", gzip.compress(cells.encode())),
        write(tmp_path / "unnamed.csv", gzip.compress(cells.encode())),
        write(tmp_path / "table.txt", cells),
        write(tmp_path / "lines.txt", "\n".join(TEXTS)),
        tmp_path / "a.parquet",
        workbook(tmp_path / "a.xlsx", [["text"], *([text] for text in TEXTS)]),
    ]
    for source in sources:
        found = rows_of(capsys, model, "--input", source)
        assert [(row["text"], row["label"]) for row in found] == list(labels.items()), source
    (tmp_path / "texts" / "x").mkdir(parents=True)
    for i, text in enumerate(TEXTS):
        write(tmp_path / "texts" / "x" / f"{i}.txt", text)
    found = rows_of(capsys, model, "--input", tmp_path / "texts")
    assert [(row["file"], row["text"]) for row in found] == [(f"x/{i}.txt", text) for i, text in enumerate(TEXTS)]


def test_shards_by_a_pattern_and_standard_input(model, labels, tmp_path, capsys, monkeypatch):
    for i, text in enumerate(TEXTS):
        write(tmp_path / f"part-{i}.csv", f"text\n{text}\n")
    assert [row["label"] for row in rows_of(capsys, model, "--input", tmp_path / "part-*.csv")] == [*labels.values()]
    write(tmp_path / "part-9.csv", "text,id\na,1\n")
    status, _, error = ask(capsys, model, "--input", tmp_path / "part-*.csv")
    assert status == 2 and "part-9.csv has the columns text, id" in error
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"id;text\n1;bank\n")))
    options = ["--input", "-", "--input-format", "csv", "--delimiter", ";"]
    assert [(row["id"], row["label"]) for row in rows_of(capsys, model, *options)] == [("1", labels["bank"])]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"id,text\n1,bank\n2,Caf\xe9 owner\x92s\n", "a.csv, line 3: the row is not valid utf-8: byte 6 of"),
        ("a.csv", "id,text\n1,bank\n".encode("utf-16"), "set --encoding to utf-16"),
        ("a.xlsx", b"PK\x03\x04 fake workbook", "is no Excel workbook"),
        ("a.csv", "id,text\n1,ba\0nk\n", "line 2: the row has a NUL character"),
        ("a.csv", "id,text\n1,Shares fell, says bank\n", "line 2: the row has 3 cells where the header has 2"),
        ("a.csv", "id;text\n1;bank\n", "set --delimiter"),
        ("a.csv", 'id,text\n1,"bank\n', "line 2: .*a quote that is never closed"),
        ("a.csv", "text,text\na,b\n", "has 2 columns named 'text': rename all but one"),
        ("a.jsonl", '{"text": "a"}\n{"text": ["b"]}\n', "line 2: the row has a list where text is expected"),
        ("a.jsonl", '{"text": NaN}\n', "line 1: the row has a float where text is expected"),
        ("a.jsonl", '{"text": 5}\n', "line 1: the row has a int where text is expected"),
        ("a.jsonl", '{"text": true}\n', "line 1: the row has a bool where text is expected"),
        ("a.txt", "bank\tmarket\n", "line 1 has a tab but no column 'text': set --input_format"),
        ("a.foo", "bank\n", "its name does not tell the format; set --input_format"),
    ],
)
def test_what_training_refuses_is_refused(name, content, message, model, tmp_path, capsys):
    source = write(tmp_path / name, content)
    status, _, error = ask(capsys, model, "--input", source, "--output", tmp_path / "out.csv")
    assert status == 2 and error.startswith("error: ") and error.count("\n") == 1
    assert re.search(message, error), error
    assert sorted(os.listdir(tmp_path)) == [name]


def test_bad_rows_are_kept_or_skipped_on_demand(model, labels, tmp_path, capsys):
    source = write(tmp_path / "a.csv", f"id,text\n1,{TEXTS[0]}\n2,a,b\n3,ba\0nk\n4,\n5,{TEXTS[1]}\n")
    kept = rows_of(capsys, model, "--input", source, "--bad_rows", "keep")
    assert [(row["id"], row["reason"] and row["reason"][:14]) for row in kept] == [
        ("1", None), (None, "has 3 cells wh"), ("3", "has a NUL char"), ("4", "has no text"), ("5", None),
    ]  # fmt: skip
    _, output, error = ask(capsys, model, "--input", source, "--bad-rows", "skip", "--format", "jsonl")
    assert [json.loads(line)["id"] for line in output.splitlines()] == ["1", "4", "5"]
    assert f"warning: rows that were skipped: 2, the first at {source}, line 3" in error
    assert kept[-1]["label"] == labels[TEXTS[1]]


@pytest.mark.slow
def test_the_settings_of_training_are_those_of_prediction(tmp_path, capsys):
    trained = {"delimiter": ";", "encoding_fallback": "latin-1", "text_columns": ["body"]}
    model = export(tmp_path / "model", **trained)
    source = write(tmp_path / "a.csv", b"id;body;text\n1;b\xe9nk, bank;none\n")
    status, output, error = ask(capsys, model, "--input", source, "--format", "jsonl")
    assert (status, json.loads(output)["body"]) == (0, "bénk, bank")
    assert json.loads(output)["label"] == Classifier(model)(["bénk, bank"]).labels[0]
    assert f"warning: lines not valid utf-8, read as latin-1: 1, the first at {source}, line 2." in error
    # Told otherwise, and where the file has no such column or is of another format.
    comma = write(tmp_path / "b.csv", "id,text\n1,bank\n")
    assert rows_of(capsys, model, "--input", comma, "--delimiter", ",")[0]["text"] == "bank"
    assert rows_of(capsys, model, "--input", write(tmp_path / "a.tsv", "id\tbody\n1\tbank\n"))[0]["body"] == "bank"
    status, _, error = ask(capsys, model, "--input", source, "--encoding", "utf-8")
    assert status == 2 and "is not valid utf-8" in error
    status, _, error = ask(capsys, model, "--input", source, "--text_column", "text")
    assert status == 0


def test_texts_that_seem_decoded_wrongly_are_noticed(model, tmp_path, capsys):
    source = write(tmp_path / "a.csv", "text\nshares fell 5 Â£\nbank\n")
    assert "decoded wrongly (Â£, â€™, Ã©): 1, the first at" in ask(capsys, model, "--input", source)[2]


def test_the_table_says_why_there_is_no_answer(model, tmp_path, capsys):
    _, output, _ = ask(capsys, model, "bank", " ")
    assert output.splitlines()[1] == "- (has no text)\t "
    _, output, _ = ask(capsys, model, "bank", "--top", 3)
    assert len(output.split("\t")[0].split("  ")) == 3


def test_columns_of_answers():
    def columns(labels, probabilities, top=2):
        probabilities = np.array(probabilities, np.float32).reshape(-1, 2)
        outputs = {"label": np.array(labels, object), "score": probabilities.max(axis=1, initial=0)}
        outputs["probabilities"] = probabilities
        return answers.columns_of(outputs, ["label", "score"], ["a", "b"], top)

    found = columns(["b"], [[0.3, 0.7]])
    assert list(found) == ["label", "score", "label_1", "score_1", "label_2", "score_2"]
    assert (found["label_1"], found["label_2"]) == (["b"], ["a"])
    assert answers.line_of({name: column[0] for name, column in found.items()}) == "b 0.7000  a 0.3000"
    assert answers.line_of({"label": "b\x1b\nc", "score": 0.5}) == r"b\u001b\nc 0.5000"
    assert answers.line_of({"label_1": "b\x9b", "score_1": 0.5}) == r"b\u009b 0.5000"
    assert list(columns([], [])) == list(found)
    numbers = answers.columns_of({"value": np.float32([2.5]), "low": np.float32([2])}, ["value", "low"])
    assert answers.line_of({name: column[0] for name, column in numbers.items()}) == "2.5000 2.0000"
    with pytest.raises(ValueError, match="--top is for models that answer labels"):
        answers.columns_of({"value": np.float32([2.5])}, ["value"], top=2)


def test_small_numbers_are_written_with_their_digits(tmp_path, capsys):
    settings = ExportSettings(SignatureOptions(["predict_tokens"]))
    task = Number(mean=3e-8, deviation=1e-8, half_width=2e-9)
    folder = export_tiny(tmp_path / "model", task=task, settings=settings)
    expected = Classifier(folder)(["bank"])
    (found,) = rows_of(capsys, folder, "bank")
    for name in ("value", "low", "high"):
        assert found[name] == pytest.approx(float(expected[name][0]), rel=1e-6, abs=0) != 0
    _, output, _ = ask(capsys, folder, "bank")
    assert float(output.split()[0]) == pytest.approx(found["value"], rel=1e-3, abs=0)
    assert answers.rounded(0.123456789, share=True) == 0.123457 and answers.rounded(1e-9, share=True) == 0
    assert client._json(np.float32([2.3456789e-8]), share=False) == [2.3456789e-08]


def test_progress_is_shown_where_it_takes_long(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 6.0, 6.0, 7.0, 8.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    shown = progress.Progress()
    shown.add(1000)
    assert capsys.readouterr().err == ""
    shown.add(2000)
    assert capsys.readouterr().err == "3,000 rows, 500 rows/s\n"
    shown.add(1000)
    shown.end()
    assert capsys.readouterr().err == "4,000 rows, 500 rows/s\n"


def test_progress_of_a_slow_row_is_said_once(capsys, monkeypatch):
    clock = iter([0.0, 12.0, 12.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    shown = progress.Progress()
    shown.add(1)
    shown.end()
    assert capsys.readouterr().err == "1 row, 12 s a row\n"


def compared(capsys, model, source, *options):
    fixed = ["--latency_requests", "0", "--json", "--min_agreement", "0"]
    status = compare.main([str(model), str(model), "--data", str(source), *fixed, *options])
    output = capsys.readouterr()
    return status, (json.loads(output.out) if status != 2 else None), output.err


@pytest.mark.slow
def test_comparison_counts_the_rows_of_training(model, labels, tmp_path, capsys):
    content = f'text\tlabel\n"{TEXTS[0]}\tsport\n{TEXTS[1]}\tmoney\n\n{TEXTS[2]}"\tspace\n'
    status, found, _ = compared(capsys, model, write(tmp_path / "a.tsv", content))
    assert (status, found["rows"]) == (0, 3) and sum(row["support"] for row in found["per_class"]) == 3
    rows = [["text", "label"], *([text, label] for text, label in labels.items())]
    _, found, _ = compared(capsys, model, workbook(tmp_path / "a.xlsx", rows))
    assert found["scores"]["new"]["accuracy"] == 1
    source = write(tmp_path / "b.csv", "text,label\nbank, money \nbank,\n,sport\n")
    status, _, error = compared(capsys, model, source)
    assert status == 2 and "b.csv, line 3: the row has no label; mend it, or set --bad_rows to skip" in error
    status, found, error = compared(capsys, model, source, "--bad_rows", "skip")
    assert (status, found["rows"]) == (0, 1) and "rows that were skipped: 2" in error
    assert [row["support"] for row in found["per_class"]] == [0, 1, 0], "white space is no part of a label"


@pytest.mark.slow
def test_comparison_takes_the_label_column_of_training(tmp_path, capsys):
    model = export(tmp_path / "model", label_column="kind", text_columns=["body"])
    source = write(tmp_path / "a.csv", "body,kind,label\nbank,money,sport\n")
    _, found, _ = compared(capsys, model, source)
    assert [row["support"] for row in found["per_class"]] == [0, 1, 0]
    _, found, _ = compared(capsys, model, source, "--label_column", "label")
    assert [row["support"] for row in found["per_class"]] == [1, 0, 0]


class _Served:
    """A client in front of nothing."""

    inputs = ["text"]  # noqa: RUF012
    outputs = ("label", "score")
    order = (("text",), 1, True)
    columns = ()

    def pinned(self):
        return self

    def predict(self, columns):
        texts = columns["text"]
        labels, scores = np.array([t.upper() for t in texts], object), np.full(len(texts), 0.5, np.float32)
        return answers.Answers({"label": labels, "score": scores})


def test_the_client_reads_and_keeps_columns_likewise(tmp_path, capsys, monkeypatch):
    source = workbook(tmp_path / "a.xlsx", [["id", "text", "label"], [7, "bank", "x"], [8, None, "y"]])
    monkeypatch.setattr(client, "Client", lambda *_, **__: contextlib.nullcontext(_Served()))
    options = ["--target", "localhost:1", "--input", str(source)]
    assert client.main([*options, "--format", "jsonl"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"id": 7, "text": "bank", "label": "x", "predicted_label": "BANK", "predicted_score": 0.5},
        {"id": 8, "text": None, "label": "y", "predicted_reason": "has no text"},
    ]
    assert client.main(options) == 0
    assert capsys.readouterr().out.splitlines()[0] == "BANK 0.5000\tbank"
    assert client.main([*options, "--text-column", "id"]) == 2
    assert "row 2: the row has a int where text is expected" in capsys.readouterr().err


def test_csv_output_is_read_by_csv(model, tmp_path, capsys):
    source = write(tmp_path / "a.jsonl", json.dumps({"text": 'a "bank",\r or\nnot', "tags": ["x", 1], "n": None}))
    _, output, _ = ask(capsys, model, "--input", source, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(output, newline=""))
    assert (row["text"], row["tags"], row["n"]) == ('a "bank",\r or\nnot', '["x", 1]', "")
    status, _, error = ask(capsys, model, "--input", source, "--format", "tsv")
    assert status == 2 and "cannot hold the tab or line break" in error


def test_batches_at_once_are_answered_as_one_by_one(model, monkeypatch):
    texts = [" ".join(TEXTS[: 1 + number % 3] * (1 + number % 4)) for number in range(64)]
    classifier = Classifier(model)
    alone = classifier.stream(iter(texts), batch_size=4, window=4)
    monkeypatch.setattr(at_once, "calls_at_once", lambda batch_size: 3)
    together = classifier(texts, batch_size=4)
    expected = classifier(texts, batch_size=64)
    assert together.labels == expected.labels == [answer["label"] for answer in alone]
    np.testing.assert_allclose(together.probabilities, expected.probabilities, atol=1e-6)


def test_calls_at_once_are_as_many_as_threads(monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    monkeypatch.setattr(at_once, "cores", lambda: 5)
    assert [at_once.calls_at_once(size) for size in (32, 64, 1024)] == [5, 4, 1]
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    assert at_once.calls_at_once(8) == 1
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "64")
    assert at_once.calls_at_once(8) == at_once.MOST
