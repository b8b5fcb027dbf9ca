"""Scores against values worked out by hand, and against scikit-learn on random ones."""

import io
import json
import math
import tracemalloc

import numpy as np
import pytest
from scoring import scores_of, task_of
from sklearn import metrics as sklearn_metrics

from pipeline.errors import Diverged, UserError
from pipeline.evaluation.interval import wilson
from pipeline.evaluation.table import print_table
from pipeline.tasks import confusions
from pipeline.tasks.single_label import SingleLabel

NAMES = ("a", "b", "c")


def one_hot(predicted, classes=3, confidence=1.0):
    rest = (1 - confidence) / (classes - 1)
    return np.where(np.arange(classes) == np.asarray(predicted)[:, None], confidence, rest).astype(np.float32)


def random_case(rows, classes, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, classes, rows), generator.dirichlet(np.ones(classes), rows).astype(np.float32)


def test_scores_by_hand():
    # a: 2 right of 3 rows, predicted 2 times; b: 2 right of 2 rows, predicted 3 times; c: 1 right of 1 row.
    metrics = scores_of(np.array([0, 0, 0, 1, 1, 2]), one_hot([0, 0, 1, 1, 1, 2]), NAMES)
    assert metrics["accuracy"] == pytest.approx(5 / 6)
    assert metrics["per_class"]["a"] == pytest.approx({"precision": 1, "recall": 2 / 3, "f1": 0.8, "support": 3})
    assert metrics["per_class"]["b"] == pytest.approx({"precision": 2 / 3, "recall": 1, "f1": 0.8, "support": 2})
    assert metrics["per_class"]["c"] == pytest.approx({"precision": 1, "recall": 1, "f1": 1, "support": 1})
    assert metrics["macro_f1"] == pytest.approx(2.6 / 3)
    assert metrics["weighted_f1"] == pytest.approx((0.8 * 3 + 0.8 * 2 + 1) / 6)
    assert metrics["micro_f1"] == pytest.approx(5 / 6)
    assert metrics["confusion_matrix"] == [[2, 1, 0], [0, 2, 0], [0, 0, 1]]
    assert metrics["rows"] == 6


def test_loss_is_the_mean_cross_entropy_and_finite():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]], np.float32)
    assert scores_of(np.array([0, 1]), probabilities, NAMES)["loss"] == pytest.approx(math.log(2) / 2, abs=1e-6)
    assert scores_of(np.array([0, 0]), probabilities, NAMES)["loss"] == pytest.approx(
        (math.log(2) - math.log(1e-7)) / 2
    )


@pytest.mark.parametrize("classes", [2, 3, 150])
def test_single_label_agrees_with_scikit_learn(classes):
    labels, probabilities = random_case(400, classes, seed=classes)
    names = [f"class {i}" for i in range(classes)]
    metrics = scores_of(labels, probabilities, names)
    predicted = probabilities.argmax(axis=1)
    for average in ("macro", "weighted", "micro"):
        expected = sklearn_metrics.precision_recall_fscore_support(labels, predicted, average=average, zero_division=0)
        got = [metrics[f"{average}_{name}"] for name in ("precision", "recall", "f1")]
        assert got == pytest.approx(list(expected[:3]))
    exact = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=float)
    expected = sklearn_metrics.log_loss(labels, exact, labels=range(classes))
    assert metrics["loss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["matthews"] == pytest.approx(sklearn_metrics.matthews_corrcoef(labels, predicted))
    matrix = sklearn_metrics.confusion_matrix(labels, predicted, labels=range(classes))
    assert metrics["confusion_matrix"] == matrix.tolist()
    if classes == 150:
        expected = sklearn_metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=range(classes))
        assert metrics["top_5_accuracy"] == pytest.approx(expected)
    json.dumps(metrics, allow_nan=False)


def test_matthews_is_0_where_one_class_is_always_predicted_or_always_right():
    assert scores_of(np.array([0, 1, 2]), one_hot([1, 1, 1]), NAMES)["matthews"] == 0.0
    assert scores_of(np.array([1, 1, 1]), one_hot([0, 1, 2]), NAMES)["matthews"] == 0.0


def test_confusions_of_many_classes_are_those_of_the_matrix(monkeypatch):
    labels, probabilities = random_case(600, 40)
    names = [f"class {i}" for i in range(40)]
    whole = scores_of(labels, probabilities, names)
    monkeypatch.setattr(confusions, "WHOLE_CLASSES", 39)
    found = scores_of(labels, probabilities, names)
    matrix = np.zeros((40, 40), int)
    for true, predicted, count in found["confusions"]:
        matrix[true, predicted] = count
    assert matrix.tolist() == whole["confusion_matrix"] and "confusion_matrix" not in found
    assert confusions.confused_pairs(found, 20) == confusions.confused_pairs(whole, 20)
    assert confusions.shown_matrix(found) == confusions.shown_matrix(whole)


