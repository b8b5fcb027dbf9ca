"""Behavioural tests: suites read, answers judged, and the command on a run."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from scipy.stats import binomtest
from tiny import write_config

from pipeline import run
from pipeline.behave import perturb
from pipeline.behave.__main__ import main
from pipeline.behave.judge import Judge, Model, check_tests
from pipeline.behave.rows import Rows, held_out_rows
from pipeline.behave.suite import Behaviour, Perturbation, Suite, built_in_names, change_of, read_suite
from pipeline.behave.templates import filled
from pipeline.errors import UserError
from pipeline.rows_of_run import config_of
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.number import Number
from pipeline.tasks.single_label import SingleLabel

# Suites.


def write_suite(tmp_path, content, name="suite.yaml"):
    path = tmp_path / name
    path.write_text(content)
    return str(path)


def test_perturbations_are_those_that_a_suite_may_name():
    assert set(get_args(Perturbation)) == {*perturb.TEXTS, *perturb.WORDS, "add", "swap", "replace"}


@pytest.mark.parametrize("name", built_in_names())
def test_built_in_suites(name):
    suite = read_suite(name)
    for test in suite.tests:
        changed = change_of(test, suite.lexicons)
        rows = filled(test.templates, suite.lexicons, 40, "") if test.templates else []
        assert not test.templates or len(rows) >= 10
        # Whatever a test changes, it changes in all of its own templates.
        after = perturb.changed_rows(rows, changed, "") if changed else []
        assert all(one != other for one, other in zip(rows, after, strict=False))


def test_a_suite_includes_others_and_calls_labels_as_the_model_does(tmp_path):
    write_suite(tmp_path, "lexicons: {x: [a, b]}\nlimit: 0.5\ntests: [{name: one, perturb: case}]\n", "inner.yaml")
    path = write_suite(tmp_path, """
include: [inner.yaml]
labels: {good: "1"}
limit: 0.1
tests:
  - {name: two, kind: minimum, templates: ["{x} is fine"], label: good}
  - {name: three, kind: minimum, templates: ["{x} is bad"], not_label: good, limit: 0}
