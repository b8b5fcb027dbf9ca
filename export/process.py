"""A program of this folder in a process that knows nothing of this one, as a server would run it."""

import os
import subprocess
import sys
from pathlib import Path


def run_program(name: str, *arguments: str, folder: Path) -> tuple[int, str]:
    """Run a file of export/ with this Python, without an accelerator.

    Args:
        name: of the file, from here.
        arguments: its command line.
        folder: in which it runs.

    Returns:
        (exit status, the last lines that it said on standard error, in one).
    """
    process = subprocess.run(
        # -I: nothing of this process' paths and settings.
        [sys.executable, "-I", str(Path(__file__).parent / name), *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        cwd=folder,
        # The accelerator may be full with the training process.
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    lines = [line for line in process.stderr.splitlines() if line.strip()][-3:]
    return process.returncode, " / ".join(lines) or "no message"
