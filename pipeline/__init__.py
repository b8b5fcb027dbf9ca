"""BERT from raw text to a served classifier.

The names below are loaded when they are first used: TensorFlow, which takes seconds, only for `train` and TextEncoder.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.interrupt import end_while_importing
from pipeline.version import __version__

if TYPE_CHECKING:
    from pipeline.command_line import read_config
    from pipeline.config import Config
    from pipeline.errors import Stopped, UserError, WorkerLost
    from pipeline.run import Run, train
    from pipeline.text import TextEncoder
    from pipeline.training.pause import Pause

__all__ = [
    "Config",
    "Pause",
    "Run",
    "Stopped",
    "TextEncoder",
    "UserError",
    "WorkerLost",
    "__version__",
    "read_config",
    "train",
]

_MODULES = {
    "Config": "pipeline.config",
    "Pause": "pipeline.training.pause",
    "Run": "pipeline.run",
    "Stopped": "pipeline.errors",
    "TextEncoder": "pipeline.text",
    "UserError": "pipeline.errors",
    "WorkerLost": "pipeline.errors",
    "read_config": "pipeline.command_line",
    "train": "pipeline.run",
}


end_while_importing()


def __getattr__(name: str):
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