""")  # fmt: skip
    suite = read_suite(path)
    assert [(test.name, test.limit) for test in suite.tests] == [("one", 0.5), ("two", 0.1), ("three", 0.0)]
    assert (suite.tests[1].label, suite.tests[2].not_label) == ("1", "1")
    assert read_suite(path, {"good": "yes"}).tests[1].label == "yes"
    with pytest.raises(UserError, match=r"--label best: no test of .* names this label; there are good"):
        read_suite(path, {"best": "yes"})


@pytest.mark.parametrize(
    ("test", "sentence"),
    [
        ("{name: x, perturb: cas}", "tests.0..perturb is cas: .*did you mean case"),
        ("{perturb: case}", "test 1: it has no name"),
        ("{name: x}", "test x: kind: invariance needs perturb"),
        ("{name: x, kind: minimum, label: a}", "needs templates"),
        ("{name: x, kind: minimum, templates: [good]}", "needs label, not_label, at_least or at_most"),
        (
            "{name: x, kind: minimum, templates: ['{what} is'], label: a}",
            r"has \{what\}; there is no such lexicon but w",
        ),
        ("{name: x, kind: minimum, templates: [a], not_label: a, at_least: 0.5}", "give label"),
        ("{name: x, perturb: add}", "perturb: add needs phrases"),
        ("{name: x, perturb: swap, words: one}", "words: one: there is no such lexicon but w"),
        ("{name: x, perturb: swap, words: w}", "at least two different words in w"),
        ("{name: x, perturb: case, phrases: [a]}", "phrases are not used by perturb: case"),
        ("{name: x, perturb: case, label: a}", "label is not of kind: invariance"),
        ("{name: x, kind: direction, perturb: case}", "needs moves: up or down"),
        ("{name: x, perturb: case, limit: 2}", "tests.0..limit is 2"),
        ("{name: x, perturb: case}, {name: x, perturb: typos}", "two tests are called 'x'"),
    ],
)
def test_what_is_wrong_with_a_suite_is_said(tmp_path, test, sentence):
    with pytest.raises(UserError, match=f"suite.yaml: .*{sentence}"):
        read_suite(write_suite(tmp_path, f"lexicons: {{w: [a]}}\ntests: [{test}]\n"))


def test_the_suite_of_the_readme(tmp_path):
    readme = (Path(perturb.__file__).parent / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    suite = read_suite(write_suite(tmp_path, shown))
    assert suite.tests[-1].moves == "up" and suite.tests[-1].limit == 0.1 and suite.tests[-1].label == "1"


def test_suites_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: no such suite; built-in ones are abuse, general, sentiment_en"):
        read_suite(str(tmp_path / "none.yaml"))
    with pytest.raises(UserError, match="there are no tests in it"):
        read_suite(write_suite(tmp_path, "lexicons: {a: [b]}\n"))
    with pytest.raises(UserError, match="includes itself"):
        read_suite(write_suite(tmp_path, "include: [suite.yaml]\n"))


def test_templates():
    lexicons = {"who": ["She", "He"], "what": ["kind", "late", "here"]}
    every = filled(["{who} is {what}.", "No one {is}".replace("{is}", "is")], lexicons, 100, "")
    assert len(every) == 7 and ("He is late.",) in every and ("No one is",) in every
    some = filled(["{who} is {what}.", "{what}, {who}"], lexicons, 4, "1")
    assert len(some) == 4 and some == filled(["{who} is {what}.", "{what}, {who}"], lexicons, 4, "1")
    pair = filled([["{who} is {what}.", "Is {who} {what}?"]], lexicons, 100, "")
    assert ("She is here.", "Is She here?") in pair and len(pair) == 6


# Judged.


def judged(task, predict, test, rows=None, texts=1, beside=()):
    """The outcome of a test on a model that answers what `predict` says of a row's cells."""

    def answer(cells):
        return {name: np.asarray(values) for name, values in
                task.answer_of(np.array([predict(row) for row in cells], np.float32)).items()}  # fmt: skip

    given = None if rows is None else Rows(rows, texts, [f"row {i}" for i in range(len(rows))], "rows")
    suite = Suite(lexicons={"w": ["good", "bad", "fine"]}, tests=[test])
    return Judge(Model(task, answer, texts, tuple(beside)), suite, given, 0).outcome(test, 50)


OPINION = SingleLabel(("negative", "positive"))


def by_praise(cells):
    positive = 0.9 if "good" in cells[0] else 0.6 if "fine" in cells[0] else 0.2
    return [1 - positive, positive]


def test_minimum():
    templates: list = ["It is {w}.", "This {w} one"]
    found = judged(OPINION, by_praise, Behaviour("x", "minimum", templates, label="positive"))
    assert (found.tried, found.failed, found.rate) == (6, 2, 1 / 3)
    interval = binomtest(2, 6).proportion_ci(method="wilson")
    assert found.interval == pytest.approx([interval.low, interval.high])
    assert found.examples[0] == {"texts": ["It is bad."], "after": {"label": "negative", "score": 0.8}}
    assert judged(OPINION, by_praise, Behaviour("x", "minimum", templates, not_label="positive")).failed == 4
    sure = Behaviour("x", "minimum", templates, label="positive", at_least=0.7, limit=0.5)
    found = judged(OPINION, by_praise, sure)
    assert found.failed == 4 and not found.passed
    assert found.examples[0]["texts"] == ["It is bad."]


def test_invariance():
    rows = [("It is good",), ("So fine",), ("Nothing",)]
    test = Behaviour("x", perturb="replace", pairs={"good": "bad", "fine": "good"}, limit=0.4)
    found = judged(OPINION, by_praise, test, rows)
    # The third row has nothing to be changed; the second keeps its label.
    assert (found.tried, found.failed, found.passed) == (2, 1, False)
    assert found.examples == [{
        "texts": ["It is good"], "changed": ["It is fine"], "before": {"label": "positive", "score": 0.9},
        "after": {"label": "positive", "score": 0.6}, "place": "row 0",
    }] or found.examples[0]["place"] in ("row 0", "row 1")  # fmt: skip


