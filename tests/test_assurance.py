"""Answers with a guarantee: sets that hold the right label, abstaining by a wanted error, and how well a text fits."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tiny import write_config
from tiny_export import LABELS, TEXTS, some_typicality, tiny_model

from export.config import ExportConfig
from export.expected import Expected
from export.loading import Classifier
from export.predict import main as predict
from export.savedmodel import ExportSettings, HeldOut, export_verified
from export.signatures import SignatureOptions
from export.typicality import FitOfVectors
from export.verify import ExportDiffers
from pipeline import tasks
from pipeline.classifier import pooled_model
from pipeline.command_line import parse
from pipeline.config import EvaluationConfig
from pipeline.errors import UserError
from pipeline.run import main
from pipeline.tasks import abstention
from pipeline.tasks.abstention import find_abstention
from pipeline.tasks.outside import Outside
from pipeline.tasks.sets import Sets, fewest_rows, find_sets
from pipeline.tasks.single_label import SingleLabel
from pipeline.tasks.targets import Groups
from pipeline.typicality import MOST_POINTS, find_typicality

NAMES = tuple("abcdef")


def rows_of(chance: np.random.Generator, count: int, skew: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Classes and probabilities of a model that is often wrong; with `skew` worse for the first class."""
    values = chance.integers(len(NAMES), size=count)
    logits = chance.normal(size=(count, len(NAMES)))
    logits[np.arange(count), values] += 2 - skew * (values == 0)
    powers = np.exp(logits)
    return values, (powers / powers.sum(1, keepdims=True)).astype(np.float32)


# Sets.


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_hold_the_right_label_as_often_as_asked_for_and_hardly_more_often(coverage):
    chance, covered = np.random.default_rng(0), []
    for _ in range(200):
        found = find_sets(*rows_of(chance, 59), coverage)
        covered.append(found.scores(*rows_of(chance, 200))["covered"])
    assert coverage - 0.01 < np.mean(covered) < coverage + 0.03


def test_by_label_each_label_is_covered_where_over_all_rows_the_hard_one_is_not():
    chance = np.random.default_rng(1)
    by_row, by_label = (find_sets(*rows_of(chance, 6000, skew=2.0), 0.9, by) for by in (False, True))
    values, probabilities = rows_of(chance, 6000, skew=2.0)
    hard = values == 0

    def covered(sets: Sets) -> float:
        return float(sets.members(probabilities)[hard, 0].mean())

    assert covered(by_row) < 0.8 and covered(by_label) == pytest.approx(0.9, abs=0.03)


def test_a_threshold_is_the_kth_smallest_probability_and_too_few_rows_have_none():
    values, probabilities = np.zeros(19, int), np.linspace(0.05, 0.95, 19)[:, None].repeat(2, 1)
    assert find_sets(values, probabilities, 0.95).thresholds == (pytest.approx(0.05),)
    assert find_sets(values, probabilities, 0.9).thresholds == (pytest.approx(0.1),)
    assert find_sets(values[1:], probabilities[1:], 0.95).thresholds == (0.0,)
    for coverage, rows in ((0.95, 19), (0.9, 9), (0.99, 99), (0.5, 1)):
        assert fewest_rows(coverage) == rows
    by_label = find_sets(values, probabilities, 0.9, by_label=True)
    assert by_label.thresholds == (pytest.approx(0.1), 0.0)


@pytest.mark.parametrize("thresholds", [(0.3,), (0.05,), (0.6,), (0.0, 0.2, 0.2, 0.5, 0.5, 0.9), (0.0,)])
def test_the_graph_gives_these_members_best_first_in_a_width_that_always_suffices(thresholds):
    sets = Sets(0.9, thresholds, 100)
    _, probabilities = rows_of(np.random.default_rng(2), 500)
    found = {name: value.numpy() for name, value in sets.answer(NAMES, tf.constant(probabilities)).items()}
    assert found["set_labels"].shape == (500, sets.width(len(NAMES)))
    for labels, size, member, known in zip(*found.values(), sets.members(probabilities), probabilities, strict=True):
        wanted = [NAMES[c].encode() for c in np.argsort(-known) if member[c]]
        assert [label for label in labels if label] == wanted and size == len(wanted)
    plain = {"set_labels": [[x.decode() for x in row] for row in found["set_labels"]], "set_size": found["set_size"]}
    assert sets.fault(NAMES, plain, probabilities, 1e-6) is None
    plain["set_labels"][3] = ["f", *[""] * (sets.width(6) - 1)] if sets.members(probabilities)[3].sum() != 1 else []
    assert sets.fault(NAMES, plain, probabilities, 1e-6)[0] == 3


# Abstaining.


def test_the_promised_error_is_broken_in_at_most_one_of_twenty_draws():
    chance, broken, answered = np.random.default_rng(3), 0, []

    def draw(count: int):
        scores = chance.uniform(0.5, 1, count).astype(np.float32)
        return scores, chance.random(count) < 0.8 * (1 - scores)

    for _ in range(300):
        found = find_abstention(*draw(3000), 0.05)
        if found is None:
            continue
        # The true share of wrong ones among scores from the threshold up to 1.
        broken += 0.8 * (1 - (1 + found.threshold) / 2) > 0.05
        answered.append(found.answered)
    assert broken <= 25 and len(answered) > 200 and np.mean(answered) > 300


