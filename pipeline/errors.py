"""The one exception whose message is meant for the person at the keyboard."""


class UserError(ValueError):
    """Bad input: one sentence that names the file, row, key or value and says what to do.

    Command lines print the message after ``error: `` and exit with status 2, without a traceback.
    """


class Stopped(Exception):
    """SIGTERM or Ctrl-C came in training, and the state is saved.

    Command lines exit with status 75, "try again" (EX_TEMPFAIL).
    """


class WorkerLost(Exception):
    """Another worker of the cluster did not come, or is gone: exit status 69 (EX_UNAVAILABLE); start all again."""
