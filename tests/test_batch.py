"""Any number of rows answered in parts: as export.predict answers them, once each, whatever happens on the way."""

import json
import os
import shutil

import pyarrow.parquet as pq
import pytest
from batch_rows import (
    answers,
    assert_alike,
    kill_writer,
    predicted,
    records,
    started,
    write_jsonl,
    write_parquet,
)
from tiny_export import export_tiny

from export import answered
from export.batch import __main__ as command
from export.batch import answer, local
from export.batch.job import Job
from export.batch.parts import parts_of

ROWS = records(50)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export_tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return export_tiny(tmp_path_factory.mktemp("pairs"), pair=True)


@pytest.fixture
def here(monkeypatch):
    """The local engine without processes, so that a test takes no seconds; windows that end where parts end."""

    def run(job, sources, workers):
        for source in sources:
            for part in parts_of(job, source):
                answer.answer(job, part)

    monkeypatch.setattr(local, "run", run)
    monkeypatch.setattr(answered, "WINDOW", 4)


def batch(model, source, output, *arguments, rows=4):
    return command.main([str(model), "--input", str(source), "--output", str(output), "--part_rows", str(rows),
                         *map(str, arguments)])  # fmt: skip


def refused(capsys, *arguments, **options) -> str:
    capsys.readouterr()
    assert batch(*arguments, **options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error


CSV = 'id,text,label\n1,the team,a\n2,,b\n\n3,"line\nbreak, 漢字",c\n4, ,d\nid,text,label\n5,a rocket,e\n6,bank,f\n'
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS[:30]) + '{"text": "half \\ud800 a pair"}\nno json\n[1]\n'
PAIRS = "text_a\ttext_b\tid\nbank\tthe team\t1\n\tleague\t2\na rocket\tcafé\t3\nbank\t\t4\nthe coach\tgoal\t5\n"


@pytest.mark.parametrize(
    ("name", "content", "arguments"),
    [
        ("a.csv", CSV, ()),
        ("a.csv", CSV, ("--format", "jsonl", "--top", "2")),
        ("a.jsonl", JSONL, ("--bad_rows", "keep")),
        ("a.jsonl", JSONL, ("--bad_rows", "skip", "--format", "csv")),
        ("a.txt", "bank\nthe team\n\na rocket\nleague\n", ()),
    ],
)
def test_answers_are_those_of_predict(name, content, arguments, model, here, tmp_path, capsys):
    source = tmp_path / name
    source.write_text(content, encoding="utf-8")
    assert batch(model, source, tmp_path / "out", *arguments) == 0, capsys.readouterr().err
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    form = json.loads((tmp_path / "out" / "_job.json").read_text())["options"]["format"]
    asked = [a for i, a in enumerate(arguments) if "--format" not in (a, *arguments[i - 1 : i])]
    expected = predicted(model, source, tmp_path / f"predicted.{form}", *asked)
    found = answers(tmp_path / "out", form)
    assert found == expected and len(found) > 5
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert warnings == said


def test_pairs_are_answered_as_predict_does(pairs, here, tmp_path):
    source = tmp_path / "a.tsv"
    source.write_text(PAIRS, encoding="utf-8")
    assert batch(pairs, source, tmp_path / "out", rows=2) == 0
    assert_alike(answers(tmp_path / "out", "tsv"), predicted(pairs, source, tmp_path / "predicted.tsv"))


def test_a_parquet_file_is_cut_anywhere_and_keeps_its_types(model, here, tmp_path, capsys):
    source = write_parquet(tmp_path / "a.parquet", ROWS, row_group_size=7)
    assert batch(model, source, tmp_path / "out", "--bad_rows", "keep") == 0, capsys.readouterr().err
    parts = sorted((tmp_path / "out").glob("*.parquet"))
    assert [pq.read_metadata(path).num_rows for path in parts] == [4] * 12 + [2]
    schemas = [pq.read_schema(path) for path in parts]
    assert all(schema == schemas[0] for schema in schemas), "also where a column is empty"
    assert [str(schemas[0].field(name).type) for name in ("id", "text", "last")] == ["int32", "string", "double"]
    expected = predicted(model, source, tmp_path / "predicted.parquet", "--bad_rows", "keep")
    assert answers(tmp_path / "out", "parquet") == expected


def test_a_bad_row_is_named_and_what_was_answered_stays(model, here, tmp_path, capsys):
    rows = [{"id": i, "text": "nul\0" if i == 9 else "bank", "x": 0.0} for i in range(12)]
    write_parquet(tmp_path / "a.parquet", rows, row_group_size=5)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    error = refused(capsys, model, tmp_path / "a.parquet", tmp_path / "out")
    assert "a.parquet, row 10: the row has a NUL character" in error
    assert len(answers(tmp_path / "out", "parquet")) == 1 + 8
    assert not list((tmp_path / "out").glob(".a*")), "nothing half-written stays"
    assert "b.parquet is no parquet file" in refused(capsys, model, tmp_path / "b.parquet", tmp_path / "other")


