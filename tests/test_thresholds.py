"""Thresholds tuned on validation rows: chosen, scored, exported, and the same wherever the model answers."""

import csv
import json
import random

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import f1_score
from tiny import FILLER, SUBJECTS, write_config

from export import load
from export.compare import main as compare
from export.config import ExportConfig
from export.versions import find_version, read_metadata
from pipeline import tasks
from pipeline.config import Config, DataConfig, EvaluationConfig, ModelConfig
from pipeline.config_check import check
from pipeline.errors import UserError
from pipeline.run import main
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.single_label import SingleLabel
from pipeline.tasks.thresholds import best_f1_threshold, tuning_warnings

TUNED, EXPORT = EvaluationConfig(threshold="tuned"), ExportConfig()


def test_no_threshold_has_a_better_f1():
    generator = np.random.default_rng(0)
    for _ in range(60):
        rows = int(generator.integers(1, 25))
        truth = generator.random(rows) < 0.3
        truth[0] = True
        # With ties.
        probabilities = (generator.integers(0, 20, rows) / 20 * 0.1).astype(np.float32)
        chosen = best_f1_threshold(truth, probabilities)
        assert chosen == np.float32(chosen)
        others = [f1_score(truth, probabilities >= limit) for limit in np.unique(probabilities)]
        assert f1_score(truth, probabilities >= np.float32(chosen)) == pytest.approx(max(others))


def test_neighbouring_probabilities_are_told_apart():
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    limit = best_f1_threshold(np.array([True, False]), np.array([high, low]))
    assert low < np.float32(limit) <= high


def tuned(task, values, predictions):
    return task.served(TUNED, EXPORT).calibrated(np.asarray(values), np.asarray(predictions, np.float32))


def test_each_of_several_labels_has_its_own_threshold():
    values = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]], np.float32)
    predictions = [[0.2, 0.9, 0.1], [0.3, 0.8, 0.2], [0.1, 0.7, 0.1], [0.1, 0.6, 0.1]]
    task = tuned(MultiLabel(("a", "b", "never")), values, predictions)
    assert task.thresholds == pytest.approx((0.15, 0.65, 0.5))
    scores = task.scores(values, np.array(predictions, np.float32))
    assert scores["micro_f1"] == pytest.approx(1 - 1 / 9) and scores["thresholds"]["a"] == pytest.approx(0.15)
    warnings, notes = task.findings(scores, "validation", None)
    assert "No validation row has the label “never”: no threshold could be tuned for it." in warnings
    assert "Tuned thresholds rest on few validation rows of “a” (2), “b” (2): they may be chance." in warnings
    assert notes[0].startswith("The thresholds tuned on the validation rows, from 0.15 to 0.65, are")
    assert any("macro averages are over all 3 labels, of which 1 without a row" in x for x in task.table(scores).lines)


def test_the_rarer_of_two_labels_is_answered_from_its_threshold_on():
    values = np.array([0] * 8 + [1, 1])
    rare = np.array([0.01] * 7 + [0.05, 0.2, 0.3])
    task = tuned(SingleLabel(("no", "yes")).fitted(values), values, np.stack([1 - rare, rare], axis=1))
    assert task.decision == (1, pytest.approx(0.125)) and task.tuned_on == (1, 2)
    predictions = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]], np.float32)
    answer = task.answer_of(predictions)
    assert answer["label"] == ["no", "yes", "yes"] and answer["score"].tolist() == pytest.approx([0.9, 0.2, 0.9])
    scores = task.scores(np.array([0, 1, 1]), predictions)
    assert scores["accuracy"] == 1 and scores["decision"] == {"label": "yes", "threshold": task.decision[1]}
    assert any("'yes' is answered from a probability of 0.125 on" in line for line in task.table(scores).lines)
    assert "“yes” (2)" in task.findings(scores, "test", None)[0][-1]
    about, explained = task.explained(tf.constant(predictions))
    assert about.numpy().tolist() == [0, 1, 1] and explained["label"].numpy().tolist() == [b"no", b"yes", b"yes"]
    assert "from a probability of 0.125 on, and else `no`" in task.answer_notes()
    # Where the first is the rarer one.
    other = tuned(SingleLabel(("no", "yes")).fitted(1 - values), 1 - values, np.stack([rare, 1 - rare], axis=1))
    assert other.decision == (0, pytest.approx(0.125))


