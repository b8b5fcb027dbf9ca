"""Ctrl-C ends every command with one line."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import write_config

from pipeline import interrupt
from pipeline.training.watch import StopRequest

ROOT = Path(__file__).parents[1]


def start(program: list[str], handler=signal.SIG_DFL) -> subprocess.Popen:
    """As from a terminal, whatever started the tests."""
    return subprocess.Popen(
        [sys.executable, *program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    )  # fmt: skip


COMMAND = """
import os, signal, time
from pipeline.entry import run_command
def main():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep({seconds})
        {after}
    finally:
        print("tidied up")
    return 3
run_command(main)
"""


@pytest.mark.parametrize("after", ["pass", "raise ValueError('made of an interrupt by a library')"])
def test_one_line_no_traceback_and_what_was_begun_is_tidied_up(after):
    program = COMMAND.format(seconds=60, after=after)
    if after != "pass":
        program = program.replace("time.sleep(60)", "\n        try: time.sleep(60)\n        except BaseException: pass")
    output, error = start(["-c", program]).communicate(timeout=50)
    assert (output, error) == ("tidied up\n", "stopped by Ctrl-C.\n")


@pytest.mark.parametrize("package", ["pipeline", "export"])
@pytest.mark.parametrize(("handler", "status"), [(signal.SIG_DFL, 130), (signal.SIG_IGN, 0)])
def test_a_command_that_still_imports_ends_with_one_line(package, handler, status):
    names = f"sys.argv = ['-m']; sys.orig_argv = ['python', '-m', '{package}.run']"
    program = f"import os, signal, sys; {names}; import {package}; os.kill(os.getpid(), signal.SIGINT)"
    process = start(["-c", program], handler)
    assert process.communicate(timeout=50) == ("", "stopped by Ctrl-C.\n" if status else "")
    assert process.returncode == status


def test_a_job_in_the_background_does_not_hear_of_it():
    process = start(["-c", COMMAND.format(seconds=0, after="pass")], signal.SIG_IGN)
    assert process.communicate(timeout=50) == ("tidied up\n", "")
    assert process.returncode == 3


def test_other_errors_keep_their_traceback_and_statuses_are_passed_on():
    process = start(["-c", "from pipeline.entry import run_command\nrun_command(lambda: 1 / 0)"])
    assert "ZeroDivisionError" in process.communicate(timeout=50)[1] and process.returncode == 1
    process = start(["-c", "from pipeline.entry import run_command\nrun_command(lambda: 69)"])
    assert process.communicate(timeout=50) == ("", "") and process.returncode == 69


def test_before_training_a_run_ends_at_once_and_can_be_started_again(tmp_path):
    config, run_dir = write_config(tmp_path), tmp_path / "run"
    process = start(["-m", "pipeline.run", "--config", str(config), "--run_dir", str(run_dir)])
    while not (run_dir / "config.yaml").is_file():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "stopped by Ctrl-C.\n")
    assert not (run_dir / "checkpoints").exists()


def test_a_second_one_does_not_wait_for_the_batch():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            assert stop.asked
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            stop.signalled = False
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        ("-m pipeline.run --config x", True),
        ("-W error -m export.predict", True),
        ("-mpipeline.run x", True),
        ("-m theirs.go pipeline.run", False),
        ("-m pytest -m slow", False),
    ],
)
def test_only_a_command_of_ours_has_its_ctrl_c_looked_after_at_import(monkeypatch, words, ours):
    """sys.argv and sys.orig_argv as Python has them while it imports the package of a module to run."""
    given = words.split()
    behind = next(i for i, word in enumerate(given) if word.startswith("-m")) + (2 if "-m" in given else 1)
    monkeypatch.setattr(sys, "argv", ["-m", *given[behind:]])
    monkeypatch.setattr(sys, "orig_argv", ["python", *given])
    assert interrupt._is_command() == ours


def test_a_program_of_others_that_imports_the_package_keeps_its_ctrl_c(tmp_path):
    package = tmp_path / "theirs"
    package.mkdir()
    (package / "__init__.py").write_text(f"import sys\nsys.path.append({str(ROOT)!r})\nimport pipeline\n")
    lines = ["import signal", "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"]
    (package / "go.py").write_text("\n".join(lines) + "\n")
    found = subprocess.run(
        [sys.executable, "-m", "theirs.go", "--config", "x"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert found.stdout == "True\n", found.stderr