def test_files_of_several_folders_and_what_is_there_is_not_answered_again(model, here, tmp_path, monkeypatch, capsys):
    for day in ("1", "2"):
        (tmp_path / "in" / day).mkdir(parents=True)
        (tmp_path / "in" / day / "a.csv").write_text("text\n" + "bank\nleague\n" * 3)
    pattern = tmp_path / "in" / "*" / "a.csv"
    assert batch(model, pattern, tmp_path / "out") == 0
    assert "12 rows are answered in 4 parts" in capsys.readouterr().out
    names = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("a-*.csv"))
    assert names == ["1/a-000000.csv", "1/a-000001.csv", "2/a-000000.csv", "2/a-000001.csv"]
    (tmp_path / "out" / names[2]).unlink()
    given = []
    monkeypatch.setattr(answer, "answered", lambda *a, **k: given.append(a) or answered.answered(*a, **k))
    monkeypatch.setattr(Job, "texts", _texts_of_2)
    assert batch(model, pattern, tmp_path / "out") == 0
    assert "12 rows are answered in 4 parts, 3 of which were there" in capsys.readouterr().out
    assert len(given) == 1


def _texts_of_2(self, source, within=None, texts=Job.texts):
    assert "/2/" in source.path, "a file that is answered to its end is not read again"
    return texts(self, source, within)


def test_another_model_other_options_or_a_changed_file_are_refused(model, pairs, here, tmp_path, capsys):
    source, output = tmp_path / "a.csv", tmp_path / "out"
    source.write_text("text,text_a,text_b\n" + "bank,a,b\nleague,c,d\n" * 3)
    assert batch(model, source, output) == 0
    assert "answers of another model" in refused(capsys, pairs, source, output)
    assert "answers with --part_rows 4" in refused(capsys, model, source, output, rows=5)
    assert "answers with --top 1" in refused(capsys, model, source, output, "--top", "2")
    os.utime(source, (1, 1))
    assert "a.csv has changed since it was answered" in refused(capsys, model, source, output)
    source.write_text("text,text_a,text_b\n" + "bank,a,b\n" * 3)
    assert batch(model, source, output, "--redo") == 0
    assert [row[0] for row in answers(output, "csv")] == ["text", "bank", "bank", "bank"]
    assert batch(model, source, output) == 0


def test_what_is_kept_beside_a_model_does_not_make_it_another(model, here, tmp_path, capsys):
    version, source = tmp_path / "models" / "1", tmp_path / "a.csv"
    shutil.copytree(model, version)
    source.write_text("text\nbank\n")
    assert batch(version, source, tmp_path / "out") == 0
    (version / "assets.extra" / "reference.json").write_text("{}")
    assert batch(version, source, tmp_path / "out") == 0, capsys.readouterr().err
    metadata = version / "assets.extra" / "metadata.json"
    metadata.write_text(metadata.read_text() + "\n")
    assert f"was begun by another version of {version}, or of this program" in refused(
        capsys, version, source, tmp_path / "out"
    )


