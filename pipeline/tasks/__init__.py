"""What is predicted: one file for each kind of task, and nobody else asks which one a model has.

A kind is a subclass of `task.Task` in the file of its name, registered by that name in KINDS. Nothing here imports
TensorFlow before a loss or a graph is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.config import Config, DataConfig
    from pipeline.tasks.task import Task

# In this order, the first that `fits` a data section is its task where data.task does not name one.
KINDS = ("multi_label", "single_label", "number")


def kind(name: str) -> "type[Task]":
    """The class of a kind of task.

    Raises:
        UserError: there is none of this name.
    """
    if name not in KINDS:
        raise UserError(f"there is no task {name!r}; the tasks are {', '.join(KINDS)}.")
    return import_module(f"pipeline.tasks.{name}").TASK


def kind_of(data: "DataConfig") -> "type[Task]":
    """The kind of task that a data section means."""
    if data.task is not None:
        return kind(data.task)
    return next(found for found in map(kind, KINDS) if found.fits(data))


def check(config: "Config") -> None:
    """Refuse settings that do not go with the task.

    Raises:
        UserError: naming the setting.
    """
    chosen = kind_of(config.data)
    monitor = config.training.monitor
    if monitor is not None and monitor not in chosen.monitors:
        raise UserError(
            f"training.monitor {monitor!r} is no score of the task {chosen.name}: choose from "
            f"{', '.join(chosen.monitors)}."
        )
    chosen.check(config)


def from_metadata(metadata: dict[str, Any]) -> "Task":
    """The task of an exported model, out of what `Task.metadata` gave.

    Raises:
        UserError: it is not of this project's making.
    """
    try:
        return kind(metadata["task"]).from_metadata(metadata)
    except (KeyError, TypeError) as error:
        raise UserError(f"the model's metadata does not describe its task ({error}): export it anew.") from error
