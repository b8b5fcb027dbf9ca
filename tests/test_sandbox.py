"""The process that a model which is not trusted runs in: small programs that try its bounds."""

import os
import time
from pathlib import Path

import pytest

from export.server import sandbox
from export.server.sandbox import Child, Ended, Limits, TimedOut

BOUND = f"""
import sys
sys.path.insert(0, {str(Path(sandbox.__file__).parent)!r})
from c_api import bound
bound(int(sys.argv[1]))
"""


def child(tmp_path: Path, code: str, **limits) -> Child:
    program = tmp_path / "program.py"
    program.write_text("import json, os, pickle, signal, sys, time\n" + code)
    return Child(program, Limits(**({"seconds": 30.0, "memory_bytes": 1 << 30} | limits)))


def test_lines_come_back_and_stray_text_is_told_apart(tmp_path):
    code = "print(json.dumps(pickle.load(sys.stdin.buffer)))\nprint(json.dumps({'large': 'x' * 3_000_000}), flush=True)"
    with child(tmp_path, code) as program:
        program.send({"a": 1})
        assert program.receive() == {"a": 1}
        assert len(program.receive()["large"]) == 3_000_000
        with pytest.raises(Ended, match="with status 0: no message"):
            program.receive()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("os.abort()", r"ended the process \(SIGABRT: no message\)"),
        ("sys.stderr.write('F0 a check failed\\n'); sys.stderr.flush(); os.abort()", "SIGABRT: F0 a check failed"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL, as the kernel does where memory runs out"),
        ("raise ValueError('so')", "with status 1: ValueError: so"),
        (f"{BOUND}\nx = bytearray(2 << 30)", "with status 1: MemoryError"),
    ],
)
def test_how_it_ended_is_one_sentence(code, message, tmp_path):
    with child(tmp_path, code) as program, pytest.raises(Ended, match=message):
        program.receive()


def test_what_does_not_answer_is_killed_with_all_that_it_started(tmp_path):
    code = (
        "import subprocess\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(json.dumps(other.pid), flush=True)\n"
        "time.sleep(600)"
    )
    start = time.monotonic()
    with child(tmp_path, code, seconds=3.0) as program:
        other = program.receive()
        with pytest.raises(TimedOut, match="did not answer within 3 s"):
            program.receive()
        assert program.peak_bytes > 1e6
    assert time.monotonic() - start < 30
    # Killed, and nobody's zombie for long.
    for _ in range(100):
        if not Path(f"/proc/{other}").exists() or "State:\tZ" in Path(f"/proc/{other}/status").read_text():
            break
        time.sleep(0.05)
    else:
        pytest.fail("a process that it started goes on")


def test_it_sees_no_secrets_and_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    code = f"""{BOUND}
try:
    with open("file", "w") as file:
        file.write("x" * 100_000)
except OSError as error:
    wrote = str(error)
print(json.dumps({{"environment": dict(os.environ), "folder": os.getcwd(), "wrote": wrote}}), flush=True)
"""
    with child(tmp_path, code) as program:
        found = program.receive()
    assert "secret" not in str(found["environment"])
    assert found["environment"]["HOME"] == found["environment"]["TMPDIR"] == found["folder"]
    assert "File too large" in found["wrote"]
    assert not Path(found["folder"]).exists()
    assert os.environ["HF_TOKEN"] == "secret"
