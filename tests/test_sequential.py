"""Decisions with a stated error: confidence sequences, and versions compared by what both have answered."""

import json
from argparse import Namespace
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.special import betaln
from tiny_export import TEXTS, export_tiny

from export import compare, shadow
from export.answers import Answers
from export.request_log import RequestLog
from export.sequential import drop_bounds, share_bounds
from pipeline.tasks.single_label import SingleLabel


def ratio(share: float, count: int, rows: int) -> float:
    """Of the mixture to a share, by numbers."""
    shares = (np.arange(200_000) + 0.5) / 200_000
    mixture = np.mean(shares**count * (1 - shares) ** (rows - count))
    return mixture / (share**count * (1 - share) ** (rows - count))


@pytest.mark.parametrize(("count", "rows"), [(3, 10), (1, 2), (40, 200)])
def test_bounds_are_where_the_ratio_is_one_over_the_error(count, rows):
    found = share_bounds(count, rows, 0.05)
    assert found.low < count / rows < found.high
    for share in (found.low, found.high):
        assert ratio(share, count, rows) == pytest.approx(20, rel=1e-3)


def test_bounds_of_nothing_and_of_all():
    assert (share_bounds(0, 0, 0.05).low, share_bounds(0, 0, 0.05).high) == (0, 1)
    none, every = share_bounds(0, 1000, 0.05), share_bounds(1000, 1000, 0.05)
    # (1 - high)^1000 = 0.05 / 1001
    assert none.low == 0 and none.high == pytest.approx(1 - (0.05 / 1001) ** (1 / 1000))
    assert every.high == 1 and every.low == pytest.approx(1 - none.high)
    assert betaln(1, 1001) == pytest.approx(-np.log(1001))
    assert share_bounds(999_999, 1_000_000, 0.05).low > 0.99997


def test_who_looks_after_every_row_is_wrong_no_more_often_than_stated():
    chance, wrong = np.random.default_rng(0), 0
    for share in (0.5, 0.9, 0.99) * 30:
        counts = np.cumsum(chance.random(600) < share)
        looks = [share_bounds(int(counts[rows - 1]), rows, 0.1) for rows in range(1, 601, 12)]
        wrong += any(not look.low <= share <= look.high for look in looks)
    assert wrong / 90 < 0.1


def test_verdicts():
    many = share_bounds(9900, 10_000, 0.05)
    assert many.at_least(0.98) == "passed" and many.at_least(0.995) == "failed" and many.at_least(0.99) == "undecided"
    drop = drop_bounds(100, 50, 10_000, 0.05)
    assert drop.low < 0.005 < drop.high
    assert drop.at_most(0.02) == "passed" and drop.at_most(-0.01) == "failed" and drop.at_most(0.005) == "undecided"


