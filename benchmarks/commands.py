"""Commands as contenders: what they answer, what they take, and their end after a time, with all that they started."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from turns import Failed

ROOT = Path(__file__).parents[1]


class Cost(NamedTuple):
    """Of a command: seconds of the processor, with those it waited for, and of the clock, MiB at their most, output."""

    processor: float
    clock: float
    memory: float
    output: str


def answer(command: Sequence[str], settings: Mapping[str, str] | None = None, echo: str | None = None) -> Any:
    """The JSON of the last line that a command prints.

    Args:
        command: words.
        settings: environment variables beside this process's own.
        echo: beginning of lines to show at once.

    Raises:
        Failed: it ended with an error; the message is the end of what it said.
    """
    with (
        tempfile.TemporaryFile("w+") as errors,
        _started(command, settings, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        line = ""
        for line in process.stdout or ():
            if echo and line.startswith(echo):
                print(line, end="", file=sys.stderr, flush=True)
        if status := process.wait():
            raise Failed(_end_of(errors) or f"status {status}")
    return json.loads(line)


def measured(command: Sequence[str]) -> Cost:
    """What a command takes.

    Raises:
        Failed: it ended with an error; the message is the end of what it said.
    """
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
        _started(command, stdout=output, stderr=errors) as process,
    ):
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise Failed(_end_of(errors) or f"status {process.returncode}")
        output.seek(0)
        memory = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
        return Cost(usage.ru_utime + usage.ru_stime, seconds, memory, output.read())


@contextlib.contextmanager
def _started(
    command: Sequence[str], settings: Mapping[str, str] | None = None, **streams
) -> Iterator[subprocess.Popen]:
    """A command that does not outlive who waits for it."""
    process = subprocess.Popen(command, env=_environment() | dict(settings or {}), **streams)
    try:
        yield process
    finally:
        process.kill()


def finishes(command: Sequence[str], seconds: float | None, log: IO[str] | None = None, grace: float = 0) -> bool:
    """Whether it came to a good end in time; else, and where this process is stopped, all that it started is ended.

    Args:
        command: words, run in this folder.
        seconds: that it has; None: as many as it takes.
        log: what gets its output and errors, in place of this process's own.
        grace: seconds that it has from a SIGTERM on, where its time is over, to keep what it has (`turns.take_turns`).
    """
    process = subprocess.Popen(
        command, cwd=Path(__file__).parent, start_new_session=True, stdout=log, stderr=log, env=_environment()
    )
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
        return False
    finally:
        # What it has started may outlive it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _end_of(errors: IO[str]) -> str:
    errors.seek(0)
    return errors.read()[-3000:].strip()
