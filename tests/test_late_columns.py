"""JSON lines that bring a column on the way: a key of the output means one thing from its first line to its last."""

import argparse
import io
import json
from types import SimpleNamespace

import pytest
from serving_double import ServingDouble
from tiny_export import export_tiny

from export.client import main as client
from export.explained import explain
from export.loading import Explanation
from export.texts import Texts, add_text_arguments
from pipeline.data.formats import records
from pipeline.errors import UserError

KNOWN = 4
"""Rows at the beginning of a file that tell its columns, here."""


@pytest.fixture(autouse=True)
def few_tell(monkeypatch):
    monkeypatch.setattr(records, "LOOKAHEAD", KNOWN)


def write(path, first: int, name: str, text: str = "goal team"):
    """Rows of which those from `first` on have another column."""
    rows = [{"id": i, "text": text} | ({name: "MINE"} if i >= first else {}) for i in range(4 * KNOWN)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def double(tmp_path_factory):
    folder = tmp_path_factory.mktemp("news")
    export_tiny(folder)
    with ServingDouble(folder, "news") as double:
        yield double


def ask(double, path, capsys):
    status = client(["--target", double.grpc, "--model", "news", "--format", "jsonl", "--input", str(path),
                     "--batch_size", "2", "--parallel", "1"])  # fmt: skip
    output, error = capsys.readouterr()
    return status, [json.loads(line) for line in output.splitlines()], error


def test_the_client_names_its_answers_once(double, tmp_path, capsys):
    status, lines, _ = ask(double, write(tmp_path / "early.jsonl", 0, "label"), capsys)
    assert status == 0 and all(line["label"] == "MINE" and line["predicted_label"] for line in lines)
    status, lines, _ = ask(double, write(tmp_path / "other.jsonl", KNOWN + 2, "note"), capsys)
    assert status == 0 and all(line["label"] != "MINE" for line in lines) and lines[-1]["note"] == "MINE"
    for name in ("label", "score", "reason"):
        status, lines, error = ask(double, write(tmp_path / "late.jsonl", KNOWN + 2, name), capsys)
        assert status == 2 and len(lines) == KNOWN + 2
        assert f"late.jsonl, line {KNOWN + 3} has a column {name!r}, as an answer is named" in error


def test_rows_without_texts_know_the_names_of_the_answers(double, tmp_path, capsys):
    path = write(tmp_path / "rows.jsonl", 0, "label", text=" ")
    with path.open("a") as file:
        file.write(json.dumps({"id": 99, "text": "goal", "label": "MINE"}) + "\n")
    status, lines, _ = ask(double, path, capsys)
    assert status == 0 and {line["label"] for line in lines} == {"MINE"}
    assert lines[0]["predicted_reason"] and lines[-1]["predicted_label"]


class Explaining:
    """A model that explains each text by nothing."""

    task = SimpleNamespace(answer_names=("label", "score"))

    def explain(self, texts, batch_size):
        return [Explanation({"label": "a", "score": 0.5}, [], [], [], 0.0, {}, None) for _ in texts]


def explained(path) -> list[dict]:
    parser = argparse.ArgumentParser()
    add_text_arguments(parser)
    file = io.StringIO()
    list(explain(Explaining(), Texts(parser.parse_args(["--input", str(path)]), ["text"]), 4, "jsonl", file))
    return list(map(json.loads, file.getvalue().splitlines()))


def test_explanations_are_named_once(tmp_path):
    lines = explained(write(tmp_path / "early.jsonl", 2, "label"))
    assert all(line["predicted_label"] == "a" for line in lines) and lines[-1]["label"] == "MINE"
    lines = explained(write(tmp_path / "other.jsonl", KNOWN + 2, "note"))
    assert all(line["label"] == "a" for line in lines) and lines[-1]["note"] == "MINE"
    for name in ("score", "pieces", "reason"):
        with pytest.raises(
            UserError, match=f"late.jsonl, line {KNOWN + 3} has a column '{name}', as an answer is named"
        ):
            explained(write(tmp_path / "late.jsonl", KNOWN + 2, name))
