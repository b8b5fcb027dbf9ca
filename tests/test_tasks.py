"""What is predicted: from cells to targets, and a number as the proof that a task is one file."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import spearmanr
from sklearn import metrics as sklearn_metrics
from tiny import SUBJECTS, write_config

from export.versions import find_version, read_metadata
from pipeline import tasks
from pipeline.config import DataConfig
from pipeline.data.load import load
from pipeline.errors import UserError
from pipeline.publish import require_equal
from pipeline.run import main
from pipeline.tasks.label_cells import SeveralLabelsReader
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.number import Number
from pipeline.tasks.single_label import SingleLabel


def load_text(tmp_path, content, name="rows.csv", **settings):
    path = tmp_path / name
    path.write_text(content)
    settings = {"validation_fraction": 0, "test_fraction": 0} | settings
    return load(DataConfig(train=str(path), **settings), tmp_path / "cache")


def label_sets(splits):
    """The label names of each row."""
    return [[splits.task.names[i] for i in np.flatnonzero(row)] for row in splits.train.targets()]


def as_jsonl(labels):
    return "".join(json.dumps({"text": f"text {i}", "label": label}) + "\n" for i, label in enumerate(labels))


def test_one_column_of_zeros_and_ones_for_each_label(tmp_path):
    content = "text,toxic,rude,never\na,1,0,0\nb,0.0,1.0,0\nc,False,,no\nd,1,yes,0\n"
    splits = load_text(tmp_path, content, label_columns=["toxic", "rude", "never"])
    assert splits.task.names == ("toxic", "rude", "never")
    assert label_sets(splits) == [["toxic"], ["rude"], [], ["toxic", "rude"]]
    assert splits.warnings == ["no training row has the label 'never'."]
    with pytest.raises(UserError, match=r"line 2: the row has '2' in the column 'rude'.*where 0 or 1 is expected"):
        load_text(tmp_path, "text,toxic,rude\na,1,2\n", "bad.csv", label_columns=["toxic", "rude"])


def test_equally_long_lists_of_zeros_and_ones_are_multi_hot(tmp_path):
    hot = as_jsonl([[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    with pytest.raises(UserError, match=r"'label' holds lists of 3 zeros and ones.*with data\.labels"):
        load_text(tmp_path, hot, "hot.jsonl", label_separator="|")
    splits = load_text(tmp_path, hot, "hot.jsonl", label_separator="|", labels=["x", "y", "z"])
    assert label_sets(splits) == [["x", "z"], [], ["y"]]
    floats = as_jsonl([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0, 1.0, False]])
    with pytest.raises(UserError, match=r"'label' holds lists of 3 zeros and ones.*with data\.labels"):
        load_text(tmp_path, floats, "floats.jsonl", label_separator="|")
    splits = load_text(tmp_path, floats, "floats.jsonl", label_separator="|", labels=["x", "y", "z"])
    assert label_sets(splits) == [["x", "z"], [], ["y"]]
    # Lists of other lengths name labels.
    splits = load_text(tmp_path, as_jsonl([[1, 0], [0], [1]]), "names.jsonl", task="multi_label")
    assert label_sets(splits) == [["0", "1"], ["0"], ["1"]]


@pytest.mark.parametrize("kind", [int, bool, float, np.bool_, np.int8, np.float16, np.float32, np.float64])
def test_zeros_and_ones_of_every_kind_are_multi_hot(kind):
    reader = SeveralLabelsReader(DataConfig(label_separator="|", labels=["x", "y", "z"]))
    assert reader.read([[kind(1), kind(0), kind(1)]]) == ["x", "z"]


def test_lists_written_as_text(tmp_path):
    content = 'text,label\na,"[\'money\', \'sport\']"\nb,"[""sport""]"\nc,[]\n'
    splits = load_text(tmp_path, content, label_separator=", ")
    assert label_sets(splits) == [["money", "sport"], ["sport"], []]
    with pytest.raises(UserError, match=r"line 2: the row has a list of labels .*data\.task to multi_label"):
        load_text(tmp_path, content, "single.csv")
    # What is no list stays text.
    assert load_text(tmp_path, "text,label\na,[x]\nb,[y]\n", "brackets.csv").task.names == ("[x]", "[y]")


def test_a_label_that_holds_the_separator_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"line 1: the row has a label 'x\|y' that holds '\|'"):
        load_text(tmp_path, as_jsonl([["x|y"], ["x", "y"]]), "rows.jsonl", label_separator="|")
    with pytest.raises(UserError, match=r"label 'x\|y' holds '\|'"):
        load_text(tmp_path, "text,x|y,z\na,1,0\n", label_columns=["x|y", "z"])


def test_numbers_are_no_labels_in_any_format(tmp_path):
    values = [0.125, 0.5, 1.0, 0.25]
    for name, content in (
        ("a.csv", "text,label\n" + "".join(f"t{i},{v}\n" for i, v in enumerate(values))),
        ("a.jsonl", as_jsonl(values)),
        ("s.jsonl", as_jsonl(map(str, values))),
    ):
        with pytest.raises(UserError, match=r"data\.task"):
            load_text(tmp_path, content, name)
        splits = load_text(tmp_path, content, name, task="number")
        assert splits.train.targets().tolist() == values
    assert load_text(tmp_path, "text,label\na,0.5\nb,1.5\n", "c.csv", task="single_label").task.names == ("0.5", "1.5")


def test_whole_numbers_with_a_point_are_integers(tmp_path):
    (tmp_path / "test.csv").write_text("text,label\nx,2\ny,10.0\n")
    splits = load_text(tmp_path, "text,label\na,10.0\nb,2.0\n", test=str(tmp_path / "test.csv"))
    assert splits.task.names == ("2", "10") and splits.test.targets().tolist() == [0, 1]
    assert load_text(tmp_path, "text,label\na,007\nb,7\n", "zip.csv").task.names == ("007", "7")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", "has no value"),
        ("many", "has 'many' where a number"),
        ("nan", "has nan where a finite"),
        ("inf", "has inf where a finite"),
    ],
)
def test_what_is_no_number_is_refused(tmp_path, cell, message):
    with pytest.raises(UserError, match=f"line 3: the row {message}"):
        load_text(tmp_path, f"text,label\na,1\nb,{cell}\n", task="number")


def test_a_number_that_never_changes_is_refused(tmp_path):
    with pytest.raises(UserError, match="all training rows have the value 3"):
        load_text(tmp_path, "text,label\na,3\nb,3\n", task="number")


def test_scores_of_a_number_agree_with_scikit_learn_and_scipy():
    random = np.random.default_rng(0)
    for _ in range(300):
        rows = int(random.integers(2, 40))
        values = random.normal(5, 3, rows)
        predicted = (values + random.normal(0, random.uniform(0.1, 5), rows)).astype(np.float32)[:, np.newaxis]
        scores = Number(5.0, 3.0).scores(values, predicted)
        given = predicted[:, 0].astype(np.float64)
        assert scores["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(values, given))
        assert scores["rmse"] == pytest.approx(sklearn_metrics.mean_squared_error(values, given) ** 0.5)
        assert scores["r2"] == pytest.approx(sklearn_metrics.r2_score(values, given))
        assert scores["spearman"] == pytest.approx(spearmanr(values, given)[0])


def test_scores_of_labels_agree_with_scikit_learn():
    random = np.random.default_rng(1)
    names = ("a", "b", "c", "d")
    for _ in range(60):
        rows = int(random.integers(2, 30))
        labels, probabilities = random.integers(0, 4, rows), random.dirichlet(np.ones(4), rows).astype(np.float32)
        scores, predicted = SingleLabel(names).scores(labels, probabilities), probabilities.argmax(axis=1)
        assert scores["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
        assert scores["matthews"] == pytest.approx(sklearn_metrics.matthews_corrcoef(labels, predicted))
        hot, given = (random.random((2, rows, 4)) < 0.4).astype(np.float32)
        several = MultiLabel(names).scores(hot, given)
        for average in ("macro", "micro", "weighted"):
            for found, true, answer in ((scores, labels, predicted), (several, hot, given)):
                f1 = sklearn_metrics.f1_score(true, answer, average=average, zero_division=0)
                assert found[f"{average}_f1"] == pytest.approx(f1)


def test_the_interval_holds_what_was_asked_for():
    random = np.random.default_rng(0)
    values, noise = random.normal(size=(2, 4000))
    task = Number(coverage=0.8).calibrated(values[:2000], (values + noise)[:2000, np.newaxis])
    found = task.scores(values[2000:], (values + noise)[2000:, np.newaxis].astype(np.float32))
    assert found["interval"]["coverage"] == pytest.approx(0.8, abs=0.03)
    assert found["interval"]["half_width"] == pytest.approx(1.28, abs=0.1)


@pytest.mark.parametrize(
    "task", [SingleLabel(("a", "b"), 0.5, "none"), MultiLabel(("a", "b"), 0.3, "+"), Number(1.0, 2.0, 0.5, 0.8)]
)
def test_a_task_is_what_its_metadata_says(task):
    assert tasks.from_metadata(json.loads(json.dumps(task.metadata()))) == task
    logits = tf.constant(np.random.default_rng(0).normal(size=(5, task.outputs)), tf.float32)
    predictions = task.activation(logits)
    wanted = task.answer_of(predictions.numpy())
    for name, value in task.answer(predictions).items():
        found = [text.decode() for text in value.numpy()] if value.dtype == tf.string else value.numpy().tolist()
        assert found == (wanted[name] if value.dtype == tf.string else wanted[name].tolist())


def test_nobody_outside_asks_which_task_it_is():
    root = Path(tasks.__file__).parents[2]
    names = "|".join(tasks.KINDS)
    for folder in ("pipeline", "export"):
        for path in (root / folder).rglob("*"):
            inside = path.is_relative_to(root / "pipeline/tasks") or path.is_relative_to(root / "pipeline/configs")
            if inside or path.suffix not in (".py", ".j2"):
                continue
            text = path.read_text(encoding="utf-8")
            found = re.findall(rf"[=(]= *[\"'](?:{names})[\"']|(?:multi|single)_label", text)
            assert not found, f"{path.relative_to(root)}: {found}"


@pytest.fixture(scope="module")
def number_run(tmp_path_factory) -> Path:
    """A finished run that predicts how many words about money a text has."""
    folder = tmp_path_factory.mktemp("number")
    config = write_config(
        folder,
        data={"task": "number", "label_column": "worth", "validation_fraction": 0.25},
        training={"epochs": 6, "learning_rate": 0.01},
        model={"pooling": "attention"},
        export={"signatures": ["predict_tokens", "embed", "explain"], "explain_steps": 16},
    )
    random = np.random.default_rng(0)
    words = [*SUBJECTS["money"], *SUBJECTS["sport"]]
    rows = [random.choice(words, int(random.integers(3, 8))).tolist() for _ in range(400)]
    lines = [f"{' '.join(row)},{1000 + 50 * sum(word in SUBJECTS['money'] for word in row)}" for row in rows]
    (folder / "train.csv").write_text("\n".join(["text,worth", *lines]) + "\n")
    assert main(["--config", str(config), "--run_dir", str(folder / "run")]) == 0
    return folder / "run"


def test_a_number_is_learned_scored_and_reported(number_run):
    found = json.loads((number_run / "metrics.json").read_text())
    assert found["task"] == "number"
    assert found["test"]["mae"] < 0.7 * found["test"]["baseline"]["mae"]
    assert found["test"]["spearman"] > 0.6
    report = (number_run / "report.html").read_text()
    assert "Mean absolute error" in report and "Predicted against true" in report and "Largest errors" in report
    history = [row["validation_mae"] for row in found["train"]["history"]]
    assert found["train"]["best_epoch"] == 1 + int(np.argmin(history))


def test_a_number_is_served_with_its_interval_and_explained_in_its_units(number_run):
    version = find_version(number_run)
    described = read_metadata(version)
    assert described["task"] == "number" and described["model"]["pooling"] == "attention"
    signatures = tf.saved_model.load(str(version)).signatures
    assert sorted(signatures) == ["embed", "explain", "predict_tokens", "regress", "serving_default"]
    texts = tf.constant(["bank market price", "goal match team"])
    answer = {name: value.numpy() for name, value in signatures["serving_default"](text=texts).items()}
    assert answer["value"][0] > answer["value"][1] + 50
    np.testing.assert_allclose(answer["high"] - answer["value"], described["half_width"], rtol=1e-4)
    explained = signatures["explain"](text=texts)
    begin, end = explained["begin"].numpy()[0], explained["end"].numpy()[0]
    attributions = explained["attributions"].numpy()[0][end > begin]
    assert len(attributions) == 3 and attributions.sum() > 0


def test_a_served_model_that_is_not_the_trained_one_is_refused():
    trained = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    require_equal(trained, trained + np.float32(5e-4), 1e-3)
    with pytest.raises(UserError, match=r"differs from the trained one.*0\.7 off where 0\.001"):
        require_equal(trained, np.array([[0.2, 0.8], [0.2, 0.8]], np.float32), 1e-3)
    with pytest.raises(UserError, match="differs"):
        require_equal(trained, np.full((2, 2), np.nan), 1e-3)


def test_one_label_is_one_label():
    assert MultiLabel(("joy",)).describe() == "1 label, any number a row"
    assert [SingleLabel(names).describe() for names in (("a",), ("a", "b"))] == ["1 label", "2 labels"]
