"""A run killed with SIGKILL goes on as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tiny import write_config

ROOT = Path(__file__).parents[1]


def start(config: Path, run_dir: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "pipeline.run", "--config", str(config), "--run_dir", str(run_dir), *more]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        # As from a terminal, whatever started the tests.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def finish(config: Path, run_dir: Path, *more: str) -> str:
    process = start(config, run_dir, *more)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def newest(run_dir: Path) -> Path | None:
    return max((run_dir / "checkpoints").glob("[0-9]*"), default=None)


def position(run_dir: Path) -> tuple[int, int]:
    """(epoch, batch) of the newest checkpoint."""
    try:
        progress = json.loads((newest(run_dir) / "progress.json").read_text())["progress"]
    except (AttributeError, OSError, TypeError):
        return (-1, -1)
    return progress["epoch"], progress["step"]


def kill_when(condition, config: Path, run_dir: Path, *more: str) -> bool:
    """Start the run and send SIGKILL as soon as the condition holds; False if it ended before."""
    process = start(config, run_dir, *more)
    while process.poll() is None:
        if condition():
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
            return True
        time.sleep(0.001)
    assert process.returncode == 0, process.stdout.read()
    process.stdout.close()
    return False


def tensors(run_dir: Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(newest(run_dir) / "variables"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_same_end(one: Path, other: Path) -> None:
    first, second = tensors(one), tensors(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
    scores, others = (json.loads((run / "metrics.json").read_text()) for run in (one, other))
    assert scores["test"] == others["test"]
    losses = [[row["loss"] for row in run["train"]["history"]] for run in (scores, others)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


FREQUENT = ("--training.checkpoint_seconds", "0.05")
PLAIN = ("--export.enabled", "false")


def test_killed_in_the_middle_of_an_epoch(tmp_path):
    """With rows of two languages, drawn as often as each other, and of several weights."""
    drawn = {"language_column": "lang", "language_temperature": 100, "weight_column": "weight"}
    config = write_config(tmp_path, rows=400, data=drawn, training={"epochs": 2, "ema": 0.99})
    header, *rows = (tmp_path / "train.csv").read_text().splitlines()
    rows = [f"{row},{'sw' if i % 9 == 0 else 'en'},{i % 4}" for i, row in enumerate(rows)]
    (tmp_path / "train.csv").write_text("\n".join([f"{header},lang,weight", *rows, ""]))
    finish(config, tmp_path / "whole", *PLAIN)
    run_dir = tmp_path / "killed"
    assert kill_when(lambda: position(run_dir) >= (1, 3), config, run_dir, *PLAIN, *FREQUENT)
    epoch, step = position(run_dir)
    # Settings that decide no weights may be others.
    output = finish(config, run_dir, *PLAIN, "--training.steps_per_execution", "3")
    assert f"resuming in epoch {epoch + 1} after {step} " in output
    assert_same_end(tmp_path / "whole", run_dir)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, Path]:
    """A config, and a run of it that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder, rows=400, training={"epochs": 2})
    finish(config, folder / "run")
    return config, folder / "run"


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow, id="SIGTERM"),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow, id="Ctrl-C"),
    ],
)
def test_a_signal_saves_the_batch_it_is_at_and_exits_with_a_status_of_its_own(tmp_path, whole, number):
    """As when a machine is preempted; checkpoints are minutes apart, so nothing else saves here."""
    config, run_dir = whole[0], tmp_path / "stopped"
    process = start(config, run_dir)
    while position(run_dir) < (1, 0):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert "start again to go on" in output
    assert position(run_dir) > (1, 0)
    finish(config, run_dir)
    assert_same_end(whole[1], run_dir)


@pytest.mark.slow
@pytest.mark.parametrize("xla", [False, True])
def test_killed_again_and_again_at_all_kinds_of_moments(tmp_path, xla):
    config = write_config(tmp_path, rows=600, training={"epochs": 3, "accumulation": 2, "xla": xla})
    finish(config, tmp_path / "whole", *FREQUENT)
    run_dir = tmp_path / "killed"
    hidden = lambda: any((run_dir / "checkpoints").glob(".0*"))  # noqa: E731
    moments = [
        lambda: (run_dir / "data").is_dir(),  # before training
        lambda: position(run_dir) >= (0, 0),  # right after the first checkpoint
        lambda: position(run_dir) >= (0, 5) and hidden(),  # while a checkpoint is being written
        lambda: position(run_dir) >= (1, 0) and hidden(),
        lambda: any((run_dir / "checkpoints").glob(".best-*")),  # while the best weights are being written
        lambda: position(run_dir) >= (2, 10),
        lambda: any((run_dir / "saved_model").glob(".new-*")),  # during the export
    ]
    killed = [kill_when(moment, config, run_dir, *FREQUENT) for moment in moments]
    assert sum(killed) >= 5
    finish(config, run_dir, *FREQUENT)
    assert_same_end(tmp_path / "whole", run_dir)
    assert [path.name for path in (run_dir / "saved_model").iterdir() if not path.name.startswith(".")] == ["1"]