def test_what_is_kept_of_labels_grows_with_the_rows_and_not_with_the_square_of_the_classes():
    classes = 20_000
    task = SingleLabel(tuple(f"class {i}" for i in range(classes)))
    labels = np.arange(4)
    tracemalloc.start()
    try:
        targets = task.training_targets(labels)
        scores = task.scores(labels, targets)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(targets.argmax(axis=1), labels) and targets.sum() == 4
    assert scores["confusions"] == [[i, i, 1] for i in range(4)]
    assert peak < 100_000_000, "one matrix of classes by classes of float32 is 1.6 GB"


def test_multi_label_by_hand():
    labels = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0]], np.float32)
    probabilities = np.array([[0.9, 0.2, 0.4], [0.1, 0.8, 0.1], [0.1, 0.1, 0.1], [0.6, 0.7, 0.5]], np.float32)
    metrics = scores_of(labels, probabilities, NAMES, several=True)
    # Decided: a | b | nothing | a b c. Right as a whole: rows 1 and 2. Hits a 2, b 2, c 0 of 1.
    assert metrics["accuracy"] == 0.5
    assert metrics["micro_f1"] == pytest.approx(2 * 4 / (5 + 5))
    assert metrics["macro_f1"] == pytest.approx(2 / 3)
    assert metrics["weighted_f1"] == pytest.approx((2 + 2 + 0) / 5)
    assert metrics["hamming_loss"] == pytest.approx(2 / 12)
    # From 0.21 to 0.4 all five labels are found and one is extra; 0.4 is the nearest of these to 0.5.
    assert metrics["best_threshold"]["micro_f1"] == {"threshold": 0.4, "score": pytest.approx(2 * 5 / (6 + 5))}
    assert metrics["best_threshold"]["macro_f1"] == {"threshold": 0.4, "score": pytest.approx((1 + 1 + 2 / 3) / 3)}
    json.dumps(metrics, allow_nan=False)


def test_multi_label_agrees_with_scikit_learn():
    generator = np.random.default_rng(1)
    labels = (generator.random((300, 7)) < 0.3).astype(np.float32)
    probabilities = generator.random((300, 7)).astype(np.float32)
    metrics = scores_of(labels, probabilities, list("abcdefg"), several=True, threshold=0.4)
    predicted = probabilities >= np.float32(0.4)
    for average in ("macro", "weighted", "micro"):
        expected = sklearn_metrics.precision_recall_fscore_support(labels, predicted, average=average, zero_division=0)
        got = [metrics[f"{average}_{name}"] for name in ("precision", "recall", "f1")]
        assert got == pytest.approx(list(expected[:3]))
    each = [sklearn_metrics.log_loss(labels[:, c], probabilities[:, c].astype(float)) for c in range(7)]
    assert metrics["loss"] == pytest.approx(np.mean(each))
    for name, best in metrics["best_threshold"].items():
        grid = np.arange(1, 100) / 100
        scores = [
            sklearn_metrics.f1_score(labels, probabilities >= np.float32(t), average=name[:5], zero_division=0)
            for t in grid
        ]
        assert best["score"] == pytest.approx(max(scores))
        assert scores[round(best["threshold"] * 100) - 1] == pytest.approx(max(scores))


def test_one_label_is_scored_as_itself_not_as_its_absence():
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], np.float32)[:, None]
    probabilities = np.array([0.9, 0.8, 0.1, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], np.float32)[:, None]
    metrics = scores_of(labels, probabilities, ["toxic"], several=True)
    # 2 right of 3 rows, given 3 times.
    expected = dict.fromkeys(("precision", "recall", "f1"), pytest.approx(2 / 3))
    assert metrics["per_class"] == {"toxic": {**expected, "support": 3}}
    for average in ("macro", "weighted", "micro"):
        assert {name: metrics[f"{average}_{name}"] for name in expected} == expected
    assert metrics["accuracy"] == 0.8 and metrics["best_threshold"]["macro_f1"]["score"] == pytest.approx(0.8)
    always = metrics["majority_baseline"]
    assert always["accuracy"] == 0.3 and always["macro_f1"] == always["micro_f1"] == pytest.approx(2 * 0.3 / 1.3)
    nobody = scores_of(labels[3:], np.full((7, 1), 0.1), ["toxic"], several=True)
    assert nobody["macro_f1"] == nobody["micro_f1"] == 0 and nobody["without_support"] == ["toxic"]


