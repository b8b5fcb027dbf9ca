"""evaluation.calibration: one temperature, in the weights of what is served."""

import json

import numpy as np
import pytest
from tiny import write_config

from export import load
from pipeline import run
from pipeline.evaluation.calibration import FEWEST_ROWS, find_calibration
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.single_label import SingleLabel
from pipeline.training.finished_run import as_checkpoint

NAMES = ("a", "b", "c")


def head(checkpoint) -> tuple[np.ndarray, np.ndarray]:
    return checkpoint.classifier.kernel, checkpoint.classifier.bias


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def drawn(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels that are drawn by their probabilities."""
    chance = np.random.default_rng(seed)
    logits = 2 * chance.normal(size=(rows, 3))
    return logits, np.array([chance.choice(3, p=row / row.sum()) for row in softmax(logits).astype(np.float64)])


@pytest.mark.parametrize("factor", [3.0, 0.4])
def test_the_temperature_of_known_logits_is_found(factor):
    logits, labels = drawn(4000)
    task = SingleLabel(NAMES)
    found = find_calibration(task, labels, softmax(factor * logits))
    assert found is not None and found.rows == 4000
    # Its standard error is 0.03 or so, of the logarithm.
    assert found.temperature == pytest.approx(factor, rel=0.1)
    assert found.loss[1] < found.loss[0] and found.ece[1] < 0.03 < found.ece[0]
    tempered = task.tempered(softmax(factor * logits), factor)
    np.testing.assert_allclose(tempered, softmax(logits), atol=1e-5)
    np.testing.assert_array_equal(task.decide(tempered), task.decide(softmax(logits)))


def test_each_label_of_several_counts():
    chance = np.random.default_rng(1)
    logits = chance.normal(size=(2000, 3))
    labels = (chance.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    predictions = (1 / (1 + np.exp(-2.5 * logits))).astype(np.float32)
    task = MultiLabel(NAMES)
    found = find_calibration(task, labels, predictions)
    assert found is not None and found.temperature == pytest.approx(2.5, rel=0.1)
    tempered = task.tempered(predictions, 2.5)
    np.testing.assert_allclose(tempered, 1 / (1 + np.exp(-logits)), atol=1e-4)
    np.testing.assert_array_equal(task.decide(tempered), task.decide(predictions))


def test_what_is_right_already_or_cannot_be_told_stays():
    logits, labels = drawn(4000)
    assert find_calibration(SingleLabel(NAMES), labels, softmax(logits)) is None
    few = FEWEST_ROWS - 1
    assert find_calibration(SingleLabel(NAMES), labels[:few], softmax(3 * logits[:few])) is None


def test_a_run_serves_calibrated_probabilities(tmp_path, capsys):
    """What metrics.json says of the test rows is of the model that is exported and verified."""
    config = write_config(tmp_path, 700, data={"validation_fraction": 0.4}, training={"epochs": 3})
    words = ["--config", str(config), "--training.learning_rate", "0.01"]
    assert run.main([*words, "--run_dir", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    temperature = metrics["calibration"]["temperature"]
    assert f"calibrated: temperature {temperature:.3g} of 280 validation rows" in said
    assert "temperature" in (tmp_path / "run" / "report.html").read_text()
    plain = ["--run_dir", str(tmp_path / "plain"), "--evaluation.calibration", "none"]
    assert run.main([*words, *plain]) == 0
    before = json.loads((tmp_path / "plain" / "metrics.json").read_text())
    assert "calibration" not in before and before["test"]["accuracy"] == metrics["test"]["accuracy"]
    assert metrics["validation"]["loss"] < before["validation"]["loss"]
    texts = ["goal match the team", "bank market", "the of a"]
    served, raw = (load(tmp_path / name)(texts).probabilities for name in ("run", "plain"))
    np.testing.assert_allclose(served, SingleLabel(NAMES).tempered(raw, temperature), atol=1e-4)
    # What is taken elsewhere is what is served.
    (_, bias), (_, plain_bias) = (head(as_checkpoint(tmp_path / name)) for name in ("run", "plain"))
    np.testing.assert_allclose(bias * temperature, plain_bias, atol=1e-6)
