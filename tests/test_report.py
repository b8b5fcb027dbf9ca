"""The report: valid, complete, self-contained and safe whatever the labels and texts are."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from scoring import scores_of, task_of

from pipeline.evaluation import plots
from pipeline.evaluation.formatting import number
from pipeline.evaluation.report import CROSS_VALIDATION, ReportContent, summary_tables, write_report
from pipeline.evaluation.results import write_results

VOID = {"meta", "br", "wbr", "hr", "img", "input", "link"}
HOSTILE = '</td><script>alert("x")</script>&<img src=x onerror=alert(1)>\x00\u202e'
HISTORY = [
    {"epoch": 1, "loss": 1.2, "validation_loss": 1.0, "validation_accuracy": 0.6, "learning_rate": 5e-5},
    {"epoch": 2, "loss": 0.6, "validation_loss": 0.8, "validation_accuracy": 0.7, "learning_rate": 1e-5},
]


class Page(HTMLParser):
    """Checks that elements nest, and gathers text and attributes."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.open, self.text, self.tags, self.attributes = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


def predictions(rows, classes, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, rows)
    logits = generator.normal(size=(rows, classes)) + 3 * np.eye(classes)[labels]
    exponents = np.exp(logits)
    return labels, (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32)


def write(path, names, rows=200, text="some text", multi_label=False, history=HISTORY, **changes):
    labels, probabilities = predictions(rows, len(names))
    if multi_label:
        labels = np.eye(len(names))[labels]
    task = task_of(names, multi_label)
    metrics = task.scores(labels, probabilities)
    mistakes = [{**mistake, "text": [text]} for mistake in task.mistakes(labels, probabilities, 5)]
    arguments = {
        "title": "a run",
        "metrics": {
            "test": metrics,
            "validation": metrics,
            "train": {"seconds": 12.5, "best_epoch": 2, "history": history},
        },
        "task": task,
        "mistakes": mistakes,
        "data_summary": {"train": {"rows": 12345, "label_counts": {names[0]: 7}}, "test": {"rows": rows}},
        "warnings": [],
        "config_yaml": "data:\n  train: rows.csv\n",
        "environment": {"python": "3.11", "devices": ["CPU:0"]},
    } | changes
    write_report(path, ReportContent(**arguments))
    source = path.read_text("utf-8")
    return source, Page(source)


