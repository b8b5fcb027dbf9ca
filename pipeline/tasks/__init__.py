"""What is predicted: one file for each kind of task, and nobody else asks which one a model has.

A kind is a subclass of `task.Task` in the file of its name, registered by that name in KINDS. Nothing here imports
TensorFlow before a loss or a graph is asked for.
"""

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.tasks.outside import FIT, Outside

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


def kind_of_problem(problem: str | None, outputs: int) -> "type[Task] | None":
    """The kind that a config.json of transformers means by its problem_type; None: it is none of these.

    Args:
        problem: as it stands there; None or empty: nothing does, and transformers trains one output as a number,
            several as the classes of one label.
        outputs: of the model's last layer.
    """
    if not problem:
        return kind("number" if outputs == 1 else "single_label")
    return next((found for found in map(kind, KINDS) if found.problem_type == problem), None)


def problem_types() -> list[str]:
    """What transformers calls the kinds."""
    return [kind(name).problem_type for name in KINDS]


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
        task = kind(metadata["task"]).from_metadata(metadata)
        return replace(task, fit=Outside(**metadata[FIT])) if FIT in metadata else task
    except (KeyError, TypeError) as error:
        raise UserError(f"the model's metadata does not describe its task ({error}): export it anew.") from error
