"""The classifier of a finished run, to learn from."""

from dataclasses import dataclass
from pathlib import Path

import keras

from export.versions import ModelError, find_version, read_metadata
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.config import Config, TextConfig
from pipeline.data.load import DataSplits
from pipeline.errors import UserError
from pipeline.features import Features
from pipeline.training.finished_run import load_run_backbone, load_run_classifier, read_settings


@dataclass
class Teacher:
    """A model with the task and the tokens of its student."""

    model: keras.Model
    fingerprint: str
    """Changes with the weights."""


def load_teacher(config: Config, student: LoadedBackbone, data: DataSplits, dtype: str | None = None) -> Teacher:
    """Build the classifier of the run `distillation.teacher`, with its best weights, in the current strategy scope.

    Args:
        config: of the student's run.
        student: whose vocabulary the teacher must have.
        data: whose labels and columns it must have.
        dtype: Keras dtype policy; None: the current one.

    Raises:
        UserError: the folder is no finished run, its backbone's checkpoint is gone, or it does not fit the student.
    """
    folder = Path(str(config.distillation.teacher))
    named = f"distillation.teacher {folder}"
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{named} has no config.yaml: name the folder of a finished run.")
    try:
        version = find_version(folder)
    except ModelError as error:
        raise UserError(
            f"{named} has exported no model: take that run to its end, with export.enabled true."
        ) from error
    served, settings = read_metadata(version), read_settings(folder)
    fault = data.task.teacher_fault(settings.task)
    if fault is not None:
        raise UserError(f"{named} {fault}")
    features = Features.from_metadata(settings.identity.features)
    if features.inputs != data.features.inputs:
        raise UserError(f"{named} takes {' and '.join(served['inputs'])}: give both runs as many data.text_columns.")
    if (features.columns, features.fusion) != (data.features.columns, data.features.fusion):
        raise UserError(
            f"{named} has learned other values of its columns, or puts them together otherwise ({features.fusion}): "
            "give both runs the same training rows and model.fusion."
        )
    if (settings.text.long == "chunks") != (config.text.long == "chunks"):
        raise UserError(f"{named} reads its texts in chunks, or this run does, but not both: set text.long alike.")
    # Texts are cut to the student's length, or into its chunks.
    loaded = load_run_backbone(settings, config.text.length, dtype)
    if loaded.redaction != student.redaction:
        raise UserError(
            f"{named} redacts its texts otherwise than this run: set text.redact and text.redact_patterns alike."
        )
    if loaded.vocabulary != student.vocabulary:
        raise UserError(
            f"{named} has another vocabulary ({len(loaded.vocabulary)} pieces of {loaded.vocabulary_source}) than this "
            f"run ({len(student.vocabulary)} pieces of {student.vocabulary_source}): both must read the same tokens."
        )
    if loaded.rules != student.rules:
        raise UserError(
            f"{named} cuts its texts by other rules than this run ({loaded.rules.to_json()} and "
            f"{student.rules.to_json()}): both must read the same tokens."
        )
    if _lowercases(settings.text, loaded) != _lowercases(config.text, student):
        raise UserError(f"{named} lower-cases its texts, or this run does, but not both: set text.lowercase alike.")
    return Teacher(*load_run_classifier(settings, loaded, dtype))


def _lowercases(text: TextConfig, loaded: LoadedBackbone) -> bool:
    return (text.lowercase if text.lowercase is not None else loaded.lowercase) is not False
