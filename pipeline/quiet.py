"""TensorFlow's start-up noise kept off the terminal; its warnings and errors, and all else, get there.

TF_CPP_MIN_LOG_LEVEL hides what TensorFlow logs below an error. What is left comes from libraries that log before their
logging is set up, and as errors: that there is no GPU here, that a factory is registered twice. It is written by C++ to
file descriptor 2, so only a filter between that and the terminal can drop it. The filter is a process of its own (this
file run as a program), for a thread could not write the last words of a process that is aborting. Python's own
sys.stderr stays the terminal.
"""

import os
import re
import subprocess
import sys

# What glog and absl put before a message: level, month and day or 0000, time, process, file:line.
_PREFIX = rb"^%s\d{4} [\d:.]+ +\d+ \S+\] "
NOISE = [
    re.compile(pattern)
    for pattern in (
        rb"^WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR",
        # Information, such as the devices made or that XLA compiles; the logs of a run say what matters of it.
        _PREFIX % b"I",
        rb"^\d{4}-\d\d-\d\d [\d:.]+: I \S+\] ",
        # Known since TensorFlow 2.15 to be harmless (tensorflow/tensorflow#62075).
        _PREFIX % b"[WE]" + rb".*(Unable to register cu\w+ factory|computation placer already registered)",
        # No driver, or no GPU that this process may see. Other failures of cuInit are real.
        _PREFIX % b"[WE]" + rb".*failed call to cuInit: .*(UNKNOWN ERROR \(303\)|CUDA_ERROR_NO_DEVICE)",
        _PREFIX % b"W" + rb".*Could not find TensorRT",
        # oneDNN leaves an operation to TensorFlow's own implementation.
        _PREFIX % b"E" + rb".*oneDNN supports DT_INT\d+ only on platforms with AVX-512\. Falling back to the default",
        # XLA's programs on disk are first tried as text.
        _PREFIX % b"E" + rb".*Error parsing text-format tensorflow.XlaSerializedCacheEntry",
    )
]
# Where there is a GPU, it is worth a line that it cannot be used.
GPU = "/dev/nvidiactl"


def quiet() -> None:
    """Filter what this process and its children write to file descriptor 2 from now on; for commands only.

    Does nothing where TF_CPP_MIN_LOG_LEVEL is set to 0 or 1: its user wants to see it, or where there is no standard
    error.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") in ("0", "1") or sys.stderr is None:
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    filtering = subprocess.Popen(
        # -I, -S: nothing but the standard library, to start in milliseconds.
        [sys.executable, "-I", "-S", __file__],
        stdin=subprocess.PIPE,
        stdout=terminal,
        # Ctrl-C is not meant for it: it ends when nobody can write to it any more.
        start_new_session=True,
    )
    assert filtering.stdin is not None
    os.dup2(filtering.stdin.fileno(), 2)
    filtering.stdin.close()
    # It is not ours to wait for.
    filtering.returncode = 0
    sys.stderr = open(terminal, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")  # noqa: SIM115


def is_noise(line: bytes) -> bool:
    """Whether a line of standard error is of no use to anybody."""
    found = next((pattern for pattern in NOISE if pattern.search(line)), None)
    return found is not None and not (b"cuInit" in found.pattern and os.path.exists(GPU))


def main() -> None:
    """Standard input to standard output, line by line as they come, without noise."""
    for line in sys.stdin.buffer:
        if not is_noise(line):
            try:
                os.write(1, line)
            except OSError:
                # Nobody reads; still take what comes, or the writers would stand still.
                continue


if __name__ == "__main__":
    main()
