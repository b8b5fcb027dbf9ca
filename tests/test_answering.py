"""Exported classifiers asked from Python and by the command line."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from letters import LABELS, LETTERS, TASK, TEXTS, ask, live, make_model

from export.answers import rounded
from export.loading import Classifier
from export.savedmodel import ExportSettings, export_model
from export.signatures import SignatureOptions
from export.versions import ModelError, find_version
from pipeline.features import TWO_TEXTS

SETTINGS = ExportSettings(SignatureOptions(["predict_tokens", "top_k"]))


@pytest.fixture(scope="module")
def exported(model, encoder, tmp_path_factory) -> Path:
    return export_model(model, encoder, TASK, tmp_path_factory.mktemp("run") / "saved_model", settings=SETTINGS)


def test_predictor_keeps_the_order_over_batches(exported, model, encoder):
    texts = [letter * (1 + i * 7 % 20) for i, letter in enumerate(LETTERS)]
    answers = Classifier(exported)(texts, batch_size=4)
    np.testing.assert_allclose(answers.probabilities, live(model, encoder, texts), atol=1e-6)
    empty = Classifier(exported)([])
    assert empty.labels == [] and empty.probabilities.shape == (0, 3)


def test_a_model_is_found_by_run_versions_or_version(exported, tmp_path):
    run = exported.parents[1]
    assert find_version(run) == find_version(run / "saved_model") == find_version(exported) == exported
    with pytest.raises(ModelError, match="no such folder"):
        find_version(tmp_path / "absent")
    with pytest.raises(ModelError, match="no exported model"):
        find_version(tmp_path)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"broken")
    with pytest.raises(ModelError, match="is no classifier"):
        Classifier(tmp_path)
    with pytest.raises(ModelError, match="rename it"):
        Classifier(shutil.copytree(tmp_path, tmp_path / "x[1]"))


def test_command_line_in_a_fresh_process_without_the_training_code(exported, model, encoder):
    program = (
        "import sys; from export.predict import main; status = main(sys.argv[1:]);"
        "print([name for name in ('keras_nlp', 'keras_hub', 'pipeline.training') if name in sys.modules]);"
        "sys.exit(status)"
    )
    process = subprocess.run(
        [sys.executable, "-c", program, str(exported.parents[1])],
        input=b"hello world\nx\n", capture_output=True, cwd=Path(__file__).parents[1], env={**os.environ},
    )  # fmt: skip
    assert process.returncode == 0, process.stderr.decode()
    lines = process.stdout.decode().splitlines()
    best = live(model, encoder, ["hello world"])[0]
    assert lines[0] == f"{LABELS[best.argmax()]} {best.max():.4f}\thello world"
    assert len(lines) == 3 and lines[2] == "[]"


def test_command_line_csv_in_and_out(exported, model, encoder, tmp_path, capsys):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    with open(source, "w", newline="") as file:
        csv.writer(file).writerows([["id", "review"], *([i, f"{text}\nnext line"] for i, text in enumerate(TEXTS))])
    options = ["--input", source, "--text-column", "review", "--output", target, "--top", 2]
    assert ask(capsys, exported, *options) == (0, "", "")
    with open(target, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["review"]) for row in rows] == [(str(i), f"{t}\nnext line") for i, t in enumerate(TEXTS)]
    expected = live(model, encoder, [row["review"] for row in rows])
    assert [row["label"] for row in rows] == [LABELS[i] for i in expected.argmax(axis=1)]
    np.testing.assert_allclose([float(row["score_2"]) for row in rows], np.sort(expected)[:, -2], atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_command_line_reads_lines_and_jsonl_and_writes_jsonl(exported, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS) + "\n\n")
    outputs = [ask(capsys, exported, "--input", tmp_path / name, "--format", "jsonl") for name in ("a.txt", "a.jsonl")]
    rows = [[json.loads(line) for line in output.splitlines()] for _, output, _ in outputs]
    assert [row["text"] for row in rows[1]] == TEXTS
    empty = TEXTS.index("")
    assert rows[0][empty] == {"text": None, "label": None, "score": None, "reason": "is blank"}
    assert rows[1][empty] == {"text": "", "label": None, "score": None, "reason": "has no text"}
    assert rows[0][:empty] + rows[0][empty + 1 :] == rows[1][:empty] + rows[1][empty + 1 :]


def test_command_line_pairs(encoder, tmp_path, capsys, monkeypatch):
    folder = export_model(make_model(), encoder, TASK, tmp_path, TWO_TEXTS, settings=SETTINGS)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\tb c\n\td\n")))
    status, output, _ = ask(capsys, folder, "--format", "csv")
    assert status == 0
    assert [row[:2] for row in csv.reader(output.splitlines())] == [["text_a", "text_b"], ["a", "b c"], ["", "d"]]
    assert [row[-1] for row in csv.reader(output.splitlines())] == ["reason", "", "has no text"]
    status, _, error = ask(capsys, folder, "no tab")
    assert status == 2 and "text 1: the row has one text, not two with a tab" in error


def test_command_line_errors_are_one_sentence(exported, tmp_path, capsys, monkeypatch):
    (tmp_path / "a.csv").write_text("body,id\nhello,1\n")
    (tmp_path / "empty.csv").write_text("text\n")
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{oops\n')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    for arguments, message in (
        ([tmp_path / "absent", "a"], "no such folder"),
        ([tmp_path, "a"], "holds no exported model"),
        ([exported], "standard input is empty"),
        ([exported, "--input", tmp_path / "absent.txt"], "no such file"),
        ([exported, "--input", tmp_path / "a.csv"], "a.csv has no column 'text'; it has 'body', 'id'"),
        ([exported, "--input", tmp_path / "empty.csv"], "no text to answer"),
        (
            [exported, "--input", tmp_path / "bad.jsonl", "--output", tmp_path / "x.csv"],
            "bad.jsonl, line 2: the row is no",
        ),
        ([exported, "a", "--batch-size", "0"], "at least 1"),
        ([exported, "a", "--input", tmp_path / "a.csv"], "not both"),
    ):
        status, _, error = ask(capsys, *arguments)
        assert status == 2
        assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not list(tmp_path.glob("*x.csv*"))


@pytest.mark.parametrize("value", [12345678.0, 16777216.0, 0.1, -3.4e38, 1e-7, float("inf")])
def test_a_number_with_a_unit_is_written_as_the_same_float32(value):
    held = np.float32(value)
    assert np.float32(rounded(float(held), share=False)) == held
    assert len(repr(rounded(float(np.float32(0.1)), share=False))) == 3
