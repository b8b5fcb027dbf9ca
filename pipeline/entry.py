"""What surrounds the main of every command: a quiet and lean start, and Ctrl-C as one line."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from pipeline.errors import WORKER_LOST
from pipeline.interrupt import INTERRUPTED, SAID
from pipeline.lean_keras import lean_keras
from pipeline.quiet import quiet


def run_command(main: Callable[[], int], filtered: bool = True) -> NoReturn:
    """Run a command's main and exit with the status that it returns, or 130 after Ctrl-C, without a traceback.

    Args:
        main: of the command; bad input is its own to report.
        filtered: whether standard error is (see quiet.py); not where other programs talk there to the user.
    """
    interrupted = False

    def interrupt(number, frame):
        nonlocal interrupted
        interrupted = True
        signal.default_int_handler(number, frame)

    # A job that a script starts in the background ignores Ctrl-C, which is meant for others.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    try:
        if filtered:
            quiet()
        lean_keras()
        status = main()
    except BaseException as error:
        # Libraries that are interrupted while they start may turn it into an error of their own.
        if not interrupted and not isinstance(error, KeyboardInterrupt):
            raise
        print(SAID, file=sys.stderr)
        status = INTERRUPTED
    if status in (WORKER_LOST, INTERRUPTED):
        # Python's own end waits for threads, and TensorFlow's for workers that are gone.
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
