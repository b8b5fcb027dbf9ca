"""python -m pipeline.privacy audit: lower bounds of epsilon, in theory and by an attack on a training."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from test_privacy import private_config

import pipeline
from pipeline.command_line import parse
from pipeline.privacy import audit, prepare
from pipeline.privacy.__main__ import main as privacy
from pipeline.privacy.config import PrivacyConfig
from pipeline.privacy.model import Mechanism
from pipeline.privacy.one_run import lower_bound, p_value
from pipeline.privacy.statement import planned


def randomized_response(chance: np.random.Generator, epsilon: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are as telling as epsilon-differential privacy lets them be, and the truth."""
    included = chance.random(count) < 0.5
    right = chance.random(count) < 1 / (1 + np.exp(-epsilon))
    return np.where(right == included, 1.0, -1.0) + 0.01 * chance.normal(size=count), included


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 4.0])
def test_the_bound_is_below_the_truth_and_not_far(epsilon):
    chance = np.random.default_rng(0)
    found = [lower_bound(*randomized_response(chance, epsilon, 2000), 1e-6).epsilon for _ in range(60)]
    assert np.mean(np.array(found) > epsilon) <= 0.1 and np.mean(found) > 0.7 * epsilon


def test_guesses_at_random_tell_nothing_and_perfect_ones_as_much_as_their_number_allows():
    chance = np.random.default_rng(1)
    included = chance.random(400) < 0.5
    assert lower_bound(chance.normal(size=400), included, 1e-5).epsilon < 0.3
    perfect = lower_bound(included.astype(float), included, 1e-5)
    assert 3 < perfect.epsilon < 8 and perfect.right == perfect.guesses
    # What delta allows to be told is taken off.
    assert lower_bound(included.astype(float), included, 0.01).epsilon < perfect.epsilon


def test_without_delta_the_probability_is_the_binomial_one():
    from scipy.stats import binom

    assert p_value(100, 50, 40, 1.0, 0.0) == pytest.approx(binom.sf(39, 50, np.e / (1 + np.e)))
    assert p_value(100, 50, 40, 1.0, 1e-3) > p_value(100, 50, 40, 1.0, 0.0)
    assert p_value(100, 50, 0, 1.0, 0.0) == 1


@pytest.mark.slow
def test_an_attack_finds_noise_that_was_left_out_and_nothing_where_there_was_some(tmp_path, monkeypatch, capsys):
    pytest.importorskip("dp_accounting")
    privacy_settings = {"epsilon": 1.0, "delta": 1e-6, "clip_norm": 10.0}
    training = {"epochs": 60, "learning_rate": 0.005, "privacy": privacy_settings}
    # Without validation rows the last epoch's weights are taken, which have seen the canaries most often.
    config = private_config(tmp_path, training=training, data={"validation": None, "validation_fraction": 0})
    # A word of its own for each canary.
    vocabulary = tmp_path / "vocab.txt"
    made = [f"word{a}{b}".translate(str.maketrans("0123456789", "abcdefghij")) for a in range(15) for b in range(10)]
    vocabulary.write_text(vocabulary.read_text() + "\n".join(made) + "\n")
    bounds = {}
    mechanism = prepare._mechanism
    for name, factor in (("with", 1.0), ("without", 0.0)):
        run_dir = tmp_path / name

        def weaker(statement, secret, factor=factor) -> Mechanism:
            true = mechanism(statement, secret)
            return replace(true, noise=true.noise * factor)

        monkeypatch.setattr(prepare, "_mechanism", weaker)
        pipeline.train(parse(["--config", str(config), "--run_dir", str(run_dir), "--export.enabled", "false"]))
        status = privacy(["audit", str(run_dir), "--canaries", "150", "--seed", "3"])
        bounds[name] = json.loads((run_dir / "audit" / "audit.json").read_text())
        assert status == (1 if bounds[name]["epsilon"] > bounds[name]["claimed"] else 0)
    assert bounds["with"]["epsilon"] < 1.0 < bounds["without"]["epsilon"], bounds
    # Asked again it answers from what is there.
    assert privacy(["audit", str(tmp_path / "with"), "--canaries", "150"]) == 0
    assert "training is already complete" in capsys.readouterr().out


def test_what_cannot_be_audited_is_refused(tmp_path, capsys):
    assert privacy(["audit", str(tmp_path)]) == 2
    assert "is no private run" in capsys.readouterr().err


def test_canaries_are_read_alike_in_any_encoding_and_without_language_or_time(tmp_path, monkeypatch):
    pytest.importorskip("dp_accounting")
    path = private_config(tmp_path, data={"encoding": "latin-1", "language_column": "lang", "time_column": "day"})
    config = parse(["--config", str(path), "--run_dir", str(tmp_path / "run")])
    monkeypatch.setattr(audit, "_words", lambda run_dir: [f"größe{letter}" for letter in "abcdefghijklmnopqrst"])
    canaries = audit._canaries(tmp_path, tmp_path, config, 20, seed=1)
    lines = (tmp_path / audit.INCLUDED).read_text("latin-1").splitlines()
    assert [json.loads(line)["text"] for line in lines] == [one.text for one in canaries if one.included]
    data = audit._with_canaries(config, tmp_path / audit.INCLUDED).data
    assert data.language_column is None and data.time_column is None and data.encoding == "latin-1"


def test_an_encoding_that_reads_no_ascii_is_refused(tmp_path, capsys):
    pytest.importorskip("dp_accounting")
    path = private_config(tmp_path, data={"encoding": "utf-16"})
    (tmp_path / "run").mkdir()
    shutil.copy(path, tmp_path / "run" / "config.yaml")
    planned(PrivacyConfig(epsilon=8.0), "row", 400, 40, 10, "all").save(tmp_path / "run")
    assert privacy(["audit", str(tmp_path / "run")]) == 2
    assert "data.encoding utf-16: the canaries are a file in ASCII" in capsys.readouterr().err