@pytest.mark.parametrize("names", [("ham", "spam"), tuple("abcdefgh"), tuple(f"intent_{i}" for i in range(150))])
def test_page_is_complete_and_fetches_nothing(tmp_path, names):
    source, page = write(tmp_path / "report.html", names)
    assert not re.search(r"https?://|url\(|@import", source)
    assert not {"link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name in ("src", "srcset", "href")]
    text = "".join(page.text)
    headings = ("Read this first", "Each class", "What is taken for what", "Calibration", "Most confident mistakes")
    for heading in headings:
        assert heading in text
    for name in names:
        assert name in text
    assert "12\u202f345" in text
    assert "train: rows.csv" in text
    assert page.tags.count("svg") == (5 if len(names) > 30 else 4)
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_cross_validation_is_shown_beside_other_rows(tmp_path, capsys):
    labels, probabilities = predictions(80, 2)
    task = task_of(("ham", "spam"))
    scores = {name: task.scores(labels, probabilities) for name in ("test", CROSS_VALIDATION)}
    scores[CROSS_VALIDATION] |= {"folds": 5, "method": "head"}
    line = f"cross-validation of the 80 training rows in 5 folds: accuracy {scores['test']['accuracy']:.3f}"
    content = ReportContent("a run", scores, "", {}, task)
    write_results(tmp_path, content)
    assert line in capsys.readouterr().out and line in (tmp_path / "report.html").read_text()
    # Where there are no others it is what the page shows.
    del scores["test"]
    write_results(tmp_path, content)
    assert "cross-validation of the 80" not in capsys.readouterr().out


def test_headline_stands_beside_the_baseline(tmp_path):
    labels = np.array([0] * 70 + [1] * 30)
    probabilities = np.eye(2)[np.where(np.arange(100) < 80, labels, 1 - labels)]
    metrics = scores_of(labels, probabilities, ("ham", "spam"))
    _, page = write(tmp_path / "r.html", ("ham", "spam"), metrics={"test": metrics})
    text = " ".join("".join(page.text).split())
    assert "Accuracy 80.0%" in text
    assert "Always answering “ham” scores 70.0" in text
    assert "95 % interval 71.1 to 86.7" in text


def test_everything_from_outside_is_escaped(tmp_path):
    source, page = write(
        tmp_path / "report.html",
        (HOSTILE, "other", "third"),
        text=HOSTILE,
        title=HOSTILE,
        warnings=[HOSTILE],
        config_yaml=HOSTILE,
        environment={HOSTILE: HOSTILE},
        data_summary={HOSTILE: HOSTILE, "train": {HOSTILE: {HOSTILE: HOSTILE}}, HOSTILE + "2": {"a": [HOSTILE]}},
        history=[{"epoch": i, "loss": i, HOSTILE: i} for i in (1, 2)],
    )
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert "\x00" not in source
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "".join(page.text).count('<script>alert("x")</script>') >= 10


@pytest.mark.parametrize("count", [2, 40])
def test_hostile_labels_in_both_kinds_of_matrix(tmp_path, count):
    names = tuple(f'"><script>{i}</script>' for i in range(count))
    _, page = write(tmp_path / "report.html", names)
    assert page.tags.count("script") == 1


def test_any_script_of_text_and_labels(tmp_path):
    source, page = write(tmp_path / "report.html", ("好评", "差评", "שלום"), text="服务很好 \ud800", title="评论")
    assert "好评" in source
    assert '<p dir="auto">服务很好' in source
    assert "评论" in "".join(page.text)


def test_long_texts_are_cut(tmp_path):
    _, page = write(tmp_path / "report.html", ("a", "b", "c"), text="x" * 5000)
    assert "x" * 701 not in "".join(page.text)
    assert "4\u202f300 more characters" in "".join(page.text)


def test_pairs_show_both_texts(tmp_path):
    item = {"text": ["the first", "the second"], "label": [0], "predicted": [1], "probability": 0.9}
    _, page = write(tmp_path / "report.html", ("a", "b"), mistakes=[item])
    assert "the first" in page.text
    assert "the second" in page.text


def test_several_labels_a_row(tmp_path):
    _, page = write(tmp_path / "report.html", ("joy", "anger", "fear"), multi_label=True)
    text = "".join(page.text)
    assert "Micro F1" in text
    assert "Hamming loss" in text
    assert "What is taken for what" not in text


@pytest.mark.parametrize("train", [{}, {"train": {"seconds": 12.5, "best_epoch": None, "history": HISTORY}}])
def test_run_without_evaluation(tmp_path, train):
    _, page = write(tmp_path / "report.html", ("a", "b"), metrics=train, mistakes=[], data_summary={})
    assert "nothing is known about how good this model is" in "".join(page.text)


def test_validation_stands_in_for_a_missing_test_set(tmp_path):
    labels, probabilities = predictions(50, 2)
    metrics = {"validation": scores_of(labels, probabilities, ("a", "b")), "test": None}
    _, page = write(tmp_path / "report.html", ("a", "b"), metrics=metrics)
    assert "50 validation rows" in "".join(page.text)
    assert "There was no test set" in "".join(page.text)


@pytest.mark.parametrize(
    "history",
    [
        HISTORY[:1],
        [{"epoch": i, "loss": float("nan")} for i in (1, 2)],
        [{"epoch": i, "loss": 0.5, "validation_loss": np.float32(0.5), "validation_best": None} for i in (1, 2)],
    ],
)
def test_odd_histories(tmp_path, history):
    write(tmp_path / "report.html", ("a", "b"), history=history)


def test_findings_warn_of_what_makes_a_score_doubtful():
    names = ("a", "b", "c", "d")
    # All rows answered a; c has no rows.
    labels = np.array([0, 0, 0, 1, 1, 3])
    metrics = scores_of(labels, np.tile([0.97, 0.01, 0.01, 0.01], (6, 1)), names)
    warnings, notes = task_of(names).findings(metrics, "test", None)
    text = "\n".join(warnings)
    assert "not clearly better than always answering “a”" in text
    assert "small (6 rows)" in text
    assert "No test row has the label “c”" in text
    assert "Never predicted, though test rows have it: “b”, “d”" in text
    assert "“b” taken for “a” (2 rows, 100.0% of that class)" in "\n".join(notes)


def test_findings_are_silent_on_a_good_model():
    labels, probabilities = np.arange(900) % 2, np.eye(2)[np.arange(900) % 2]
    metrics = scores_of(labels, probabilities, ("a", "b"))
    assert task_of(("a", "b")).findings(metrics, "test", metrics) == ([], [])


def test_findings_on_calibration_and_differing_sets():
    labels = np.arange(900) % 2
    unsure = np.where(labels[:, None] == [0, 1], 0.6, 0.4)
    metrics = scores_of(labels, unsure, ("a", "b"))
    half = scores_of(labels, unsure[np.arange(900) // 2], ("a", "b"))
    warnings = "\n".join(task_of(("a", "b")).findings(metrics, "test", half)[0])
    assert "too unsure of itself: it expects to be right on 60.0% of the rows and is on 100.0%" in warnings
    assert "more than chance explains" in warnings


def test_summary_tables_hold_every_value():
    tables = summary_tables(
        {
            "train": {"rows": 10, "label_counts": {"a": 6, "b": 4}, "skipped": 1},
            "test": {"rows": 5, "label_counts": {"a": 5}},
            "test_rows_in_train": 2,
            "files": {"train": ["x.csv", "y.csv"]},
        }
    )
    assert [table["rows"] for table in tables] == [
        [["test rows in train", "2"]],
        [["rows", "10", "5"], ["skipped", "1", "–"]],
        [["a", "6", "5"], ["b", "4", "–"]],
        [["train", '["x.csv", "y.csv"]']],
    ]
    assert tables[1]["header"] == ["", "train", "test"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0"), (1234567, "1\u202f234\u202f567"), (0.123456, "0.1235"), (5e-5, "5e-05"), (2.0, "2"),
     (12345.6, "12\u202f346"), (True, "True"), ("x", "x"), (np.float32(0.5), "0.5"), (float("inf"), "inf"),
     ({"a": 1}, '{"a": 1}')],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value) == text


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.61, 0.97), (3e-5, 3e-5), (0, 0), (-2, 1e6), (0.9991, 0.9992)])
def test_ticks_are_even_and_enclose_the_values(values):
    ticks = plots.nice_ticks(*values)
    assert ticks[0] <= min(values)
    assert ticks[-1] >= max(values)
    assert 2 <= len(ticks) <= 8
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])
