"""A new version against the old one: what is counted, and the gates."""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score
from tiny_export import LABELS, TEXTS, export_tiny

from export import compare
from export.loading import Classifier
from pipeline.tasks.multi_label import MultiLabel

ROWS = [text for text in TEXTS if text and text.isascii()] * 2


@pytest.fixture(scope="module")
def versions(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("versions")
    return [export_tiny(folder, seed=seed) for seed in (3, 4)]


@pytest.fixture(scope="module")
def answers(versions) -> list:
    return [Classifier(version)(ROWS) for version in versions]


def write(path: Path, columns: dict) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def run(capsys, versions, data, *options) -> tuple[int, dict]:
    """Exit status and what --json prints; no timing unless asked for."""
    settings = [*map(str, options), *([] if "--latency_requests" in options else ["--latency_requests", "0"])]
    status = compare.main([*map(str, versions), "--data", str(data), "--json", *settings])
    return status, json.loads(capsys.readouterr().out)


def test_counts_are_those_of_the_answers(versions, answers, tmp_path, capsys):
    rng = np.random.default_rng(0)
    labels = rng.choice(LABELS, len(ROWS)).tolist()
    data = write(tmp_path / "a.csv", {"text": ROWS, "label": labels})
    status, found = run(capsys, versions, data, "--min-agreement", 0)
    assert status == 0 and found["passed"]
    old, new = (answer.labels for answer in answers)
    assert found["rows"] == len(ROWS)
    assert found["agreement"] == pytest.approx(np.mean(np.array(old) == new))
    assert 0 < found["agreement"] < 1, "the models must differ on some texts"
    changed = [i for i in range(len(ROWS)) if old[i] != new[i]]
    assert [row["row"] - 1 for row in found["changed"]] == changed
    assert [(row["text"], row["label"], row["old"], row["new"]) for row in found["changed"]] == [
        (ROWS[i], labels[i], old[i], new[i]) for i in changed
    ]
    assert sum(move["count"] for move in found["moves"]) == len(changed)
    difference = np.abs(answers[0].probabilities - answers[1].probabilities).max()
    assert found["largest_probability_change"] == pytest.approx(difference, abs=1e-5)
    for side, given in (("old", old), ("new", new)):
        assert found["scores"][side]["accuracy"] == pytest.approx(accuracy_score(labels, given))
        assert found["scores"][side]["macro_f1"] == pytest.approx(f1_score(labels, given, average="macro"))
        f1 = f1_score(labels, given, average=None, labels=LABELS, zero_division=0)
        assert [row[f"{side}_f1"] for row in found["per_class"]] == pytest.approx(f1.tolist())
        assert [row[f"{side}_count"] for row in found["per_class"]] == [given.count(name) for name in LABELS]
    hits = [np.array(given) == labels for given in (old, new)]
    assert found["scores"]["fixed"] == (hits[1] & ~hits[0]).sum()
    assert found["scores"]["broken"] == (hits[0] & ~hits[1]).sum()


def test_gates_decide_the_exit_status(versions, answers, tmp_path, capsys):
    new = answers[1].labels
    data = write(tmp_path / "a.jsonl.csv", {"body": ROWS, "kind": new})
    columns = ["--text_column", "body", "--label_column", "kind"]
    # The new model is always right by these labels, the old one by those below.
    assert run(capsys, versions, data, *columns, "--min_agreement", 0, "--max_accuracy_drop", 0)[0] == 0
    assert run(capsys, versions, data, *columns)[0] == 1
    status, found = run(capsys, versions[::-1], data, *columns, "--min_agreement", 0, "--max_accuracy_drop", 0.001)
    assert status == 1
    assert [(gate["gate"], gate["passed"]) for gate in found["gates"]] == [
        ("agreement", True),
        ("accuracy_drop", False),
    ]
    same = [versions[0], versions[0]]
    status, found = run(capsys, same, data, *columns, "--min_agreement", 1, "--max_accuracy_drop", 0)
    assert status == 0 and found["agreement"] == 1 and found["changed"] == []
    timed = ["--latency_requests", 3, "--max_slowdown"]
    assert run(capsys, same, data, *columns, *timed, 1000)[0] == 0
    status, found = run(capsys, same, data, *columns, *timed, 0.0001)
    assert status == 1 and found["latency_ms"]["slowdown"] > 0


def test_lines_of_text_without_labels_and_the_table(versions, answers, tmp_path, capsys):
    data = tmp_path / "a.txt"
    # The tokenizer leaves out control characters; a terminal would not.
    data.write_text("".join(f"{text}\x1b\x9b\n" for text in ROWS))
    assert compare.main([*map(str, versions), "--data", str(data), "--latency-requests", "2"]) == 1
    output = capsys.readouterr().out
    assert "\\u001b\\u009b" in output and output.replace("\n", "").isprintable()
    moves = {(a, b) for a, b in zip(answers[0].labels, answers[1].labels, strict=True) if a != b}
    assert all(f"  {a} -> {b}: " in output for a, b in moves)
    assert "accuracy" not in output and "one text, p50/p95/p99 in ms" in output
    assert output.endswith("at least 0.99: FAILED\n")


@pytest.mark.slow
def test_several_labels_and_other_label_sets(tmp_path, capsys):
    """Several labels a text count one by one; a label that only the data has is a row that both get wrong."""
    task = MultiLabel(LABELS, 0.4, "+")
    versions = [export_tiny(tmp_path / "m", seed=seed, task=task) for seed in (3, 4)]
    given = Classifier(versions[1])(ROWS).labels
    assert any("+" in label for label in given)
    shuffled = ["+".join(reversed(label.split("+"))) for label in given]
    data = write(tmp_path / "a.csv", {"text": ROWS, "label": shuffled})
    _, found = run(capsys, versions, data)
    assert found["scores"]["new"]["accuracy"] == 1
    data = write(tmp_path / "b.csv", {"text": ROWS, "label": [*shuffled[:-1], "weather"]})
    _, found = run(capsys, versions, data)
    assert found["scores"]["unknown_labels"] == 1
    assert found["scores"]["new"]["accuracy"] == pytest.approx(1 - 1 / len(ROWS))


def test_a_column_of_the_only_label(tmp_path, capsys):
    versions = [export_tiny(tmp_path / "m", seed=seed, task=MultiLabel(("space",))) for seed in (3, 4)]
    given = np.array([bool(label) for label in Classifier(versions[1])(ROWS).labels])
    right = given.copy()
    right[:3] = ~given[:3]
    f1 = f1_score(right, given)
    for column, cells in (("space", right.astype(int)), ("label", ["space" if yes else "" for yes in right])):
        data = write(tmp_path / "a.csv", {"text": ROWS, column: cells})
        _, found = run(capsys, versions, data, "--label_column", column)
        assert found["scores"]["new"] == pytest.approx({"accuracy": 1 - 3 / len(ROWS), "macro_f1": f1})
        (row,) = found["per_class"]
        assert row["support"] == right.sum() and row["new_f1"] == pytest.approx(f1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{old}", "{new}", "--data", "absent.csv"], "--data absent.csv: no such file"),
        (["{old}", "absent", "--data", "{data}"], "absent: no such folder"),
        (
            ["{old}", "{new}", "--data", "{data}", "--text_column", "body"],
            "has no column 'body'; it has 'text',",
        ),
        (["{old}", "{new}", "--data", "{data}", "--label_column", "kind"], "no label of the data, such as 'x'"),
        (["{old}", "{new}", "--data", "{data}", "--max_accuracy_drop", "0"], "--max_accuracy_drop needs labels"),
        (["{old}", "{new}", "--data", "{data}", "--min_agreement", "99"], "it is a share"),
        (["{old}", "{new}", "--data", "{empty}"], "there is no text in it"),
        (["{old}", "{new}", "--data", "{lines}", "--label_column", "kind"], "has no column 'kind'; it has 'a'"),
        (["{old}", "{new}", "--data", "{blank}"], "b.csv, line 3: the row has no text; mend it, or set --bad_rows"),
    ],
)
def test_bad_input_is_one_sentence(arguments, message, versions, tmp_path, capsys):
    places = {
        "old": versions[0],
        "new": versions[1],
        "data": write(tmp_path / "a.csv", {"text": ["a"], "kind": ["x"]}),
        "empty": write(tmp_path / "e.csv", {"text": []}),
        "lines": tmp_path / "a.txt",
        "blank": write(tmp_path / "b.csv", {"text": ["a", " "], "kind": ["x", "y"]}),
    }
    places["lines"].write_text("a\n")
    assert compare.main([argument.format(**places) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_what_inputs_are_called_takes_no_answers_place():
    task = MultiLabel(LABELS)
    keys = compare._keys(task, task, ["old", "new_title", "label"])
    assert keys["inputs"] == ["input_old", "new_title", "input_label"]
    row = {"row": 1, "input_old": "a text", "new_title": "a title", "input_label": "c", "old": "x", "new": "y"}
    keys = keys | {"old": ["old"], "new": ["new"]}
    found = {"rows": 1, "old": "m/1", "new": "m/2", "agreement": 0.0, "lines": [], "gates": [], "inputs": []}
    assert "  row 1: x -> y  a text | a title | c" in compare._table(found | {"changed": [row], "keys": keys})


def test_no_gate_is_minus_zero():
    options = argparse.Namespace(
        min_agreement=0, max_accuracy_drop=0.1, max_mae_rise=None, max_slowdown=None, error=None
    )
    scores = {side: {"accuracy": 0.5} for side in ("old", "new")}
    gate = compare._gates({"agreement": 1.0, "scores": scores}, options)[1]
    assert str(gate["value"]) == "0.0"
    assert "accuracy_drop 0.0000," in compare.gate_line(gate | {"value": -1e-9})