def test_without_a_row_of_the_rarer_label_nothing_is_tuned():
    task = tuned(SingleLabel(("no", "yes")).fitted(np.array([0, 0, 1])), [0, 0], [[0.9, 0.1]] * 2)
    assert task.decision is None
    scores = task.scores(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert "No validation row has the label “yes”" in " ".join(task.findings(scores, "test", None)[0])


@pytest.mark.parametrize(
    "task",
    [SingleLabel(("a", "b"), decision=(0, float(np.float32(0.3)))), MultiLabel(("a", "b"), 0.5, "+", (0.25, 0.75))],
)
def test_graph_metadata_and_numpy_answer_alike(task):
    again = tasks.from_metadata(json.loads(json.dumps(task.metadata())))
    assert again == task
    first = np.linspace(0, 1, 101, dtype=np.float32)
    first[30] = np.float32(0.3)
    predictions = np.stack([first, 1 - first], axis=1)
    wanted = again.answer_of(predictions)
    found = {name: value.numpy() for name, value in task.answer(tf.constant(predictions)).items()}
    assert [label.decode() for label in found["label"]] == wanted["label"] and wanted["label"][30].startswith("a")
    np.testing.assert_array_equal(found["score"], wanted["score"])
    assert task.inconsistency("serving_default", wanted | {"score": found["score"]}, predictions, 1e-6) is None


def test_an_explanation_of_the_other_label_is_inconsistent():
    task, known = SingleLabel(("a", "b"), decision=(0, 0.3)), np.array([[0.4, 0.6], [0.3000001, 0.6999999]], np.float32)
    for label, score in (("b", 0.6), ("a", 0.5)):
        found = task.inconsistency("explain", {"label": [label], "score": [score]}, known, 1e-4)
        assert found is not None and found[0] == 0
    # Near the threshold, both may be.
    for labels, scores in ((["a", "a"], [0.4, 0.3]), (["a", "b"], [0.4, 0.7])):
        assert task.inconsistency("explain", {"label": labels, "score": scores}, known, 1e-4) is None


def test_where_a_threshold_cannot_be_tuned_it_is_refused():
    with pytest.raises(UserError, match=r"for two labels, or any number of labels a row; there are 3 labels here"):
        SingleLabel(("a", "b", "c")).served(TUNED, EXPORT)
    with pytest.raises(UserError, match=r"tuned and export\.abstain_below both decide"):
        SingleLabel(("a", "b")).served(TUNED, ExportConfig(abstain_below=0.5))
    data = DataConfig(train="rows.csv", validation_fraction=0)
    with pytest.raises(UserError, match=r"evaluation\.threshold tuned needs validation rows"):
        check(Config(model=ModelConfig(backbone="x"), data=data, evaluation=TUNED))
    with pytest.raises(UserError, match=r"evaluation\.threshold tuned is for labels, and data\.task is number"):
        check(
            Config(model=ModelConfig(backbone="x"), data=DataConfig(train="rows.csv", task="number"), evaluation=TUNED)
        )
    with pytest.raises(UserError, match=r"evaluation\.threshold is tunde: .*; did you mean tuned\?"):
        check(
            Config(
                model=ModelConfig(backbone="x"),
                data=DataConfig(train="rows.csv"),
                evaluation=EvaluationConfig(threshold="tunde"),
            )
        )


def test_many_labels_of_few_rows_are_counted():
    (warning,) = tuning_warnings([f"l{i}" for i in range(12)], [3] * 12)
    assert "“l7” (3) and 4 more" in warning


def test_what_macro_averages_are_over_is_said():
    task = SingleLabel(("a", "b", "rare")).fitted(np.array([0, 1, 2]))
    scores = task.scores(np.array([0, 1]), np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]))
    assert scores["macro_f1"] == 1
    assert "macro averages are over 2 of 3 classes: “rare” has no row and no prediction" in task.table(scores).lines
    assert "averages such as macro F1 (1.000) say nothing about it" in " ".join(task.findings(scores, "test", None)[0])


