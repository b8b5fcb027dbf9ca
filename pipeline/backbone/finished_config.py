"""What a config.json says of a finished classifier: its task, its labels and its layers. Imports no TensorFlow."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import tasks
from pipeline.backbone.families import BERT, family_of
from pipeline.backbone.json_object import read_json
from pipeline.errors import UserError

ARCHITECTURE = "ForSequenceClassification"


@dataclass(frozen=True)
class FinishedConfig:
    """A classifier that needs no training."""

    task: str
    """As data.task."""
    names: tuple[str, ...]
    """Of its outputs, in their order; also a number's one."""
    pooling: str
    """As model.pooling."""
    sequence_length: int
    """The longest sequence in tokens that it takes, or that its tokenizer is said to make."""
    notes: tuple[str, ...] = ()
    """What is not said there and assumed, one sentence each."""


def is_finished(config: dict[str, Any]) -> bool:
    """Whether a config.json is of a classifier, as far as it says what the model is for."""
    named = config.get("architectures") or [ARCHITECTURE]
    return str(named[0]).endswith(ARCHITECTURE)


def names_of(config: dict[str, Any]) -> tuple[str, ...]:
    """The labels of a config.json, or transformers' own names of them where there are none."""
    labels = config.get("id2label")
    if isinstance(labels, dict) and labels:
        numbered = sorted(labels.items(), key=lambda item: int(item[0]))
        return tuple(str(name).strip() for _, name in numbered)
    return tuple(f"LABEL_{i}" for i in range(config.get("num_labels") or 2))


def task_of(config: dict[str, Any]) -> str | None:
    """The task of a config.json, by its file in pipeline/tasks; None: there is no such task."""
    found = tasks.kind_of_problem(config.get("problem_type"), len(names_of(config)))
    return found and found.name


def read(folder: Path, task: str | None = None) -> FinishedConfig:
    """What the config.json of a folder says.

    Args:
        folder: of the model's own files.
        task: in place of what it says; None: as it says.

    Raises:
        UserError: the folder holds no classifier that can be served.
    """
    file = folder / "config.json"
    config = read_json(file)
    family = family_of(config, folder) or BERT
    if not is_finished(config):
        raise UserError(
            f"{file}: the model is a {config['architectures'][0]}, and nothing is trained: name the folder of a "
            f"{family.title}{ARCHITECTURE}, or set training.epochs."
        )
    names, said, notes = names_of(config), task_of(config), ()
    if said is None:
        raise UserError(
            f"{file}: problem_type {config['problem_type']!r} is not one of transformers' own, "
            f"{', '.join(tasks.problem_types())}: correct it there."
        )
    if task is None and len(names) == 1 and not config.get("problem_type"):
        notes = (f"{file} has no problem_type and one output: taken for a {said}, as transformers trains it.",)
    task = task or said
    fault = tasks.kind(task).outputs_fault(len(names))
    if fault:
        raise UserError(f"{file}: the model {fault}")
    return FinishedConfig(task, names, family.classifier_pooling, _longest(config, folder), notes)


def _longest(config: dict[str, Any], folder: Path) -> int:
    positions = config.get("max_position_embeddings", 512)
    file = folder / "tokenizer_config.json"
    # A very large number where nobody has set it.
    said = read_json(file).get("model_max_length") if file.is_file() else None
    return int(min(positions, said)) if isinstance(said, (int, float)) and said > 0 else positions


def settings_of(task: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The keys of config.json for a classifier."""
    return {
        "problem_type": tasks.kind(task).problem_type,
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }
