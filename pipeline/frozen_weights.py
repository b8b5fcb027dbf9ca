"""A promise to oneDNN that weights stay as they are: faster answers on CPUs, and wrong ones where anything is trained.

With the environment variable set TensorFlow keeps the weights in oneDNN's own layout from the first call on, and goes
on with these when they change. A process that only answers sets it; one that trains must not have it, nor inherit it.
"""

import os
import sys

from pipeline.errors import UserError

NAME = "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS"


def assume_frozen() -> None:
    """For a process that never trains, before TensorFlow starts, unless its environment says otherwise."""
    os.environ.setdefault(NAME, "1")


def refuse_frozen() -> None:
    """For a process that is to train: take the variable away, and say so.

    Raises:
        UserError: TensorFlow may have read it already.
    """
    if os.environ.get(NAME, "0").lower() in ("", "0", "false"):
        return
    if "tensorflow" in sys.modules:
        raise UserError(f"{NAME} is set, with which TensorFlow would train on outdated weights: start without it.")
    del os.environ[NAME]
    print(f"note: {NAME} was set, with which TensorFlow would train on outdated weights: it is not used.")
