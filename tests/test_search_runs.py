"""A search with real runs: a pause is no restart, and SIGKILL changes neither the trials nor the winner."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_resume import newest, position, tensors
from tiny import write_config, write_rows

from pipeline import UserError, read_config, train
from pipeline.config import Config, Range, to_yaml
from pipeline.errors import Paused
from pipeline.search.search import search
from pipeline.search.study import open_study
from pipeline.training.pause import Pause

ROOT = Path(__file__).parents[1]


def tiny(folder: Path) -> Config:
    """A search of three trials with a rung after an epoch, and one new seed."""
    config = read_config(write_config(folder, rows=200, training={"epochs": 3, "checkpoint_seconds": 0.05}))
    config.data.test, config.run_dir = str(folder / "test.csv"), str(folder / "run")
    config.export.enabled = False
    config.search.trials, config.search.repeats = 3, 1
    config.search.space = {
        "training.learning_rate": Range(1e-3, 1e-2, log=True),
        "training.warmup": Range(0, 0.3),
        "model.dropout": Range(0, 0.2),
    }
    return config


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, dict]:
    """The folder of a search that nobody stopped, and what it found."""
    folder = tmp_path_factory.mktemp("whole")
    config = tiny(folder)
    with pytest.raises(UserError, match=r"test\.csv"):
        search(config)
    assert (folder / "run/search/winners.json").is_file()
    write_rows(folder / "test.csv", 60, seed=1)
    return folder, search(config).results


def without_times(results: dict) -> dict:
    return results | {"trials": [{k: v for k, v in row.items() if k != "seconds"} for row in results["trials"]]}


@pytest.mark.slow
def test_a_search_from_rows_to_a_verdict(whole):
    folder, found = whole
    assert len(found["trials"][0]["scores"]) == 3
    assert found["winner"]["seeds"] == [1] and found["winner"]["test"]["mean"] > 0.3
    assert "keep the defaults" in found["verdict"]["sentence"]
    assert (folder / "run/search/trials/0000/report.html").is_file()
    assert "resuming in epoch" not in (folder / "run/search/trials/0000.log").read_text()
    assert "<svg" in (folder / "run/search/report.html").read_text()
    # Test rows are in the runs of the new seeds alone.
    stores = {path.parents[1].relative_to(folder / "run/search").parts[0] for path in folder.rglob("test-*")}
    assert stores == {"final"}


@pytest.mark.slow
def test_a_run_that_pauses_ends_as_one_that_does_not(whole, tmp_path):
    """The one is trial 0."""
    run_dir, trial = tmp_path / "paused", whole[0] / "run/search/trials/0000"
    study = open_study(tiny(tmp_path))
    config = study.trial_run(study.defaults, run_dir)
    asked = []

    def at(epochs: int) -> bool:
        asked.append((epochs, position(run_dir)))
        return epochs == 1

    assert train(config, Pause(epochs=at)).metrics == {}
    # It is asked once the state is saved.
    assert asked == [(0, (0, 0)), (1, (1, 0))]
    with pytest.raises(Paused, match="start again to go on"):
        train(config, Pause(deadline=time.monotonic() - 1))
    assert position(run_dir) == (1, 1)
    ended = train(config, Pause(epochs=3))
    assert ended.metrics["validation"] == json.loads((trial / "metrics.json").read_text())["validation"]
    first, second = tensors(trial), tensors(run_dir)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def start(config: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.search", "--config", str(config)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def kill_when(condition, config: Path) -> bool:
    """Start the search and send SIGKILL as soon as the condition holds; False if it ended before."""
    process = start(config)
    while process.poll() is None:
        if condition():
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.001)
    output, _ = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), output
    return process.returncode != 0


def prepared(folder: Path) -> tuple[Config, Path, Path]:
    """A search like that of `whole`, its config file and its folder."""
    config = tiny(folder)
    write_rows(folder / "test.csv", 60, seed=1)
    path = folder / "search.yaml"
    path.write_text(to_yaml(config))
    return config, path, folder / "run/search"


@pytest.mark.slow
def test_killed_in_a_trial(whole, tmp_path):
    config, path, folder = prepared(tmp_path)
    assert kill_when(lambda: position(folder / "trials/0000") >= (1, 2), path)
    epoch, step = position(folder / "trials/0000")
    assert without_times(search(config).results) == without_times(whole[1])
    assert f"resuming in epoch {epoch + 1} after {step} of" in (folder / "trials/0000.log").read_text()


@pytest.mark.slow
def test_a_signal_stops_a_search_with_the_state_saved(tmp_path):
    _, path, folder = prepared(tmp_path)
    process = start(path)
    while position(folder / "trials/0000") < (0, 3):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75 and "start again to go on" in output


@pytest.mark.slow
def test_killed_at_all_kinds_of_moments(whole, tmp_path):
    _, path, folder = prepared(tmp_path)
    moments = [
        lambda: (folder / "trials/0000.json").is_file(),  # as soon as it is proposed
        lambda: position(folder / "trials/0000") >= (1, 3),
        lambda: position(folder / "trials/0000") >= (3, 0),  # before it is evaluated
        lambda: (folder / "trials/0001.json").is_file(),
        lambda: position(folder / "trials/0001") >= (0, 4),
        lambda: newest(folder / "trials/0002") is not None,
        lambda: (folder / "winners.json").is_file(),
        lambda: any(position(run) >= (1, 4) for run in (folder / "final").glob("*-seed-1")),
    ]
    killed = [kill_when(moment, path) for moment in moments]
    assert sum(killed) >= 5
    process = start(path)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert without_times(json.loads((folder / "search.json").read_text())) == without_times(whole[1])