def test_what_is_shown_of_a_prediction_is_what_would_be_answered():
    task = MultiLabel(("joy", "love", "neutral"), thresholds=(0.3, 0.4, 0.6))
    assert task.shown_prediction(np.array([0.31, 0.45, 0.5], np.float32)) == "joy 0.310, love 0.450"
    assert task.shown_prediction(np.array([0.1, 0.1, 0.5], np.float32)) == "(no label; highest: neutral 0.500)"
    sure, unsure = np.array([0.1, 0.9], np.float32), np.array([0.4, 0.6], np.float32)
    for label, shown in (("", "(no label; highest: b 0.600)"), ("unsure", "unsure 0.600")):
        one = SingleLabel(("a", "b"), abstain_below=0.7, abstain_label=label)
        assert [one.shown_prediction(row) for row in (sure, unsure)] == ["b 0.900", shown]


@pytest.fixture(scope="module")
def rare_run(tmp_path_factory):
    """A run of two labels, of which one row in twelve has the rarer, some of them with no sign of it."""
    folder = tmp_path_factory.mktemp("rare")
    config = write_config(
        folder,
        data={"validation_fraction": 0.3},
        training={"epochs": 8, "learning_rate": 0.01},
        export={"signatures": ["explain", "top_k"], "explain_steps": 4},
    )
    chance = random.Random(0)
    with open(folder / "train.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for i in range(960):
            rare = i % 12 == 0
            words = [*chance.choices(FILLER, k=4), chance.choice(SUBJECTS["space" if rare or i % 4 == 0 else "money"])]
            writer.writerow([" ".join(words), "rare" if rare else "usual"])
    arguments = ["--config", str(config), "--evaluation.threshold", "tuned", "--run_dir", str(folder / "run")]
    assert main(arguments) == 0
    return folder


@pytest.mark.slow
def test_a_tuned_threshold_is_served_scored_and_said(rare_run):
    found = json.loads((rare_run / "run" / "metrics.json").read_text())
    decision = found["test"]["decision"]
    assert decision["label"] == "rare" and 0 < decision["threshold"] < 0.5
    assert found["test"]["per_class"]["rare"]["recall"] >= 0.4
    # Epochs are chosen by what would be served, too.
    best = found["train"]["history"][found["train"]["best_epoch"] - 1]
    assert best["validation_macro_f1"] == pytest.approx(found["validation"]["macro_f1"])
    version = find_version(rare_run / "run")
    assert read_metadata(version)["decision"] == decision
    assert "tuned on the validation rows" in (rare_run / "run" / "report.html").read_text()
    with open(rare_run / "train.csv") as file:
        texts = [row["text"] for row in csv.DictReader(file)][:60]
    answers = load(rare_run / "run")(texts)
    below = answers.probabilities[:, 0] < 0.5
    given = np.array(answers.labels) == "rare"
    np.testing.assert_array_equal(given, answers.probabilities[:, 0] >= np.float32(decision["threshold"]))
    assert (given & below).any()
    explain = tf.saved_model.load(str(version)).signatures["explain"](text=tf.constant(texts[:3]))
    assert [label.decode() for label in explain["label"].numpy()] == answers.labels[:3]


@pytest.mark.slow
def test_comparisons_are_of_the_answers(rare_run, capsys):
    version = str(find_version(rare_run / "run"))
    assert compare([version, version, "--data", str(rare_run / "train.csv")]) == 0
    assert "rare" in capsys.readouterr().out
