"""The exceptions whose messages are meant for the person at the keyboard, and the exit statuses of commands."""

WORKER_LOST = 69
"""EX_UNAVAILABLE: another worker of the cluster is lost."""
TRY_AGAIN = 75
"""EX_TEMPFAIL: the same command goes on, or may succeed later."""


class UserError(ValueError):
    """Bad input: one sentence that names the file, row, key or value and says what to do.

    Command lines print the message after ``error: `` and exit with status 2, without a traceback.
    """


class Stopped(Exception):
    """SIGTERM or Ctrl-C came in training, and the state is saved.

    Command lines exit with TRY_AGAIN.
    """


class Paused(Stopped):
    """The deadline that a caller has given came in training, and the state is saved."""


class Diverged(UserError):
    """The loss or the predictions are not finite any more: the settings of the training are at fault."""


class WorkerLost(Exception):
    """Another worker of the cluster did not come, or is gone: exit status WORKER_LOST; start all again."""
