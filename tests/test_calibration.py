"""evaluation.calibration: one temperature, in the weights of what is served."""

import json

import numpy as np
import pytest
from tiny import write_config
from tiny_export import tiny_model

from export import load
from pipeline import run
from pipeline.classifier import rescale_logits
from pipeline.errors import UserError
from pipeline.evaluation.calibration import FEWEST_ROWS, Line, find_calibration
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
    tempered = Line.of_temperature(factor).predictions(task, softmax(factor * logits))
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
    tempered = Line.of_temperature(2.5).predictions(task, predictions)
    np.testing.assert_allclose(tempered, 1 / (1 + np.exp(-logits)), atol=1e-4)
    np.testing.assert_array_equal(task.decide(tempered), task.decide(predictions))


def test_labels_that_are_off_in_different_ways_get_lines_of_their_own():
    chance = np.random.default_rng(2)
    logits, labels = drawn(4000)
    shift = np.array([1.5, 0.0, -1.5])
    found = find_calibration(SingleLabel(NAMES), labels, softmax(2 * (logits - shift)))
    assert found.temperature is None and found.line.scale == pytest.approx(0.5, rel=0.1)
    np.testing.assert_allclose(found.line.shift - found.line.shift.mean(), shift, atol=0.15)
    assert "a line a label" in str(found)
    several = chance.normal(size=(3000, 3))
    given = (chance.random(several.shape) < 1 / (1 + np.exp(-several))).astype(np.int8)
    scale = np.array([4.0, 1.0, 0.5])
    found = find_calibration(
        MultiLabel(NAMES), given, (1 / (1 + np.exp(-scale * (several - shift)))).astype(np.float32)
    )
    np.testing.assert_allclose(found.line.scale, 1 / scale, rtol=0.15)
    np.testing.assert_allclose(found.line.shift, shift, atol=0.15)


def test_a_line_of_the_logits_goes_into_the_last_layer():
    model, encoder = tiny_model(3)
    inputs, line = encoder(["goal match", "bank"]), Line(np.array([2.0, 1.0, 0.5]), np.array([0.1, 0.2, -3.0]))
    before = np.array(model(inputs))
    rescale_logits(model, line.scale, line.shift)
    np.testing.assert_allclose(np.array(model(inputs)), before * line.scale + line.shift, atol=1e-4)


def test_what_is_right_already_or_cannot_be_told_stays():
    logits, labels = drawn(4000)
    assert find_calibration(SingleLabel(NAMES), labels, softmax(logits)) is None
    few = FEWEST_ROWS - 1
    assert find_calibration(SingleLabel(NAMES), labels[:few], softmax(3 * logits[:few])) is None


def test_a_run_serves_calibrated_probabilities(tmp_path, capsys):
    """What metrics.json says of the test rows is of the model that is exported and verified."""
    # Of these logits one temperature does as well as a line for each label.
    model = {"num_layers": 2}
    config = write_config(tmp_path, 700, data={"validation_fraction": 0.4}, model=model, training={"epochs": 3})
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
    np.testing.assert_allclose(served, Line.of_temperature(temperature).predictions(SingleLabel(NAMES), raw), atol=1e-4)
    # What is taken elsewhere is what is served.
    (_, bias), (_, plain_bias) = (head(as_checkpoint(tmp_path / name)) for name in ("run", "plain"))
    np.testing.assert_allclose(bias * temperature, plain_bias, atol=1e-6)
    # Of a run that was killed before its evaluation, nobody knows what would be.
    (tmp_path / "run" / "metrics.json").unlink()
    with pytest.raises(UserError, match="is not evaluated"):
        as_checkpoint(tmp_path / "run")
