"""Scores by group of the rows: what they are, and which differences are said."""

import csv
import json
import random

import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact
from tiny import SUBJECTS, write_config

from export.versions import find_version, read_metadata
from pipeline.config import DataConfig
from pipeline.data.extra_columns import LANGUAGE, Column
from pipeline.data.load import load
from pipeline.evaluation.groups import group_findings, group_tables, scores_by_group
from pipeline.evaluation.interval import interval_of
from pipeline.run import main
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.number import Number
from pipeline.tasks.single_label import SingleLabel


class Rows:
    """As much of a Split as scores by group ask for."""

    def __init__(self, values, groups):
        self.values, self.names = np.asarray(values), list(dict.fromkeys(groups))
        self.codes = np.array([self.names.index(group) for group in groups])
        self.store = self
        self.columns = {LANGUAGE: Column(LANGUAGE, "lang", "", self.names)}

    def targets(self):
        return self.values

    def extra(self, role):
        return self.codes


def answered(values, right):
    """Probabilities of two classes that decide for `values` where `right`."""
    decided = np.where(right, values, 1 - np.asarray(values))
    return np.eye(2, dtype=np.float32)[decided] * 0.8 + 0.1


def by_language(right, groups):
    values = np.arange(len(groups)) % 2
    return scores_by_group(SingleLabel(("a", "b")), Rows(values, groups), answered(values, right))


def test_groups_have_their_accuracy_with_wilsons_interval():
    right = [True] * 90 + [False] * 10 + [True] * 10 + [False] * 10
    found = by_language(np.array(right), ["en"] * 100 + [""] * 20)["lang"]
    assert found["score"] == "accuracy" and list(found["groups"]) == ["en", "(none)"]
    group = found["groups"]["(none)"]
    interval = binomtest(10, 20).proportion_ci(method="wilson")
    assert group["accuracy"] == 0.5 and group["interval"] == pytest.approx([interval.low, interval.high])
    # Of two groups both are compared with each other: Holm doubles the smaller, and leaves the other as large.
    p = fisher_exact([[10, 10], [90, 10]])[1]
    assert group["p_value"] == found["groups"]["en"]["p_value"] == pytest.approx(2 * p)


def test_a_difference_beyond_chance_is_a_warning_and_another_a_note():
    groups = ["en"] * 200 + ["de"] * 200 + ["sw"] * 40
    right = np.ones(440, bool)
    right[[5, 250, 401]] = False
    warnings, notes = group_findings(by_language(right, groups), "test")
    assert warnings == []
    assert notes == [
        "By “lang”, the accuracy of the test rows, 99.3% in all, is worst on “sw” (97.5%, 40 rows); the differences "
        "between the 3 groups may be chance."
    ]
    right[400:420] = False
    by_group = by_language(right, groups)
    (warning,), notes = group_findings(by_group, "test")
    assert warning.startswith(
        "By “lang”, the accuracy of the test rows, 95.0% in all, is worse on “sw” (50.0%, 40 rows):"
    )
    (table,) = group_tables(by_group)
    assert table.header == ("by lang", "accuracy %", "95 % interval", "macro f1", "rows")
    assert [row[0] for row in table.rows] == ["sw", "en", "de"] and table.rows[0][1] == "50.0*"
    assert table.lines == ["* differs from the other rows by more than chance"]


def test_an_empty_cell_and_one_that_says_none_are_two_groups(tmp_path):
    groups = ["en"] * 30 + ["(none)"] * 20 + [""] * 10
    found = by_language(np.array([True] * 50 + [False] * 10), groups)["lang"]["groups"]
    assert {name: (group["rows"], group["accuracy"]) for name, group in found.items()} == {
        "en": (30, 1.0), "(none)": (20, 1.0), "((none))": (10, 0.0)
    }  # fmt: skip
    lines = [f"text {row},{'ab'[row % 2]},{group}" for row, group in enumerate(groups)]
    (tmp_path / "rows.csv").write_text("text,label,lang\n" + "\n".join(lines) + "\n")
    settings = {"language_column": "lang", "language_temperature": 2, "validation_fraction": 0, "test_fraction": 0}
    splits = load(DataConfig(train=str(tmp_path / "rows.csv"), **settings), tmp_path / "cache")
    assert splits.summary["train"]["languages"] == {"en": 30, "(none)": 20, "((none))": 10}
    assert any("(none) " in note and "((none)) " in note for note in splits.notes)


@pytest.mark.slow
def test_chance_alone_is_rarely_a_finding():
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(40):
        found = by_language(generator.random(300) < 0.8, generator.integers(0, 8, 300).astype(str).tolist())
        wrong += bool(group_findings(found, "test")[0])
    assert wrong <= 4


def test_only_the_largest_of_many_groups_are_scored():
    groups = [str(i) for i in range(150)] + ["0"] * 10
    found = by_language(np.ones(160, bool), groups)["lang"]
    assert len(found["groups"]) == 100 and found["groups_left_out"] == 50 and found["groups"]["0"]["rows"] == 11
    assert group_tables({"lang": found})[0].lines == ["50 smaller groups are not shown"]
    # The small ones are among all rows all the same.
    found = by_language(np.arange(160) < 100, groups)
    assert found["lang"]["of_all"] == 100 / 160
    ((finding,), _) = group_findings(found, "test")
    assert "the accuracy of the test rows, 62.5% in all, is worse on" in finding