def test_direction():
    rows = [("bad",), ("fine",), ("good",)]
    up = Behaviour("x", "direction", perturb="add", phrases=["good"], label="positive", moves="up")
    assert judged(OPINION, by_praise, up, rows).failed == 0
    down = Behaviour("x", "direction", perturb="add", phrases=["good"], label="positive", moves="down")
    found = judged(OPINION, by_praise, down, rows)
    assert found.failed == 2 and found.examples[0]["texts"] == ["bad"]
    down.tolerance = 0.5
    assert judged(OPINION, by_praise, down, rows).failed == 1


def test_of_several_labels_one_is_enough():
    task = MultiLabel(("rude", "toxic"), 0.5, "|")
    test = Behaviour("x", "minimum", ["{w}"], label="rude")
    found = judged(task, lambda cells: [0.9 if "bad" in cells[0] else 0.1, 0.8], test)
    assert (found.tried, found.failed) == (3, 2) and found.examples[0]["after"]["label"] == "toxic"


def test_numbers():
    task = Number(mean=5, deviation=2, half_width=1.5)

    def length(cells):
        return [len(cells[0]) + float(cells[1] or 0)]

    bounds = Behaviour("x", "minimum", ["{w}"], columns={"extra": "2"}, at_least=6)
    found = judged(task, length, bounds, beside=["extra"])
    assert (found.tried, found.failed) == (3, 1) and found.examples[0]["after"]["value"] == 5
    same = Behaviour("x", perturb="add", phrases=["a", "bcd"])
    # Alike is what lies within the prediction interval.
    found = judged(task, length, same, [("x", "1")] * 30, beside=["extra"])
    assert found.failed == found.tried == 30
    up = Behaviour("x", "direction", perturb="add", phrases=["a"], moves="up")
    assert judged(task, length, up, [("x", "1")], beside=["extra"]).failed == 0


@pytest.mark.parametrize(
    ("task", "test", "sentence"),
    [
        (
            OPINION,
            Behaviour("x", "minimum", ["a"], label="good"),
            "test x: there is no label 'good'; the model's labels",
        ),
        (OPINION, Behaviour("x", "minimum", ["a"], at_least=0.5), "no label is named"),
        (Number(), Behaviour("x", "minimum", ["a"], label="good"), "answers numbers, which have no label 'good'"),
        (
            OPINION,
            Behaviour("x", "minimum", [["a", "b"]], label="positive"),
            "has 2 texts, and a row of the",
        ),
        (OPINION, Behaviour("x", "minimum", ["a"], columns={"price": "1"}, label="positive"), "no column 'price'"),
        (OPINION, Behaviour("x", perturb="case"), "the run has no rows to change: give the test templates"),
    ],
)
def test_what_does_not_suit_the_model_is_said(task, test, sentence):
    def ask():
        check_tests(task, [test])
        return judged(task, by_praise, test)

    with pytest.raises(UserError, match=sentence):
        ask()