def test_too_few_rows_and_hopeless_ones_promise_nothing():
    least = abstention.fewest_rows(0.05)
    scores = np.full(least, 0.9, np.float32)
    assert find_abstention(scores, np.zeros(least, bool), 0.05).answered == least == 59
    assert find_abstention(scores[1:], np.zeros(least - 1, bool), 0.05) is None
    assert find_abstention(np.full(1000, 0.9, np.float32), np.arange(1000) % 2 == 0, 0.05) is None


def test_what_is_asked_of_validation_rows_goes_into_answers_metadata_and_back():
    export = ExportConfig(abstain_error=0.1, abstain_label="unsure", coverage=0.9, coverage_by="label")
    task = SingleLabel(NAMES).served(EvaluationConfig(), export)
    task = task.calibrated(*rows_of(np.random.default_rng(4), 2000))
    assert task.fault is None and task.abstain_below == task.guarantees.abstention.threshold
    again = tasks.from_metadata(json.loads(json.dumps(task.metadata())))
    assert "set" in task.optional_signatures
    assert (again.guarantees, again.abstain_below) == (task.guarantees, task.abstain_below)
    values, probabilities = rows_of(np.random.default_rng(5), 2000)
    scores = task.scores(values, probabilities)
    wrong = 1 - scores["selective"]["accuracy"]
    assert 0 < wrong < 0.13 and scores["sets"]["covered"] == pytest.approx(0.9, abs=0.03)
    assert "at most 10.0%" in task.answer_notes() and "90.0% of each label" in task.answer_notes()
    # Test rows of another kind are said, with numbers.
    shuffled = task.scores(np.roll(values, 1), probabilities)
    warnings, _ = task.findings(shuffled, "test", None)
    assert any("where 90.0% was asked for" in line for line in warnings)
    assert any("where at most 10.0% was promised" in line for line in warnings)


def test_what_cannot_be_promised_is_a_fault_that_says_what_can():
    task = SingleLabel(NAMES).served(EvaluationConfig(), ExportConfig(abstain_error=0.001))
    assert "needs at least 2995 validation rows, and there are 2000" in task.too_few(2000)
    task = task.calibrated(*rows_of(np.random.default_rng(6), 3000))
    assert "what they can promise is" in task.fault and task.abstain_below == 0


# How well a text fits.


def classes_of(chance: np.random.Generator, count: int, hidden: int = 12, classes: int = 4):
    centers = np.random.default_rng(99).normal(size=(classes, hidden)) * 4
    members = chance.integers(classes, size=count)
    spread = np.linspace(0.1, 2, hidden)
    return (centers[members] + chance.normal(size=(count, hidden)) * spread).astype(np.float32), members


@pytest.mark.parametrize("held_out", [40, 3000])
def test_fit_is_a_conformal_p_value(held_out):
    chance = np.random.default_rng(7)
    vectors, members = classes_of(chance, 800)
    known, new = classes_of(chance, held_out)[0], classes_of(chance, 4000)[0]
    found = find_typicality(vectors, Groups(np.ones(800, int), members, ()), known)
    assert len(found.distances) <= MOST_POINTS and found.rows == (800, held_out)
    fit, distances = found.fit_of(new), found.squared_distances(new)
    exact = (1 + (found.squared_distances(known) >= distances[:, None]).sum(1)) / (held_out + 1)
    # Never too small, and hardly too large.
    assert (fit >= exact - 1e-12).all() and (fit - exact).max() <= 1 / (held_out + 1) + 2 / MOST_POINTS
    assert (np.diff(fit[np.argsort(distances)]) <= 0).all()
    # Also among texts that are farther than all that are known.
    far = found.fit_of(np.array([new[0] + 100, new[0] + 200]))
    assert 1 / (held_out + 1) < far[1] < far[0] < fit.min() + 1e-12


def test_fit_tells_what_lies_between_classes_and_equal_distances_do_no_harm():
    chance = np.random.default_rng(8)
    vectors, members = classes_of(chance, 800)
    groups = Groups(np.ones(800, int), members, ())
    found = find_typicality(vectors, groups, np.repeat(classes_of(chance, 50)[0], 3, axis=0))
    assert (np.diff(found.distances) > 0).all()
    between = (vectors[members == 0][:50] + vectors[members == 1][:50]) / 2
    assert np.median(found.fit_of(between)) < 0.02 < 0.3 < np.median(found.fit_of(classes_of(chance, 500)[0]))
    # Of a task without classes there is one center, whose spread is that of all.
    one = find_typicality(vectors, Groups(np.zeros(800, int), np.zeros(0, int), ()), classes_of(chance, 200)[0])
    assert len(one.centers) == 1 and np.median(one.fit_of(between)) > 0.1