def test_every_task_is_scored_by_group():
    generator = np.random.default_rng(0)
    values = generator.normal(size=200)
    noise = np.where(np.arange(200) < 50, 5.0, 0.1)
    predictions = (values + noise * generator.normal(size=200)).astype(np.float32)[:, None]
    found = scores_by_group(Number(), Rows(values, ["x"] * 50 + ["y"] * 149 + ["z"]), predictions)
    groups = found["lang"]["groups"]
    assert groups["x"]["mae"] == pytest.approx(np.abs(values - predictions[:, 0])[:50].mean(), rel=1e-6)
    assert groups["x"]["interval"][0] < groups["x"]["mae"] < groups["x"]["interval"][1]
    assert groups["z"]["interval"] is None and groups["z"]["p_value"] is None
    warnings, _ = group_findings(found, "validation")
    assert "the mae of the validation rows" in warnings[0] and "is worse on “x”" in warnings[0]
    hot = (generator.random((20, 2)) < 0.5).astype(np.float32)
    found = scores_by_group(MultiLabel(("a", "b")), Rows(hot, ["x"] * 10 + ["y"] * 10), np.abs(hot - 0.1))
    assert found["lang"]["groups"]["y"]["accuracy"] == 1
    json.dumps(found, allow_nan=False)


def test_labels_that_a_group_lacks_do_not_count_against_it():
    names = [f"l{i}" for i in range(10)]
    hot = np.zeros((30, 10), np.float32)
    hot[np.arange(20), np.arange(20) % 5] = hot[20:25, 9] = 1
    found = scores_by_group(MultiLabel(tuple(names)), Rows(hot, ["x"] * 20 + ["y"] * 5 + ["z"] * 5), np.abs(hot - 0.1))
    assert {name: group["macro_f1"] for name, group in found["lang"]["groups"].items()} == {"x": 1, "y": 1, "z": None}
    said = "macro f1 is over the labels that the rows of a group have"
    assert said in group_tables(found)[0].lines
    # One label a row: what is wrongly given counts as a row that is missed, not as a label of F1 0.
    right = np.array([True] * 38 + [False, False])
    values = np.array([0] * 20 + [1] * 20)
    rows = Rows(values, ["x"] * 20 + ["y"] * 20)
    found = scores_by_group(SingleLabel(("a", "b")), rows, answered(values, right))
    assert found["lang"]["groups"]["y"]["macro_f1"] == pytest.approx(36 / 38)
    assert said in group_tables(found)[0].lines


def test_students_interval():
    assert interval_of(np.array([1.0, 2.0, 3.0]), share=False) == pytest.approx([-0.48414, 4.48414], abs=1e-4)


def write_languages(path, rows=300):
    """Rows in two languages, of which the one, a sixth, is labelled at random; with author, region and weight."""
    chance = random.Random(0)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "lang", "author", "region", "weight"])
        for i in range(rows):
            label, small = chance.choice(("sport", "money")), i % 6 == 0
            words = chance.choices(SUBJECTS[label], k=4)
            given = chance.choice(("sport", "money")) if small else label
            writer.writerow([" ".join(words), given, "sw" if small else "en", i % 60, "ab"[i % 2], i % 4])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run that uses every column at once, its output, and its config."""
    folder = tmp_path_factory.mktemp("columns")
    config = write_config(
        folder,
        data={"language_column": "lang", "language_temperature": 2, "group_column": "author", "weight_column": "weight",
              "validation_fraction": 0.2, "test_fraction": 0.3},
        training={"epochs": 3, "learning_rate": 0.01},
        export={"signatures": []},
    )  # fmt: skip
    write_languages(folder / "train.csv")
    arguments = ["--config", str(config), "--run_dir", str(folder / "run"), "--evaluation.group_columns", "[region]"]
    assert main(arguments) == 0
    return folder / "run", arguments


def test_a_run_scores_by_language_and_group(run, capsys):
    folder, arguments = run
    found = json.loads((folder / "metrics.json").read_text())
    by_group = found["test"]["by_group"]
    assert list(by_group) == ["lang", "region"] and "by_group" not in found["validation"]
    languages = by_group["lang"]["groups"]
    assert languages["en"]["accuracy"] > 0.9 > languages["sw"]["accuracy"] and languages["sw"]["p_value"] < 0.05
    assert sum(group["rows"] for group in by_group["region"]["groups"].values()) == found["test"]["rows"]
    report = (folder / "report.html").read_text()
    assert "By lang" in report and "By region" in report and "is worse on “sw”" in report
    described = read_metadata(find_version(folder))["run"]
    assert described["by_group"]["test"] == by_group
    # Groups are of the evaluation: a finished run is scored by others without being trained anew.
    assert main([*arguments[:-1], "[author]"]) == 0
    output = capsys.readouterr().out
    assert "training is already complete" in output and "by author" in output and "by lang" in output
    assert "have the weight 0 in data.weight_column 'weight': left out of training." in output
    assert "rows that an epoch draws at data.language_temperature 2: en " in output
    assert list(json.loads((folder / "metrics.json").read_text())["test"]["by_group"]) == ["lang", "author"]
