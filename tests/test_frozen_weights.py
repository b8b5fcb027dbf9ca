"""What makes answers fast must not reach a training."""

import os
import subprocess
import sys

from tiny import write_config

from pipeline.frozen_weights import NAME
from pipeline.run import main


def test_a_training_that_would_take_outdated_weights_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(NAME, "1")
    assert main(["--config", str(write_config(tmp_path)), "--run_dir", str(tmp_path / "run")]) == 2
    assert "outdated weights: start without it" in capsys.readouterr().err


def test_before_tensorflow_starts_it_is_taken_away():
    code = "import os; from pipeline.frozen_weights import *; refuse_frozen(); print(NAME in os.environ)"
    for value, said in (("1", f"note: {NAME} was set"), ("true", f"note: {NAME} was set"), ("0", "True"), ("", "True")):
        found = subprocess.run([sys.executable, "-c", code], env=os.environ | {NAME: value}, capture_output=True)
        assert found.stdout.decode().startswith(said)
