"""A program that is not trusted, in a process with bounds: time, memory, no files written, no environment to read."""

import base64
import contextlib
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# What a program may know of this process: where libraries are, and what changes how TensorFlow computes.
KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TF_ENABLE_ONEDNN_OPTS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Limits:
    """Bounds of a program."""

    seconds: float = 300.0
    """That it may take to start, and for each of its lines."""
    memory_bytes: int = 16 << 30
    """Of the data that it allocates; memory-mapped libraries do not count."""


# At export the model is the run's own, and not hostile: it may be slow on a machine that trains others.
AT_EXPORT = Limits(seconds=1800.0)


class Ended(Exception):
    """The program has ended before it was done, or was ended; the message is a sentence without its subject."""


class TimedOut(Ended):
    """It was ended at the time limit."""


class Child:
    """A Python file that reads pickles on standard input and writes lines of JSON on standard output.

    It runs in a temporary folder with nothing of this process' environment but KEPT. That it may write no file, and how
    much memory it may take, it is told as its only argument and has to see to before it touches what is not trusted:
    see `bound` in c_api.py. Use as a context manager: what is still running at the end is killed.
    """

    def __init__(self, program: Path, limits: Limits):
        self._limits = limits
        self._folder = tempfile.TemporaryDirectory()
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        self._process = subprocess.Popen(
            # -I: nothing of this process' paths and settings. -B: no bytecode, which would be a file.
            [sys.executable, "-I", "-B", str(program), str(limits.memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._folder.name,
            # The accelerator may be full with the training process.
            env=kept
            | {"HOME": self._folder.name, "TMPDIR": self._folder.name}
            | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"},
            # What it starts itself is killed with it.
            start_new_session=True,
        )
        # For those who read types: PIPE makes each of them.
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._in, self._out, self._err = self._process.stdin, self._process.stdout, self._process.stderr
        self._said: deque[bytes] = deque(maxlen=20)
        # Read all the time: a full pipe would stop it.
        self._listener = threading.Thread(target=self._said.extend, args=(self._err,), daemon=True)
        self._listener.start()
        self._received = bytearray()
        self.peak_bytes = 0
        """The most memory that it had when it was ended, where that is known."""

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *exception) -> None:
        self._kill()
        for stream in (self._in, self._out):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self._listener.join()
        self._err.close()
        self._folder.cleanup()

    def send(self, content: Any) -> None:
        """Raises Ended where it listens no more."""
        try:
            pickle.dump(content, self._in)
            self._in.flush()
        except BrokenPipeError:
            raise Ended(self._how()) from None

    def receive(self, seconds: float | None = None) -> dict[str, Any]:
        """Its next line.

        Args:
            seconds: that it may take; None, or more than the time limit: as long as that.

        Raises:
            Ended: there is none, or none in time.
        """
        seconds = min(self._limits.seconds, seconds or self._limits.seconds)
        deadline = time.monotonic() + seconds
        while (end := self._received.find(b"\n")) < 0:
            ready, _, _ = select.select([self._out], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self.peak_bytes = peak_of(self._process.pid)
                self._kill()
                raise TimedOut(f"did not answer within {seconds:g} s")
            part = os.read(self._out.fileno(), 1 << 20)
            if not part:
                raise Ended(self._how())
            self._received += part
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return json.loads(line)

    def _kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _how(self) -> str:
        try:
            status = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._kill()
            return "closed its output"
        self._listener.join()
        lines = [line.decode("utf-8", "replace").strip() for line in self._said]
        said = next((line for line in reversed(lines) if line), "no message")[:300]
        if status < 0:
            name = signal.Signals(-status).name
            more = ", as the kernel does where memory runs out" if -status == signal.SIGKILL else f": {said}"
            return f"ended the process ({name}{more})"
        return f"ended the process with status {status}: {said}"


def peak_of(process: int | str) -> int:
    """Largest resident size of a process ("self": this one) in bytes, 0 where it cannot be told."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return 1024 * int(status.partition("VmHWM:")[2].split()[0]) if "VmHWM:" in status else 0


def array_of(tensor: dict[str, Any]) -> np.ndarray:
    """What `tensor_as_json` of c_api.py has written."""
    if "strings" in tensor:
        values = np.empty(len(tensor["strings"]), object)
        values[:] = [base64.b64decode(text) for text in tensor["strings"]]
    else:
        values = np.frombuffer(base64.b64decode(tensor["data"]), tensor["dtype"])
    return values.reshape(tensor["shape"])