@pytest.fixture(scope="module")
def versions(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("versions")
    return [str(export_tiny(folder, seed=seed)) for seed in (3, 4)]


def write(path: Path, rows: int) -> list[str]:
    texts = [text for text in TEXTS if text and text.isascii()]
    path.write_text("text,label\n" + "".join(f'"{texts[i % len(texts)]} {i}",sport\n' for i in range(rows)))
    return ["--data", str(path), "--latency_requests", "0"]


def test_compare_stops_when_it_is_clear(versions, tmp_path, capsys):
    data = write(tmp_path / "data.csv", 600)
    assert compare.main([versions[0], versions[0], *data, "--min_agreement", "0.9", "--error", "0.05", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 128 and found["gates"][0]["low"] >= 0.9 and found["gates"][0]["verdict"] == "passed"
    assert compare.main([*versions, *data, "--min_agreement", "0.99", "--error", "0.05", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 64 and found["gates"][0]["high"] < 0.99
    # The numbers of changed rows are those of the file.
    lines = (tmp_path / "data.csv").read_text().splitlines()
    assert all(row["text"] in lines[row["row"]] for row in found["changed"])


def test_compare_may_not_decide(versions, tmp_path, capsys):
    data = write(tmp_path / "data.csv", 100)
    same = [versions[0], versions[0], *data, "--error", "0.05"]
    assert compare.main([*same, "--min_agreement", "0.99"]) == 3
    assert "at least 0.99: undecided" in capsys.readouterr().out
    assert compare.main([*same, "--min_agreement", "0.5", "--max_accuracy_drop", "0.3"]) == 0
    assert compare.main([*same, "--min_agreement", "0.5", "--max_accuracy_drop", "0"]) == 3
    assert compare.main([*same[:-1], "2"]) == 2


class Labelling:
    """A model whose label of a text is its word of that number; asked in any order, any number of times."""

    def __init__(self, word: int):
        self.word, self.task = word, SingleLabel(("a", "b"))

    def __call__(self, texts, batch_size):
        labels = np.array([text.split()[self.word] for text in texts], object)
        sure = np.full(len(texts), 0.9, np.float32)
        return Answers({"label": labels, "score": sure, "probabilities": np.stack([sure, 1 - sure], 1)})


def test_a_look_costs_the_same_however_many_came_before(monkeypatch):
    chance, rows = np.random.default_rng(0), 4000
    right, old = (chance.choice(["a", "b"], rows) for _ in range(2))
    # The new one is another in a twentieth of the rows; in the first looks no label is one that the models know.
    new = np.where(chance.random(rows) < 0.05, np.where(old == "a", "b", "a"), old)
    right[:200] = "unheard of"
    asked, compare_rows = [], SingleLabel.compare

    def counted(self, old, answers, truth):
        asked.append(len(answers[0]["label"]))
        return compare_rows(self, old, answers, truth)

    monkeypatch.setattr(SingleLabel, "compare", counted)
    options = Namespace(error=0.05, min_agreement=0.95, max_accuracy_drop=0.0, max_mae_rise=None, max_slowdown=None,
                        batch_size=32)  # fmt: skip
    texts, truth = [(f"{a} {b}",) for a, b in zip(old, new, strict=True)], [[label] for label in right]
    models = [Labelling(0), Labelling(1)]
    outputs = compare._until_decided(options, models, texts, truth)
    assert len(outputs[0]["label"]) == rows and outputs[1]["label"].tolist() == new.tolist()
    assert max(asked) <= compare.LOOK and sum(asked) == rows
    counts = Counter()
    for start in range(0, rows, compare.LOOK):
        look = slice(start, start + compare.LOOK)
        part = [{name: values[look] for name, values in side.items()} for side in outputs]
        counts.update(compare._counted(models, part, truth[look]))
    whole = {"rows": rows, "agreement": float((old == new).mean())} | models[1].task.compare(
        models[0].task, outputs, truth
    )
    running, known = (compare._gates(found, options) for found in (compare._so_far(counts, True), whole))
    for gate, wanted in zip(running, known, strict=True):
        assert gate["verdict"] == wanted["verdict"]
        assert [gate[name] for name in ("value", "low", "high")] == pytest.approx(
            [wanted[name] for name in ("value", "low", "high")]
        )


def logged(folder: Path, changed: float, rows: int = 2000) -> Path:
    """Both sides' answers to the same texts, of which a share differs, some more than once, some of one side alone."""
    chance, path = np.random.default_rng(0), folder / "requests.jsonl"
    log = RequestLog(path, share=1)
    for i in range(0, rows, 4):
        texts = [f"text {i + k}" for k in range(4)]
        labels = chance.choice(["a", "b"], 4).tolist()
        log.add("news", {"text": texts}, {"label": labels}, label="stable")
        other = [{"a": "b", "b": "a"}[one] if chance.random() < changed else one for one in labels]
        log.add("news", {"text": texts}, {"label": other}, label="canary", version=4)
        log.add("news", {"text": texts}, {"label": ["c"] * 4}, label="stable")
        log.add("others", {"text": texts}, {"label": ["c"] * 4}, label="canary")
    log.add("news", {"text": ["asked once"]}, {"label": ["a"]}, label="stable")
    return path


@pytest.mark.parametrize(("changed", "status"), [(0.01, 0), (0.1, 1), (0.05, 3)])
def test_shadow_logs_decide(changed, status, tmp_path, capsys):
    log, written = logged(tmp_path, changed), tmp_path / "found.json"
    arguments = [str(log), "--old", "stable", "--model", "news", "--min_agreement", "0.95", "--json", str(written)]
    assert shadow.main([*arguments, "--new", "canary"]) == status
    found = json.loads(written.read_text())
    assert (found["rows"], found["waiting"]) == (2000, 1)
    assert found["gates"][0]["value"] == pytest.approx(1 - changed, abs=0.015)
    assert {(move["old"], move["new"]) for move in found["moves"]} == {("a", "b"), ("b", "a")}
    assert shadow.main([*arguments, "--new", "4"]) == status
    assert "2000 texts that stable and canary" in capsys.readouterr().out


def test_a_shadow_knows_a_text_by_the_names_of_its_inputs_not_by_their_order(tmp_path, capsys):
    path = tmp_path / "requests.jsonl"
    log = RequestLog(path, share=1)
    for i in range(40):
        texts = {"text_a": [f"a {i}"], "text_b": [f"b {i}"]}
        log.add("news", texts, {"label": ["a"]}, label="stable")
        log.add("news", dict(reversed(texts.items())), {"label": ["a"]}, label="canary")
    assert shadow.main([str(path), "--old", "stable", "--new", "canary", "--min_agreement", "0.5"]) == 0
    assert "40 texts that stable and canary have answered, 0 that one has" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--old", "stable", "--new", "stable"], "both stable"),
        (["--old", "stable", "--new", "next"], "no text that both"),
        (["--old", "stable", "--new", "canary", "--error", "0"], "--error"),
        (["none.jsonl", "--old", "stable", "--new", "canary"], "none.jsonl: no such file"),
    ],
)
def test_bad_input_is_one_sentence(arguments, sentence, tmp_path, capsys):
    assert shadow.main([str(logged(tmp_path, 0, 40)), *arguments]) == 2
    assert sentence in capsys.readouterr().err
