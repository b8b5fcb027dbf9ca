"""The classifier of a finished run, from its folder."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import yaml

from pipeline import tasks
from pipeline.backbone.architecture import is_projected
from pipeline.backbone.families import Family, classifier_family
from pipeline.backbone.load import load_backbone
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.classifier import build_classifier, head_of, over_chunks, over_columns, rescale_logits, take_head
from pipeline.config import ModelConfig, TextConfig
from pipeline.errors import UserError
from pipeline.identity import Identity
from pipeline.run_folder import read_metrics
from pipeline.tasks.task import Task
from pipeline.training.checkpoint import load_finished


@dataclass(frozen=True)
class Settings:
    """What the folder says of its model."""

    folder: Path
    model: ModelConfig
    """Its backbone is the checkpoint that the classifier began with."""
    text: TextConfig
    epochs: int
    identity: Identity
    task: Task


def is_run(folder: Path) -> bool:
    """Whether a folder is one of a run, as far as its files tell."""
    return (folder / "config.yaml").is_file() and (folder / "identity.json").is_file()


def read_settings(folder: Path) -> Settings:
    """What a run's folder says of its model.

    Raises:
        UserError: a file is missing, or of another version.
    """
    identity = Identity.load(folder)
    stored = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    try:
        model, text = ModelConfig(**stored["model"]), TextConfig(**stored["text"])
        epochs = stored["training"]["epochs"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / 'config.yaml'} is not of this version of the pipeline ({error}).") from error
    if (stored.get("corpus") or {}).get("train"):
        # Its run began with what it had pre-trained.
        model, text = (
            replace(model, backbone=str(folder / "pretrained"), revision=None, num_layers=None),
            replace(text, vocabulary=None),
        )
    return Settings(folder, model, text, epochs, identity, tasks.from_metadata(identity.task))


def load_run_backbone(settings: Settings, sequence_length: int | None, dtype: str | None) -> LoadedBackbone:
    """The backbone that the run began with, in the current strategy scope.

    Args:
        settings: of the run.
        sequence_length: to which texts are cut; None: as in the run.
        dtype: Keras dtype policy; None: the current one.

    Raises:
        UserError: its checkpoint is gone.
    """
    text = settings.text if sequence_length is None else replace(settings.text, sequence_length=sequence_length)
    return load_backbone(settings.model, text, 0, dtype)


def load_run_classifier(settings: Settings, loaded: LoadedBackbone, dtype: str | None) -> tuple[keras.Model, str]:
    """The classifier with its best weights, on the backbone of `load_run_backbone`, and a digest of the weights.

    Raises:
        UserError: the run is not finished.
    """
    identity = settings.identity
    model = build_classifier(
        loaded,
        settings.task.outputs,
        pooling=identity.pooling,
        pooled_layers=identity.pooled_layers,
        dropout=identity.dropout,
        dtype=dtype,
    )
    if "pooling" in identity.long:
        model = over_chunks(model, identity.long["pooling"], dtype=dtype)
    if identity.fusion:
        model = over_columns(model, **identity.fusion)
    if settings.epochs:
        return model, load_finished(settings.folder / "checkpoints", model)
    if loaded.classifier is None:
        raise UserError(f"{loaded.source} is no finished classifier any more, as when {settings.folder} was made.")
    take_head(model, loaded.classifier)
    return model, hashlib.sha256(loaded.classifier.kernel.tobytes()).hexdigest()


def as_checkpoint(folder: Path) -> LoadedBackbone:
    """A finished run as a checkpoint with a classifier's head, in float32, of which every format writes what it can.

    Raises:
        UserError: the run is not finished or not evaluated, its backbone's checkpoint is gone, or its pooling is none
            that others have.
    """
    settings = read_settings(folder)
    if settings.text.long == "chunks":
        raise UserError(
            f"{folder}: its model reads texts in chunks (text.long), which no other format has a place for."
        )
    if settings.identity.fusion:
        raise UserError(f"{folder}: its model reads columns beside the text, which no other format has a place for.")
    loaded = load_run_backbone(settings, None, "float32")
    model, _ = load_run_classifier(settings, loaded, "float32")
    rescale_logits(model, *_calibration(folder))
    head, projected = head_of(model, settings.task), is_projected(loaded.backbone)
    family = classifier_family(loaded.family, head.pooling, projected) if head else None
    if head is None or family is None:
        known = [name for name in ("cls", "relu", "gelu") if classifier_family(loaded.family, name, projected)]
        # A fresh pooler becomes BERT's own.
        known = [name.replace("cls", "fresh") for name in known]
        raise UserError(
            f"{folder}: model.pooling {settings.identity.pooling} is in no classifier of transformers' above a "
            f"{loaded.family.title} encoder like this: to take a run there, train it with model.pooling "
            f"{' or '.join(known)}."
        )
    lowercase = loaded.lowercase if settings.text.lowercase is None else settings.text.lowercase
    return replace(
        loaded,
        source=str(folder),
        lowercase=lowercase,
        has_pooler=head.pooling == "cls",
        heads=None,
        family=family,
        notes=(
            *loaded.notes,
            *_notes(loaded.family, family),
            *_cut_note(settings.identity),
            *_redaction_note(settings),
        ),
        left_out=(),
        classifier=replace(head, sequence_length=settings.identity.sequence_length),
    )


def _calibration(folder: Path) -> tuple[Any, Any]:
    """Scale and shift of the run's logits where it is served (evaluation.calibration); 1 and 0 where it is not.

    Raises:
        UserError: it is not known.
    """
    metrics = read_metrics(folder)
    if "task" not in metrics:
        raise UserError(
            f"{folder} is not evaluated, which decides the calibration of what is served: take the run to its end."
        )
    found = metrics.get("calibration", {})
    return found.get("scale", 1 / found.get("temperature", 1.0)), found.get("shift", 0.0)


def _cut_note(identity: Identity) -> tuple[str, ...]:
    if not identity.long:
        return ()
    return (f"Long texts are read by text.long {identity.long['read']} here; others cut them at their end.",)


def _redaction_note(settings: Settings) -> tuple[str, ...]:
    if not settings.text.redaction:
        return ()
    names = " and ".join(settings.text.redaction.placeholders)
    return (
        f"What stands for {names} in texts is found by the served model alone: give others texts with these in them.",
    )


def _notes(before: Family, after: Family) -> tuple[str, ...]:
    if after is before:
        return ()
    return (
        f"The model is a {after.title} from here on, which computes the same: {before.title}'s own classifiers have "
        "another pooling.",
    )
