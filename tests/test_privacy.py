"""Private training: what it claims, what it draws, what it refuses, and what it leaves behind."""

import csv
import json
import math
import os
import shutil
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from scipy.stats import norm
from test_resume import kill_when, newest, position, tensors
from tiny import SUBJECTS, write_config, write_rows

import pipeline
from pipeline.command_line import parse, read_config
from pipeline.errors import UserError
from pipeline.privacy.__main__ import main as privacy
from pipeline.privacy.config import PrivacyConfig
from pipeline.privacy.optimizer import PrivateAdamW
from pipeline.privacy.sampling import PoissonSampling, units_of
from pipeline.privacy.secret import FILE as SECRET
from pipeline.privacy.secret import forget, secret_of
from pipeline.privacy.statement import planned, statement_of
from pipeline.training import checkpoint

ROWS, BATCH, EPOCHS = 96, 8, 2
UPDATES = EPOCHS * ROWS // BATCH


def private_config(folder: Path, **sections) -> Path:
    """tiny.yaml of a run that is private, with validation and test rows of their own."""
    training = {"privacy": {"epsilon": 8.0}, "epochs": EPOCHS, "batch_size": BATCH} | sections.pop("training", {})
    data = {"labels": sorted(SUBJECTS)} | sections.pop("data", {})
    path = write_config(folder, rows=ROWS, training=training, data=data, **sections)
    for name in ("validation", "test"):
        write_rows(folder / f"{name}.csv", 24, seed=len(name))
    config = yaml.safe_load(path.read_text())
    config["data"] = {name: str(folder / f"{name}.csv") for name in ("validation", "test")} | config["data"]
    path.write_text(yaml.safe_dump(config))
    return path


def sampling(units=400, rate=0.1, updates=300, secret=7, sizes=None) -> PoissonSampling:
    starts = np.concatenate([[0], np.cumsum(np.ones(units, int) if sizes is None else sizes)])
    return PoissonSampling(np.arange(starts[-1]), starts, rate, updates, secret)


# ---- What is drawn.


def test_each_row_is_in_each_batch_with_one_probability_by_itself():
    drawn = sampling()
    member = np.zeros((drawn.updates, drawn.units))
    for update in range(drawn.updates):
        rows = drawn.rows(update)
        assert len(np.unique(rows)) == len(rows)
        member[update, rows] = 1
    # A binomial count over updates for each row, over rows for each update: of both the variance of one by one.
    assert abs(member.mean() - 0.1) < 0.004
    assert abs(member.sum(1).var() / (400 * 0.09) - 1) < 0.3
    assert abs(member.sum(0).var() / (300 * 0.09) - 1) < 0.3
    assert drawn.largest == member.sum(1).max()


def test_a_secret_and_the_number_of_an_update_decide_its_rows():
    np.testing.assert_array_equal(sampling().rows(5), sampling(updates=6).rows(5))
    assert not np.array_equal(sampling().rows(5), sampling().rows(6))
    assert not np.array_equal(sampling().rows(5), sampling(secret=8).rows(5))


def test_of_a_group_one_row_is_drawn():
    sizes = np.array([1, 5, 30, 2] * 25)
    drawn = sampling(units=100, rate=0.5, sizes=sizes)
    group_of = np.repeat(np.arange(100), sizes)
    seen = np.concatenate([drawn.rows(update) for update in range(300)])
    for update in range(20):
        groups = group_of[drawn.rows(update)]
        assert len(np.unique(groups)) == len(groups)
    counts = np.bincount(group_of[seen], minlength=100)
    assert abs(counts.mean() - 150) < 5 and counts.min() > 110
    assert len(np.unique(seen)) > 0.98 * sizes.sum()


def test_units_are_rows_or_the_groups_that_a_column_names():
    class Rows(list):
        store = SimpleNamespace(columns=())

        def extra(self, role):
            return np.array(self)

    rows = Rows([4, 0, 4, 9, 0, 4])
    members, starts = units_of(rows)
    assert members.tolist() == list(range(6)) and starts.tolist() == list(range(7))
    rows.store = SimpleNamespace(columns=("group",))
    members, starts = units_of(rows)
    groups = [sorted(members[a:b].tolist()) for a, b in pairwise(starts)]
    assert groups == [[1, 4], [0, 2, 5], [3]]


# ---- What is claimed.