def test_perfect_and_all_wrong():
    labels = np.array([0, 1, 2, 2])
    perfect = scores_of(labels, one_hot(labels), NAMES)
    assert perfect["accuracy"] == perfect["macro_f1"] == perfect["matthews"] == 1
    assert perfect["accuracy_interval"][1] == 1
    assert perfect["ece"] == pytest.approx(0)
    wrong = scores_of(labels, one_hot((labels + 1) % 3), NAMES)
    assert wrong["accuracy"] == wrong["macro_f1"] == wrong["weighted_f1"] == 0
    assert wrong["accuracy_interval"][0] == 0
    assert wrong["ece"] == pytest.approx(1)


def test_class_absent_from_the_rows_is_listed_and_left_out_of_the_macro_average():
    metrics = scores_of(np.array([0, 1]), one_hot([0, 1]), NAMES)
    assert metrics["per_class"]["c"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert metrics["without_support"] == metrics["never_predicted"] == ["c"]
    assert metrics["macro_f1"] == 1
    assert np.shape(metrics["confusion_matrix"]) == (3, 3)
    # Once predicted, it is wrong there and counts.
    assert scores_of(np.array([0, 1]), one_hot([0, 2]), NAMES)["macro_f1"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("label", [0, 1])
def test_one_row_of_two_classes(label, recwarn):
    metrics = scores_of(np.array([label]), np.array([[0.25, 0.75]], np.float32), ("no", "yes"))
    assert metrics["accuracy"] == label
    assert metrics["roc_auc"] is None
    assert metrics["average_precision"] is None
    assert metrics["matthews"] == 0
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert not recwarn.list


def test_two_classes_rank_by_the_second():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]], np.float32)
    metrics = scores_of(np.array([0, 0, 1, 1]), probabilities, ("no", "yes"))
    # Of the four pairs (no, yes) three are ordered rightly; the yes rows are first and third of the ranking.
    assert metrics["roc_auc"] == pytest.approx(0.75)
    assert metrics["average_precision"] == pytest.approx((1 + 2 / 3) / 2)


def test_calibration_by_hand():
    # Four rows at 0.8, of which three are right, and one at 0.6, which is wrong.
    probabilities = np.array([[0.8, 0.2]] * 4 + [[0.6, 0.4]])
    metrics = scores_of(np.array([0, 0, 0, 1, 1]), probabilities, ("a", "b"))
    assert metrics["ece"] == pytest.approx(0.8 * abs(0.75 - 0.8) + 0.2 * 0.6)
    bins = [(b["rows"], b["confidence"], b["accuracy"]) for b in metrics["calibration_bins"]]
    assert bins == [(1, pytest.approx(0.6), 0), (4, pytest.approx(0.8), 0.75)]
    # Bins are closed above: 9/15 belongs to the one that ends there.
    assert metrics["calibration_bins"][0]["high"] == pytest.approx(0.6)


def test_calibration_of_several_labels_compares_probability_and_frequency():
    probabilities = np.array([[0.1, 0.1], [0.1, 0.9]])
    metrics = scores_of(np.array([[0, 0], [1, 1]]), probabilities, ("a", "b"), several=True)
    assert metrics["ece"] == pytest.approx(0.75 * abs(1 / 3 - 0.1) + 0.25 * 0.1)


def test_wilson_interval():
    # 8 of 10, from the formula: (0.8 + 0.19207) / 1.38415 -+ 1.95996 / 1.38415 * sqrt(0.016 + 0.009604).
    assert wilson(0.8, 10) == pytest.approx([0.49016, 0.94331], abs=1e-4)
    assert wilson(0.0, 1) == pytest.approx([0, 0.79345], abs=1e-4)
    assert wilson(1.0, 5)[1] == 1


def test_baseline_answers_the_majority_of_the_training_rows():
    labels = np.array([0, 0, 0, 1])
    own = scores_of(labels, one_hot([0, 0, 0, 0]), NAMES)["majority_baseline"]
    assert (own["label"], own["accuracy"]) == ("a", 0.75)
    assert own["macro_f1"] == pytest.approx((6 / 7) / 2)
    trained = scores_of(labels, one_hot([0, 0, 0, 0]), NAMES, train_counts=[1, 9, 9])["majority_baseline"]
    assert (trained["label"], trained["accuracy"]) == ("b", 0.25)


def test_baseline_of_several_labels():
    labels = np.array([[1, 0], [1, 1], [0, 0]])
    baseline = scores_of(labels, np.full((3, 2), 0.1), ("a", "b"), several=True)["majority_baseline"]
    assert baseline["label"] == "a"
    assert baseline["accuracy"] == pytest.approx(1 / 3)
    assert baseline["micro_f1"] == pytest.approx(2 * 2 / (3 + 3))
    assert baseline["macro_f1"] == pytest.approx(0.8 / 2)