def test_the_graph_computes_the_same_fit():
    chance = np.random.default_rng(9)
    vectors, members = classes_of(chance, 500)
    found = find_typicality(vectors, Groups(np.ones(500, int), members, ()), classes_of(chance, 2000)[0])
    new = np.concatenate([classes_of(chance, 500)[0], vectors[:50], np.zeros((1, 12)), np.full((1, 12), 1e6)])
    new = new.astype(np.float32)
    np.testing.assert_allclose(FitOfVectors(found)(tf.constant(new)), found.fit_of(new), atol=2e-4)


# The whole road.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sure")
    export = {
        "coverage": 0.9,
        "outside": 0.9,
        "abstain_error": 0.2,
        "abstain_label": "unsure",
        "warmup_batch_sizes": [],
    }
    config = write_config(folder, 400, training={"epochs": 4}, export=export)
    assert main(["--config", str(config), "--run_dir", str(folder / "run")]) == 0
    return config, folder / "run"


def test_a_run_serves_sets_fit_and_abstaining_and_reports_them(run, tmp_path, capsys):
    _, folder = run
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test"]["sets"]["asked"] == 0.9 and metrics["fit"]["held_out_rows"] == 80
    low, high = metrics["fit"]["test"]["interval"]
    assert low <= 0.2 and high >= 0.0
    model = Classifier(folder)
    assert model.task.fit == Outside(0.1, "outside") and model.task.guarantees.abstention.error == 0.2
    answers = model(["goal match", "price of the stock", "and and and two , . ,"])
    given = answers["fit"]
    assert ((given >= 0) & (given <= 1)).all()
    named = np.array(model.task.names)[answers.probabilities.argmax(1)]
    abstained = np.where(answers.scores < np.float32(model.task.abstain_below), "unsure", named)
    assert answers.labels == np.where(given < np.float32(0.1), "outside", abstained).tolist()
    found = tf.saved_model.load(str(model.version)).signatures["set"](text=tf.constant(["goal match", "a"]))
    assert found["set_labels"].shape[0] == 2 and (found["set_size"].numpy() >= 0).all()
    assert predict([str(folder), "goal match", "--format", "csv"]) == 0
    assert "label,score,fit,reason" in capsys.readouterr().out
    report = (folder / "report.html").read_text()
    assert "Labels a set" in report and "distances of pooled vectors" in report


def test_other_answers_are_another_export_of_the_same_run(run, capsys):
    config, folder = run
    again = ["--config", str(config), "--run_dir", str(folder), "--export.outside", "0"]
    assert main([*again, "--export.abstain_error", "0.0001"]) == 2
    assert "export.abstain_error 0.0001 needs at least" in capsys.readouterr().err
    assert main([*again, "--export.abstain_error", "0.02", "--export.coverage", "0"]) == 2
    assert "export.abstain_error 0.02" in capsys.readouterr().err


def test_an_export_whose_fit_differs_is_refused(tmp_path):
    task = SingleLabel(LABELS, fit=Outside())
    model, encoder = tiny_model(3)
    typicality = some_typicality(model, encoder)
    inputs = encoder(tf.constant([text.encode("utf-8", "replace") for text in TEXTS]))
    predictions = task.activation(model(inputs)).numpy()
    fit = typicality.fit_of(pooled_model(model)(inputs).numpy())
    settings = ExportSettings(SignatureOptions(["predict_tokens"]), typicality=typicality)

    def export(fit: np.ndarray):
        held_out = HeldOut([TEXTS], Expected(predictions, 1e-4, fit))
        return export_verified(model, encoder, task, tmp_path, held_out, settings=settings)

    assert "fit" in json.loads((export(fit) / "assets.extra" / "recorded.json").read_text())
    with pytest.raises(ExportDiffers, match="has another fit than the evaluated model"):
        export(np.roll(fit, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--export.coverage", "0.9", "--data.validation_fraction", "0"], "export.coverage needs validation rows"),
        (["--export.fit", "true", "--data.validation_fraction", "0"], "export.fit needs validation rows"),
        (["--export.coverage", "0.9", "--data.label_separator", "|"], "export.coverage is for one label a row"),
        (["--export.outside", "0.9", "--data.task", "number"], "export.outside is for labels"),
    ],
)
def test_settings_that_have_no_meaning_are_refused(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        parse(["--config", str(write_config(tmp_path)), *arguments])


def test_names_of_labels_are_not_taken(tmp_path):
    # Before any rows have chosen from which score to answer.
    with pytest.raises(UserError, match=r"export\.abstain_label 'b' is the name of a label"):
        SingleLabel(NAMES).served(EvaluationConfig(), ExportConfig(abstain_error=0.1, abstain_label="b"))
    with pytest.raises(UserError, match="'a' is the name of a label"):
        SingleLabel(NAMES).served(EvaluationConfig(), ExportConfig(outside=0.9, outside_label="a"))
    with pytest.raises(UserError, match="both say when to answer"):
        SingleLabel(NAMES).served(EvaluationConfig(), ExportConfig(abstain_error=0.1, abstain_below=0.5))