def test_without_sampling_epsilon_is_that_of_the_gaussian_mechanism():
    """Its delta in closed form (Balle and Wang, 2018), which the accountant does not use."""
    pytest.importorskip("dp_accounting")
    from pipeline.privacy.accounting import epsilon_of

    for noise, updates in ((2.0, 1), (8.0, 10)):
        found = epsilon_of(noise, 1.0, updates, 1e-4)
        mu = math.sqrt(updates) / noise
        delta = norm.cdf(mu / 2 - found / mu) - math.exp(found) * norm.cdf(-mu / 2 - found / mu)
        assert 0.97e-4 < delta <= 1e-4


def test_the_noise_is_the_least_that_does():
    pytest.importorskip("dp_accounting")
    from pipeline.privacy.accounting import epsilon_of, noise_for

    # Of another implementation: 1.368 and 0.812 by another grid.
    for epsilon, expected in ((3.0, 1.368), (8.0, 0.812)):
        noise = noise_for(epsilon, 256 / 3000, 117, 1.7e-4)
        assert abs(noise / expected - 1) < 0.005
        assert epsilon_of(noise, 256 / 3000, 117, 1.7e-4) <= epsilon
        assert epsilon_of(noise * 0.998, 256 / 3000, 117, 1.7e-4) > epsilon


def test_a_delta_that_cannot_be_told_from_0_is_named():
    pytest.importorskip("dp_accounting")
    from pipeline.privacy.accounting import noise_for

    with pytest.raises(UserError, match=r"^training\.privacy\.delta 1e-17 is below what the accountant can tell"):
        noise_for(8.0, 0.05, 10, 1e-17)
    with pytest.raises(UserError, match=r"^training\.privacy\.epsilon 1e-05 is too small for 10 updates"):
        noise_for(1e-5, 0.05, 10, 1e-6)


def test_the_cross_check_is_a_looser_bound_and_quiet(caplog):
    """Of two trainings; most orders of the second do not converge."""
    pytest.importorskip("dp_accounting")
    from pipeline.privacy.accounting import epsilon_of, rdp_epsilon_of

    for training in ((1.368, 256 / 3000, 117, 1.7e-4), (0.5, 0.08, 24, 5e-3)):
        assert epsilon_of(*training) < rdp_epsilon_of(*training) < 1.5 * epsilon_of(*training)
    assert caplog.records == []
    # In closed form, of one update with each row: the best of all orders.
    orders = np.linspace(1.1, 60, 5000)
    expected = np.min(orders / 8 + np.log(1e5) / (orders - 1) + np.log1p(-1 / orders) - np.log(orders) / (orders - 1))
    assert rdp_epsilon_of(2.0, 1.0, 1, 1e-5) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("batch", "settings", "sentence"),
    [
        (200, {}, "more than there are to learn from, 100 rows"),
        (10, {"delta": 0.02}, "delta 0.02 allows that one of 100 rows is told whole"),
        (10, {"epsilon": 1e-9, "delta": 1e-9}, "epsilon 1e-09 is too small for 50 updates"),
    ],
)
def test_a_claim_that_cannot_be_made_is_refused(batch, settings, sentence):
    pytest.importorskip("dp_accounting")
    with pytest.raises(UserError, match=sentence):
        planned(PrivacyConfig(**{"epsilon": 8.0} | settings), "row", 100, batch, 50, "all")


# ---- What is secret.


