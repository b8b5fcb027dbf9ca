"""A trained model as a SavedModel that takes raw strings, for TensorFlow Serving."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from export.check import require
from export.chunks import ChunkedClassifier
from export.expected import Expected
from export.fused import FusedClassifier, UnsupportedModel
from export.graph import operations, read_graph
from export.recorded import write_recorded
from export.request_schema import FILE as SCHEMA
from export.request_schema import request_schema
from export.server.releases import minimum_version
from export.signatures import SignatureOptions, build_signatures, chosen, tokens_suffice
from export.typicality import FitOfVectors
from export.verify import verify
from export.versions import METADATA, version_number
from export.warmup import write_warmup
from pipeline.errors import UserError
from pipeline.features import ONE_TEXT, Features
from pipeline.tasks.outside import FIT
from pipeline.tasks.task import Task
from pipeline.text import TextEncoder
from pipeline.typicality import Typicality


@dataclass(frozen=True)
class HeldOut:
    """Texts that training has not seen, with what the evaluated model says to them."""

    texts: Sequence[Sequence[str]]
    """One list of n strings, or two for a model of pairs."""
    expected: Expected
    """Predictions as Task.activation gives them, and what goes with them."""


@dataclass(frozen=True)
class ExportSettings:
    """What an export holds.

    Args:
        signatures: those that are written beside serving_default and the one for tf.Examples.
        weights: "float32" or "bfloat16", of the stored weights; None: as the model computes. See FusedClassifier.
        metadata: JSON-able; added to assets.extra/metadata.json.
        warmup_batch_sizes: of the requests that a server warms up with (see export.warmup).
        recorded_examples: texts kept beside the model with their answers (see export.recorded).
        typicality: what `fit` follows from, of a task whose answers have it.
        above: a number that the version's is above, besides those in its folder.
    """

    signatures: SignatureOptions = field(default_factory=SignatureOptions)
    weights: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    warmup_batch_sizes: Sequence[int] = ()
    recorded_examples: int = 16
    typicality: Typicality | None = None
    above: int = 0


HIDDEN = ".new-"
"""What the name of a folder begins with while it is written; left where the process was killed."""
DEFAULT_SETTINGS = ExportSettings()


def export_verified(
    model: keras.Model,
    encoder: TextEncoder,
    task: Task,
    directory: str | os.PathLike,
    held_out: HeldOut,
    features: Features = ONE_TEXT,
    settings: ExportSettings = DEFAULT_SETTINGS,
) -> Path:
    """Write the next version of a model, if and only if a fresh process gets the same answers out of it.

    The version is checked under a hidden name and renamed last, so that a server watching the directory
    never sees one that is incomplete or wrong.

    Args:
        model, encoder, task, directory, features, settings: as `export_model`.
        held_out: with which it is compared; the first are kept beside it.

    Returns:
        The numbered folder.

    Raises:
        ExportDiffers: the export answers otherwise; it has been removed.
        UserError: it breaks a rule of TensorFlow Serving (see export.check); it has been removed.
    """

    def check(folder: Path) -> None:
        asked_tokens = encoder if tokens_suffice(encoder) else None
        texts = dict(zip(features.inputs, held_out.texts, strict=True))
        verify(folder, texts, held_out.expected, task, asked_tokens)
        write_recorded(folder, texts, held_out.expected, settings.recorded_examples)
        if rehearsal := encoder.redaction.rehearsal:
            # Redacted texts may hold nothing that has the model look for more.
            for name in features.inputs[: len(features.text_columns)]:
                texts[name] = [f"{rehearsal} {texts[name][0]}", *texts[name][1:]]
        write_warmup(folder, texts, settings.warmup_batch_sizes, encoder)
        require(folder)

    return export_model(model, encoder, task, directory, features, settings, check=check)


def export_model(
    model: keras.Model,
    encoder: TextEncoder,
    task: Task,
    directory: str | os.PathLike,
    features: Features = ONE_TEXT,
    settings: ExportSettings = DEFAULT_SETTINGS,
    *,
    version: int | None = None,
    check: Callable[[Path], object] | None = None,
) -> Path:
    """Write a model as a numbered SavedModel that answers strings.

    What its signatures take and give: see export.signatures.

    Args:
        model: inputs token_ids, segment_ids and padding_mask, int32 [batch, length]; output logits [batch, C].
        encoder: strings to those inputs.
        task: what the logits mean.
        directory: of all versions.
        features: one text a row, or two.
        settings: what is written.
        version: number of the folder; None: the next free one.
        check: called with the complete folder while it is still hidden; if it raises, nothing is left behind.

    Returns:
        The numbered folder.

    Raises:
        UserError: the version is taken, the model does not have the task's outputs, or it does not allow what is asked
            for.
    """
    if task.outputs != model.output_shape[-1]:
        raise UserError(f"the task has {task.outputs} outputs, but the model {model.output_shape[-1]}.")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # Servers take only numbered folders for versions.
    hidden = directory / f"{HIDDEN}{uuid.uuid4().hex}"
    try:
        served = ServedModel(model, encoder, task, settings.weights, settings.typicality)
        served.save(hidden, features, settings.signatures)
        description = _describe(served, features, operations(read_graph(hidden))) | settings.metadata
        description["optional_signatures"] = chosen(settings.signatures, task, served.fused, tokens_suffice(encoder))
        metadata_file = hidden / METADATA
        metadata_file.parent.mkdir()
        metadata_file.write_text(json.dumps(description, indent=1, ensure_ascii=False), encoding="utf-8")
        schema = json.dumps(request_schema(features), indent=1, ensure_ascii=False)
        (hidden / SCHEMA).write_text(schema, encoding="utf-8")
        if check is not None:
            check(hidden)
        return _publish(hidden, directory, version, settings.above)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


class ServedModel(tf.Module):
    """Strings to answers. Holds the weights that it uses, each once, and nothing of Keras.

    A Keras model as attribute would be saved with its layers and every variable twice (keras-team/keras#23553).
    """

    def __init__(
        self,
        model: keras.Model,
        encoder: TextEncoder,
        task: Task,
        weights: str | None = None,
        typicality: Typicality | None = None,
    ):
        super().__init__(name="served_model")
        self.encoder, self.task = encoder, task
        try:
            fused = FusedClassifier(model, weights)
            self.forward = ChunkedClassifier(fused) if encoder.long.in_chunks else fused
            self.fused, self.why_unfused = True, None
        except UnsupportedModel as reason:
            if weights is not None:
                raise UserError(f"export.weights {weights}: {reason}") from reason
            self.forward = _Unfused(model)
            self.fused, self.why_unfused = False, str(reason)
            print(
                f"note: the export runs the Keras graph as it is, slower on CPUs and without the signatures embed and "
                f"explain: {reason}"
            )
        if task.fit and (typicality is None or not self.fused):
            raise UserError(f"export.fit needs the model's pooled vectors: {self.why_unfused or 'there are none'}.")
        self.fit = FitOfVectors(typicality) if task.fit and typicality else None
        # Each one graph for all signatures that use it.
        tokens = encoder.specs
        if self.fused:
            self.pooled = tf.function(self.forward.pooled, input_signature=[tokens], autograph=False)
        self.predictions_of_tokens = tf.function(self._of_tokens, input_signature=[tokens], autograph=False)
        self.predictions = tf.function(lambda texts: self.predictions_of_tokens(self.encoder(*texts)), autograph=False)
        if self.fit:
            self._judged = tf.function(self._predictions_and_fit, input_signature=[tokens], autograph=False)

    def save(self, folder: Path, features: Features, signatures: SignatureOptions) -> None:
        """Write the SavedModel."""
        # Without debug information: it holds paths of the machine that exports.
        options = tf.saved_model.SaveOptions(save_debug_info=False, experimental_custom_gradients=False)
        functions = build_signatures(self, features, signatures)
        tf.saved_model.save(self, str(folder), signatures=functions, options=options)

    def answer(self, texts: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        """The outputs of serving_default."""
        if self.fit:
            return self.answer_to_tokens(self.encoder(*texts))
        return self.task.answered(self.predictions(texts))

    def answer_to_tokens(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The same, of what the encoder gives."""
        if self.fit:
            return self.task.answered(*self._judged(inputs))
        return self.task.answered(self.predictions_of_tokens(inputs))

    def _predictions_and_fit(self, inputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """float32 [batch, K] and [batch] of what the encoder gives."""
        pooled = self.pooled(inputs)
        assert self.fit, "answer_to_tokens has seen to it"
        predictions = self.task.activation(tf.cast(self.forward.logits(pooled), tf.float32))
        return tf.ensure_shape(predictions, [None, self.task.outputs]), tf.ensure_shape(self.fit(pooled), [None])

    def _of_tokens(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """float32 [batch, K] of what the encoder gives."""
        logits = self.forward.logits(self.pooled(inputs)) if self.fused else self.forward(inputs)
        predictions = self.task.activation(tf.cast(logits, tf.float32))
        return tf.ensure_shape(predictions, [None, self.task.outputs])


class _Unfused(tf.Module):
    """Any Keras model as it is, by its variables."""

    def __init__(self, model: keras.Model):
        super().__init__(name="model")
        # In a closure, where tf.Module does not look.
        self._call = lambda inputs: model(inputs, training=False)
        self.variables_in_use = [variable.value for variable in model.weights]

    def __call__(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        return self._call(inputs)


def _describe(served: ServedModel, features: Features, used: list[str]) -> dict[str, Any]:
    return {
        **served.task.metadata(),
        **({FIT: served.task.fit.metadata()} if served.task.fit else {}),
        **features.metadata(),
        "sequence_length": served.encoder.sequence_length,
        "tokenization": served.encoder.fingerprint,
        **({"long": long} if (long := served.encoder.long.metadata()) else {}),
        **({"redaction": redaction} if (redaction := served.encoder.redaction.metadata()) else {}),
        "fused": served.fused,
        **({"why_unfused": served.why_unfused} if not served.fused else {}),
        "operations": used,
        "minimum_serving": minimum_version(used),
        # TensorFlow may come in a package of another name (tensorflow-tpu, tensorflow-cpu).
        "versions": {"tensorflow": tf.__version__} | {name: installed(name) for name in ("tensorflow-text", "keras")},
        "run": {},
    }


def _publish(hidden: Path, directory: Path, version: int | None, above: int = 0) -> Path:
    """Rename to the wanted or the next free number; os.rename fails where another process has taken it."""
    while True:
        taken = [number for path in directory.iterdir() if (number := version_number(path)) is not None]
        target = directory / str(max(above, *taken, 0) + 1 if version is None else version)
        try:
            os.rename(hidden, target)
            return target
        except OSError as error:
            if not target.exists():
                raise
            if version is not None:
                raise UserError(f"{target} exists: give another version, or none for the next free one.") from error
