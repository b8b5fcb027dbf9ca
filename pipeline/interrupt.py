"""Ctrl-C while a command is still importing what it needs, before `run_command` looks after it."""

import os
import signal
import sys

INTERRUPTED = 128 + signal.SIGINT
SAID = "stopped by Ctrl-C."


def end_while_importing() -> None:
    """Where Python runs a module of this package as a command, let Ctrl-C end it at once, in one line: nothing is begun
    that would have to be tidied up. Elsewhere, and where Ctrl-C is ignored, do nothing."""
    if _is_command() and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end)


def _is_command() -> bool:
    """Whether `python -m` names a module of ours; other programs import us too."""
    # "-m" stands there until Python has found the module, for which it imports the package.
    if sys.argv[:1] != ["-m"]:
        return False
    module = sys.orig_argv[-len(sys.argv)].removeprefix("-m")
    return module.partition(".")[0] in ("pipeline", "export")


def _end(number, frame) -> None:
    # Not as an exception, which a library may take for a module that it lacks.
    os.write(2, f"{SAID}\n".encode())
    os._exit(INTERRUPTED)