def test_the_secret_is_random_kept_for_its_owner_and_forgotten(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    secret = secret_of(tmp_path / "a", None, begun=False)
    assert secret != secret_of(tmp_path / "b", None, begun=False) and len(secret) == 32
    assert (tmp_path / "a" / SECRET).stat().st_mode & 0o777 == 0o600
    assert secret_of(tmp_path / "a", None, begun=True) == secret
    forget(tmp_path / "a")
    assert os.listdir(tmp_path / "a") == []
    with pytest.raises(UserError, match=r"privacy\.secret is gone, without which this private run cannot go on"):
        secret_of(tmp_path / "a", None, begun=True)


def test_a_worker_that_does_not_see_the_secret_makes_none(tmp_path, monkeypatch):
    """Of two secrets the batches of two workers would overlap, and the claim be false."""
    monkeypatch.setattr(checkpoint, "VISIBLE", 0.1)
    with pytest.raises(UserError, match=r"privacy\.secret of the chief is not here: run_dir must be a folder that all"):
        checkpoint.await_chief(tmp_path / SECRET)
    with pytest.raises(UserError, match=r"privacy\.secret is gone"):
        secret_of(tmp_path, None, begun=True)
    assert os.listdir(tmp_path) == []


# ---- What is refused.


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("training.method", "auto"),
        ("training.class_weights", "balanced"),
        ("training.drop_suspicious", "true"),
        ("training.xla", "true"),
        ("training.strategy", "tpu"),
        ("text.long", "chunks"),
        ("data.max_examples", "50"),
        ("data.unlabelled", "more.csv"),
        ("data.weight_column", "weight"),
        ("distillation.teacher", "runs/teacher"),
        ("evaluation.cross_validation", "5"),
        ("evaluation.threshold", "tuned"),
        ("export.fit", "true"),
        ("corpus.train", "text.txt"),
        ("model.pooled_layers", "2"),
        ("data.labels", "null"),
        ("data.validation", "null"),
        ("data.test", "null"),
        ("data.task", "number"),
    ],
)
def test_what_would_tell_more_is_refused(tmp_path, option, value):
    pytest.importorskip("dp_accounting")
    config = private_config(tmp_path, export={"signatures": ["top_k"]})
    parse(["--config", str(config)])
    with pytest.raises(UserError, match=rf"^training\.privacy .*{option.partition('.')[2]}|number's mean"):
        parse(["--config", str(config), f"--{option}", value])


def test_pre_training_is_refused(tmp_path):
    config = private_config(tmp_path, model={"max_sequence_length": 128})
    with pytest.raises(UserError, match=r"^training\.privacy is for fine-tuning: pre-training pairs each document"):
        parse(["--config", str(config), "--stage", "pretrain", "--corpus.train", str(tmp_path / "train.csv")])


def test_a_search_is_refused(tmp_path):
    pytest.importorskip("dp_accounting")
    from pipeline.search.study import open_study

    with pytest.raises(UserError, match=r"training\.privacy goes without a search"):
        open_study(replace(parse(["--config", str(private_config(tmp_path))]), run_dir=str(tmp_path / "run")))


# ---- A run.