# A run.


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory) -> Path:
    """Of texts that have a name in them."""
    folder = tmp_path_factory.mktemp("behave")
    config = write_config(folder, rows=120, training={"epochs": 1},
                          export={"signatures": []}, evaluation={"baseline": "none"})  # fmt: skip
    with open(folder / "train.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(folder / "train.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(row | {"text": f"Mary: {row['text']}"} for row in rows)
    assert run.main(["--config", str(config), "--run_dir", str(folder / "run")]) == 0
    return folder / "run"


def test_the_command_on_a_run(tiny_run, tmp_path, capsys):
    run_dir = shutil.copytree(tiny_run, tmp_path / "run")
    assert main([str(run_dir), "--rows", "20"]) == 0
    printed = capsys.readouterr().out
    assert "other first names" in printed and "on 20 of 24 test rows" in printed
    assert "nothing to try: Chinese characters swapped" in printed
    written = {name: (run_dir / name).read_text() for name in ("behaviour.json", "behaviour.html", "report.html")}
    found = json.loads(written["behaviour.json"])
    outcomes = {one["name"]: one for one in found["tests"]}
    assert outcomes["other first names"]["tried"] == 20 and outcomes["Chinese of other width"]["tried"] == 0
    assert "other first names" in written["report.html"] and "Behaviour of run" in written["behaviour.html"]


def test_limits_decide_the_exit_status(tiny_run, tmp_path, capsys):
    run_dir = shutil.copytree(tiny_run, tmp_path / "run")
    kind = "kind: minimum, templates: ['{w} goal']"
    suite = write_suite(
        tmp_path,
        f"""
lexicons: {{w: [the, a, of]}}
tests:
  - {{name: is, {kind}, label: s}}
  - {{name: is not, {kind}, not_label: s}}
  - {{name: free, {kind}, not_label: s, limit: 1}}
""",
    )
    # Of two opposite tests one is bound to fail.
    words = [str(run_dir), "--suite", suite, "--label", "s=sport", "--limit", "0.25"]
    assert main([*words, "--html", str(tmp_path / "page.html")]) == 1
    tests = json.loads((run_dir / "behaviour.json").read_text())["tests"]
    assert tests[0]["failed"] + tests[1]["failed"] == tests[0]["tried"] == 3
    assert [one["passed"] for one in tests] == [one["failed"] == 0 for one in tests[:2]] + [True]
    assert (tmp_path / "page.html").is_file() and not (run_dir / "behaviour.html").exists()
    assert "25.0 broken" in capsys.readouterr().out


def test_rows_are_redacted_before_anything_is_done_to_them(tiny_run):
    config = config_of(tiny_run)
    config.text.redact_patterns = {"who": "Mary"}
    rows = held_out_rows(config, 5, 0)
    assert rows is not None and all(cells[0].startswith("[WHO]: ") for cells in rows.cells)


def test_of_a_private_run_no_row_is_shown(tiny_run):
    config = config_of(tiny_run)
    rows = held_out_rows(config, 5, 0)
    assert rows is not None and rows.shown and rows.cells[0][0].startswith("Mary: ")
    assert rows.cells == held_out_rows(config, 5, 0).cells != held_out_rows(config, 5, 1).cells
    config.training.privacy.epsilon = 1.0
    rows = held_out_rows(config, 5, 0)
    assert rows is not None and not rows.shown
    task = SingleLabel(("a", "b"))

    def answer(cells):
        return task.answer_of(np.array([[0.9, 0.1] if cells[0].isupper() else [0.2, 0.8] for cells in cells]))

    test = Behaviour("x", perturb="case")
    found = Judge(Model(task, lambda cells: {k: np.asarray(v) for k, v in answer([c[0] for c in cells]).items()}, 1),
                  Suite(tests=[test]), rows, 0).outcome(test, 5)  # fmt: skip
    assert found.tried == 5 and found.examples == []
    config.data.validation_fraction = config.data.test_fraction = 0
    with pytest.raises(UserError, match="the run is private, and has no rows but those that it has learned from"):
        held_out_rows(config, 5, 0)


def test_bad_input(tiny_run, tmp_path, capsys):
    for words, sentence in (
        ([str(tmp_path)], "holds no exported model"),
        ([str(tiny_run), "--suite", "none"], "no such suite; built-in ones are"),
        ([str(tiny_run), "--suite", "sentiment_en"], "there is no label 'positive'; the model's labels are"),
        ([str(tiny_run / "saved_model")], "is no folder of a run"),
    ):
        assert main(words) == 2
        assert sentence in capsys.readouterr().err
    assert not (tiny_run / "behaviour.json").exists()
    for words in (["--limit", "2"], ["--label", "x"], ["--rows", "0"]):
        with pytest.raises(SystemExit, match="2"):
            main([str(tiny_run), *words])