def test_decisions_are_those_of_the_exported_model():
    assert task_of(NAMES).decide(np.array([[0.4, 0.4, 0.2]])).tolist() == [0]
    # 0.7 as float32 is below 0.7: compared in float64 the label would be lost.
    several = task_of(("a", "b"), several=True, threshold=0.7)
    assert several.decide(np.array([[0.7, 0.69]], np.float32)).tolist() == [[True, False]]


def test_top_5_counts_ties_as_the_decision_does():
    metrics = scores_of(np.array([4, 5]), np.full((2, 12), 1 / 12, np.float32), list("abcdefghijkl"))
    assert metrics["top_5_accuracy"] == 0.5


def test_bad_input():
    with pytest.raises(Diverged, match="not numbers on 1 of 2 rows"):
        scores_of(np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 0.5]]), ("a", "b"))
    with pytest.raises(UserError, match="no rows"):
        scores_of(np.zeros(0, int), np.zeros((0, 2)), ("a", "b"))
    with pytest.raises(ValueError, match="look like logits"):
        scores_of(np.array([0]), np.array([[-3.0, 4.0]]), ("a", "b"))
    with pytest.raises(ValueError, match="from 0 to 1"):
        scores_of(np.array([2]), np.array([[0.5, 0.5]]), ("a", "b"))
    with pytest.raises(ValueError, match="a name twice"):
        scores_of(np.array([0]), np.array([[0.5, 0.5]]), ("a", "a"))


def test_mistakes_come_surest_first():
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.9, 0.1], [0.2, 0.8], [0.9, 0.1]], np.float32)
    labels = np.array([1, 0, 0, 1, 1])
    task = task_of(("a", "b"))
    assert [mistake["row"] for mistake in task.mistakes(labels, probabilities, 10)] == [0, 4, 1]
    mistakes = task.mistakes(labels, probabilities, 2)
    assert mistakes[1] == {
        "row": 4, "label": [1], "predicted": [0],
        "probability": pytest.approx(0.9), "label_probability": pytest.approx(0.1),
    }  # fmt: skip
    assert len(mistakes) == 2
    json.dumps(mistakes)
    assert task.mistakes(np.array([0]), np.array([[0.9, 0.1]]), 5) == []
    assert task.mistakes(np.zeros(0, int), np.zeros((0, 2)), 5) == []


def test_mistakes_of_several_labels():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.02], [0.9, 0.9]], np.float32)
    labels = np.array([[0, 0], [1, 1], [1, 1]], np.float32)
    task = task_of(("a", "b"), several=True)
    missed, given = task.mistakes(labels, probabilities, 5)
    assert missed == {"row": 1, "label": [0, 1], "predicted": [0], "probability": pytest.approx(0.98)}
    assert given == {"row": 0, "label": [], "predicted": [0], "probability": pytest.approx(0.9)}


def test_table_in_a_file_is_plain_text_worst_first(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    labels, probabilities = random_case(500, 60)
    names = [f"[red]class {i}" for i in range(60)]
    metrics = scores_of(labels, probabilities, names)
    output = io.StringIO()
    print_table(task_of(names).table(metrics), "test", limit=40, file=output)
    text = output.getvalue()
    lines = text.splitlines()
    assert "\x1b" not in text
    assert max(map(len, lines)) <= 100
    shown = [line for line in lines if line.startswith("[red]class")]
    assert len(shown) == 40
    f1 = [float(line.split()[-2]) for line in shown]
    assert f1 == sorted(f1)
    assert "... 20 more in report.html" in text
    assert f"accuracy {metrics['accuracy']:.1%}" in text
    assert f"always {metrics['majority_baseline']['label']!r}" in text


def test_table_survives_an_encoding_without_the_labels_script():
    metrics = scores_of(np.array([0, 1]), one_hot([0, 1], 2), ("好评", "差评\n"))
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_table(task_of(("好评", "差评\n")).table(metrics), file=output)
    output.seek(0)
    assert "??" in output.read()


def test_table_keeps_numbers_beside_very_long_labels():
    metrics = scores_of(np.array([0, 1]), one_hot([0, 1], 2), ("x" * 300, "y"))
    output = io.StringIO()
    print_table(task_of(("x" * 300, "y")).table(metrics), file=output)
    row = next(line for line in output.getvalue().splitlines() if line.startswith("xxx"))
    assert row.split()[1:] == ["1.000", "1.000", "1.000", "1"]