VARIANCES = set()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished private run."""
    pytest.importorskip("dp_accounting")
    folder = tmp_path_factory.mktemp("private")
    path = private_config(folder)
    rows = (folder / "train.csv").read_text().splitlines()
    # A word of one private row, which is in no vocabulary and in no other file.
    (folder / "train.csv").write_text("\n".join([*rows, "zyxwvut goal,sport"]) + "\n")
    config = read_config(path)
    config.run_dir = str(folder / "run")
    # As of a run that was stopped before its first update, of other rows.
    Path(config.run_dir).mkdir()
    planned(config.training.privacy, "row", 4000, BATCH, 7, "all").save(Path(config.run_dir))
    step = PrivateAdamW.update_step

    def noted(self, *arguments):
        VARIANCES.add(self.noise_variance)
        step(self, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PrivateAdamW, "update_step", noted)
        return pipeline.train(config)


def test_adam_knows_the_noise_of_the_claim(run):
    claimed = statement_of(run.run_dir)
    assert pytest.approx((claimed.noise_multiplier * claimed.clip_norm / claimed.batch_size) ** 2) == VARIANCES.pop()
    assert not VARIANCES


def test_export_metrics_and_report_carry_the_claim(run):
    claimed = statement_of(run.run_dir)
    assert claimed is not None and claimed.secret and claimed.unit == "row" and claimed.units == ROWS + 1
    assert claimed.delta == 1 / (2 * (ROWS + 1)) and 7.9 < claimed.epsilon <= 8
    metadata = json.loads((run.saved_model / "assets.extra/metadata.json").read_text())
    assert metadata["privacy"] == run.metrics["privacy"] == asdict(claimed)
    assert metadata["run"]["data"] is None
    assert "differentially private for one row of 97" in (run.run_dir / "report.html").read_text()


def test_no_dropout_tells_who_is_in_a_batch(run):
    """The model of a config has some, and draws no mask."""
    assert read_config(run.run_dir / "config.yaml").model.dropout == 0.1
    # Seed and count of each generator.
    kept = [np.asarray(value) for value in tensors(run.run_dir).values()]
    masks = [value for value in kept if value.shape == (2,) and value.dtype.kind in "iu"]
    assert masks and not any(count for _, count in masks)
    assert not statement_of(run.run_dir).dropout


def test_a_run_of_older_versions_is_known_by_its_records(tmp_path, capsys):
    pytest.importorskip("dp_accounting")
    told = planned(PrivacyConfig(epsilon=8.0), "row", 400, 40, 10, "all").metadata()
    del told["dropout"]
    (tmp_path / "privacy.json").write_text(json.dumps(told))
    assert statement_of(tmp_path).dropout
    assert "NOT as claimed unless its model had no dropout" in statement_of(tmp_path).sentence()
    (tmp_path / "config.yaml").write_text("{}")
    assert privacy(["audit", str(tmp_path)]) == 2
    assert "is of an older version, which trained otherwise" in capsys.readouterr().err


def draws(run_dir: Path) -> int:
    """How often noise was drawn: the count of updates, on which alone it depends, beside the secret."""
    return int(tensors(run_dir)["optimizer/0/.ATTRIBUTES/VARIABLE_VALUE"])


def test_each_update_had_its_noise_once_and_its_secret_is_gone(run):
    assert draws(run.run_dir) == statement_of(run.run_dir).updates == EPOCHS * -(-(ROWS + 1) // BATCH)
    assert not (run.run_dir / SECRET).exists()


def test_what_was_stopped_after_its_training_goes_on_without_the_secret(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.run_dir, folder)
    shutil.rmtree(folder / "saved_model")
    for name in ("complete.json", "metrics.json"):
        (folder / name).unlink()
    again = pipeline.train(parse(["--config", str(run.run_dir.parent / "tiny.yaml"), "--run_dir", str(folder)]))
    assert again.metrics["test"] == run.metrics["test"] and again.metrics["privacy"] == run.metrics["privacy"]
    assert again.saved_model is not None and not (folder / SECRET).exists()


def test_nothing_that_is_released_tells_of_a_private_row(run):
    released = [run.run_dir / name for name in ("metrics.json", "report.html", "identity.json", "privacy.json")]
    released += [
        path for folder in ("saved_model", "logs") for path in (run.run_dir / folder).rglob("*") if path.is_file()
    ]
    texts = [row["text"] for row in csv.DictReader((run.run_dir.parent / "train.csv").open())]
    for path in released:
        content = path.read_bytes()
        assert b"zyxwvut" not in content, path
        assert not any(text.encode() in content for text in texts if len(text) > 30), path
    assert all("loss" not in row for row in run.metrics["train"]["history"])
    assert b"batch_loss" not in b"".join(path.read_bytes() for path in released)
    assert "baseline" not in run.metrics


def test_the_claim_is_recomputed_from_the_records_alone(run, capsys, tmp_path):
    assert privacy(["account", str(run.run_dir)]) == 0
    said = capsys.readouterr().out
    assert "recomputed: epsilon 7.99" in said and "by Rényi differential privacy, a looser bound" in said
    assert statement_of(run.run_dir).rdp_epsilon > 8 and "tighter" not in said
    assert privacy(["account", str(run.saved_model)]) == 0
    for changed in ({"noise_multiplier": 0.3}, {"updates": 999}, {"secret": False}, {"dropout": True}):
        replace(statement_of(run.run_dir), **changed).save(tmp_path)
        assert privacy(["account", str(tmp_path)]) == 1
    assert privacy(["account", str(tmp_path / "nothing")]) == 2
    assert "is no private run" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["all", "lora"])
def test_a_killed_run_goes_on_with_the_noise_that_it_had(tmp_path, trainable):
    """Two continuations of one killed run make the same updates, with as many draws of noise as one that was not."""
    pytest.importorskip("dp_accounting")
    config, first, second = private_config(tmp_path), tmp_path / "first", tmp_path / "second"
    often = ("--training.trainable", trainable, "--training.checkpoint_seconds", "0.05", "--export.enabled", "false")
    assert kill_when(lambda: (0, 3) <= position(first) < (1, 6), config, first, *often)
    claimed = statement_of(first)
    assert (first / SECRET).is_file() and newest(first) is not None
    shutil.copytree(first, second)
    ends = []
    for folder in (first, second):
        found = parse(["--config", str(config), "--run_dir", str(folder), *often])
        pipeline.train(found)
        assert statement_of(folder) == claimed and not (folder / SECRET).exists()
        ends.append(tensors(folder))
    for name, value in ends[0].items():
        np.testing.assert_array_equal(value, ends[1][name], err_msg=name)
    assert draws(first) == draws(second) == claimed.updates == UPDATES