def test_a_file_that_changes_while_it_is_answered(model, here, tmp_path, capsys, monkeypatch):
    source = tmp_path / "a.csv"
    source.write_text("text\n" + "bank\n" * 6)

    def store(*arguments, store=answered.store):
        yield from store(*arguments)
        with source.open("a") as file:
            file.write("league\n")

    monkeypatch.setattr(answer, "store", store)
    assert "has changed while it was answered" in refused(capsys, model, source, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.csv"))


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("none.csv", (), "no such file"),
        ("-", (), "standard input cannot be read again"),
        ("same.*", (), "would have answers of one name"),
        ("same.jsonl", ("--format", "parquet"), "--format jsonl or csv"),
        ("same.csv", ("--format", "xlsx"), "it is parquet or arrow, or csv"),
        ("[ab].csv", (), "b.csv has the columns text, id, and the first file text"),
        ("same.csv", ("--text_column", "review"), "no column 'review'"),
        ("same.csv", ("--engine", "beam", "--workers", "2"), "is set by its own options, behind --"),
        ("same.csv", ("--", "--runner"), "takes no options behind --"),
        ("header.csv", (), "there is no text to answer"),
    ],
)
def test_what_is_refused(source, arguments, message, model, here, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = {"same.csv": "text\nbank\n", "same.jsonl": '{"text": "bank"}\n', "a.csv": "text\nbank\n",
                "b.csv": "text,id\nbank,1\n", "header.csv": "text\n"}  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    assert message in refused(capsys, model, source, "out", *arguments)


def test_late_columns_are_as_predict_has_them(model, here, tmp_path, capsys):
    lines = ['{"text": "bank", "id": 1}'] * 1001
    for name, late in (("note", '{"text": "goal", "note": "late"}'), ("label", '{"text": "goal", "label": "x"}')):
        (tmp_path / f"{name}.jsonl").write_text("\n".join([*lines, late, *lines[:600]]))
    source, output = tmp_path / "note.jsonl", tmp_path / "note"
    assert batch(model, source, output, rows=500) == 0, capsys.readouterr().err
    predicted(model, source, tmp_path / "predicted.jsonl")
    parts = [path.read_text() for path in sorted(output.glob("*.jsonl"))]
    found, expected = (
        [{name: cell for name, cell in json.loads(line).items() if cell is not None} for line in text.splitlines()]
        for text in ("".join(parts), (tmp_path / "predicted.jsonl").read_text())
    )
    assert found == expected and found[1001]["note"] == "late" and len(found) == 1602
    error = refused(capsys, model, source, tmp_path / "csv", "--format", "csv", rows=500)
    assert "note.jsonl, line 1002: note: no row at the beginning has it; write a .jsonl" in error
    assert "line 1002" in refused(capsys, model, source, tmp_path / "one", "--format", "csv", rows=5000)
    for rows in (500, 5000):
        error = refused(capsys, model, tmp_path / "label.jsonl", tmp_path / f"label-{rows}", rows=rows)
        assert "label.jsonl, line 1002 has a column 'label', as an answer is named" in error


def test_answers_beside_the_input_are_no_input(model, here, tmp_path, capsys):
    (tmp_path / "a.csv").write_text("text\nbank\n")
    assert "is the folder of the input" in refused(capsys, model, tmp_path / "*.csv", tmp_path)
    for _ in range(2):
        assert batch(model, tmp_path / "**" / "*.csv", tmp_path / "out") == 0
        assert "1 row is answered in 1 part" in capsys.readouterr().out


def test_a_file_named_as_a_part_keeps_its_answers(model, here, tmp_path, capsys):
    for name in ("a.csv", "a-000001.csv"):
        (tmp_path / name).write_text("text\n" + "bank\n" * 6)
    assert batch(model, tmp_path / "*.csv", tmp_path / "out") == 0
    os.utime(tmp_path / "a.csv", (1, 1))
    capsys.readouterr()
    assert batch(model, tmp_path / "*.csv", tmp_path / "out", "--redo") == 0
    assert "12 rows are answered in 4 parts, 2 of which were there" in capsys.readouterr().out


def test_a_killed_process_is_replaced(model, tmp_path):
    source, output = write_jsonl(tmp_path / "a.jsonl", records(4000)), tmp_path / "out"
    arguments = ("--input", source, "--output", output, "--part_rows", 500, "--workers", 1, "--bad_rows", "keep")
    with started(model, *arguments) as process:
        kill_writer(output, after=2)
        said = process.communicate()[0]
    assert process.returncode == 0 and "died with status -9: part" in said, said
    assert "4,000 rows are answered in 8 parts" in said
    found = answers(output, "jsonl")
    assert [row[0] for row in found[1:]] == list(range(4000))
    assert_alike(found, predicted(model, source, tmp_path / "predicted.jsonl", "--bad_rows", "keep"))


@pytest.mark.slow
def test_a_killed_process_and_a_killed_command_lose_and_repeat_nothing(model, tmp_path):
    source, output = write_jsonl(tmp_path / "a.jsonl", records(12000)), tmp_path / "out"
    arguments = ("--input", source, "--output", output, "--part_rows", 300, "--workers", 2, "--bad_rows", "keep")
    with started(model, *arguments) as process:
        kill_writer(output, after=2)
        kill_writer(output, after=9)
        process.kill()
        said = process.communicate()[0]
    assert "died with status -9: part" in said
    there = {path.name: path.stat().st_ino for path in output.glob("*.jsonl")}
    assert 9 <= len(there) < 38
    with started(model, *arguments) as process:
        said = process.communicate()[0]
    assert process.returncode == 0, said
    assert "12,000 rows are answered in 40 parts" in said
    now = {path.name: path.stat().st_ino for path in output.glob("*.jsonl")}
    assert {name: now[name] for name in there} == there, "what was there is not answered again"
    assert not list(output.glob(".*.partial"))
    found = answers(output, "jsonl")
    assert [row[0] for row in found[1:]] == list(range(12000))
    assert_alike(found, predicted(model, source, tmp_path / "predicted.jsonl", "--bad_rows", "keep"))
