"""A classifier as a SavedModel that takes raw strings, for TensorFlow Serving."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from importlib.metadata import version as installed
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from export.check import require
from export.fused import FusedClassifier, UnsupportedModel
from export.graph import operations, read_graph
from export.labels import LabelRule
from export.loading import METADATA
from export.recorded import write_recorded
from export.server.releases import minimum_version
from export.signatures import DEFAULT_SIGNATURES, TOKENS, SignatureOptions, build_signatures, chosen, input_names
from export.verify import verify
from export.warmup import write_warmup
from pipeline.errors import UserError
from pipeline.text import TextEncoder


def export_verified(
    model: keras.Model,
    encoder: TextEncoder,
    label_names: Sequence[str],
    directory: str | os.PathLike,
    *,
    texts: Sequence[Sequence[str]],
    probabilities: np.ndarray,
    tolerance: float,
    multi_label: bool = False,
    threshold: float = 0.5,
    separator: str = "|",
    abstain_below: float = 0.0,
    abstain_label: str = "",
    signatures: SignatureOptions = DEFAULT_SIGNATURES,
    weights: str | None = None,
    metadata: dict | None = None,
    warmup_batch_sizes: Sequence[int] = (),
    recorded_examples: int = 16,
) -> Path:
    """Write the next version of a model, if and only if a fresh process gets the same answers out of it.

    The version is checked under a hidden name and renamed last, so that a server watching the directory
    never sees one that is incomplete or wrong.

    Args:
        model, encoder, label_names, directory, multi_label, threshold, separator, abstain_below, abstain_label,
            signatures, weights, metadata: as `export_classifier`.
        texts: one list of held-out strings, or two for a model of pairs.
        probabilities: float32 [n, C], what the evaluated model says to them.
        tolerance: largest difference of a probability that is taken as equal.
        warmup_batch_sizes: of the requests that a server warms up with (see export.warmup).
        recorded_examples: texts kept beside the model with their answers (see export.recorded).

    Returns:
        The numbered folder.

    Raises:
        ExportDiffers: the export answers otherwise; it has been removed.
        UserError: it breaks a rule of TensorFlow Serving (see export.check); it has been removed.
    """
    rule = LabelRule(tuple(label_names), multi_label, threshold, separator, abstain_below, abstain_label)

    def check(folder: Path) -> None:
        verify(folder, texts, probabilities, tolerance, rule, encoder)
        write_recorded(folder, texts, probabilities, tolerance, rule, recorded_examples)
        write_warmup(folder, dict(zip(input_names(len(texts) == 2), texts, strict=True)), warmup_batch_sizes, encoder)
        require(folder)

    return export_classifier(
        model,
        encoder,
        label_names,
        directory,
        pair=len(texts) == 2,
        multi_label=multi_label,
        threshold=threshold,
        separator=separator,
        abstain_below=abstain_below,
        abstain_label=abstain_label,
        signatures=signatures,
        weights=weights,
        metadata=metadata,
        check=check,
    )


def export_classifier(
    model: keras.Model,
    encoder: TextEncoder,
    label_names: Sequence[str],
    directory: str | os.PathLike,
    *,
    pair: bool = False,
    multi_label: bool = False,
    threshold: float = 0.5,
    separator: str = "|",
    abstain_below: float = 0.0,
    abstain_label: str = "",
    signatures: SignatureOptions = DEFAULT_SIGNATURES,
    weights: str | None = None,
    metadata: dict | None = None,
    version: int | None = None,
    check: Callable[[Path], object] | None = None,
) -> Path:
    """Write a model as a numbered SavedModel that answers strings.

    serving_default: `text`, string [batch] (pairs: `text_a` and `text_b`), to `label`, string [batch], `score`,
    float32 [batch] (the highest probability), and `probabilities`, float32 [batch, C].
    classify: `inputs`, serialized tf.Example [batch] with features of the same names (a missing one counts as empty),
    to `classes`, string [batch, C], and `scores`, float32 [batch, C], both in the order of `label_names`. Bytes that
    are no tf.Example fail the call, as TensorFlow's parser does; any bytes are a text.
    predict_tokens: `token_ids`, `segment_ids` and `padding_mask`, int32 [batch, length], to the outputs of
    serving_default.
    top_k, embed and explain take what serving_default takes.
    top_k: `top_labels`, string [batch, k], and `top_scores`, float32 [batch, k], best first.
    embed: `embedding`, float32 [batch, H], what the classification layer sees.
    explain: `attributions`, float32 [batch, length], what each piece adds to the log-odds of the most probable label
    (see export.explain); `pieces`, string [batch, length]; `begin` and `end`, int32 [batch, length], the bytes of the
    text that a piece is of; `label`, string [batch], the name explained, also where serving_default abstains; `score`
    and `completeness_gap`, float32 [batch]; pairs: `segment_ids`, int32 [batch, length], 1 for pieces of `text_b`.
    Special tokens and padding have attribution 0 and no bytes.

    Args:
        model: inputs token_ids, segment_ids and padding_mask, int32 [batch, length]; output logits [batch, C].
        encoder: strings to those inputs.
        label_names: C strings, in the order of the logits.
        directory: of all versions.
        pair: two texts a row.
        multi_label: independent labels: a sigmoid, and `label` is as LabelRule says.
        threshold: probability from which a label counts as given (multi-label only).
        separator: between the names of several labels.
        abstain_below: serving_default's label is `abstain_label` where the score is below it (single-label only).
        abstain_label: must not be the name of a label.
        signatures: those that are written beside serving_default and classify.
        weights: "float32" or "bfloat16", of the stored weights; None: as the model computes. See FusedClassifier.
        metadata: JSON-able; stored under "run" in assets.extra/metadata.json.
        version: number of the folder; None: the next free one.
        check: called with the complete folder while it is still hidden; if it raises, nothing is left behind.

    Returns:
        The numbered folder.

    Raises:
        UserError: the version is taken, the number of names is not the number of logits, or the model or the labels do
            not allow what is asked for.
    """
    if len(label_names) != model.output_shape[-1]:
        raise UserError(f"{len(label_names)} label names for {model.output_shape[-1]} outputs: give one a label.")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    rule = LabelRule(tuple(label_names), multi_label, threshold, separator, abstain_below, abstain_label)
    # Servers take only numbered folders for versions.
    hidden = directory / f".new-{uuid.uuid4().hex}"
    try:
        served = ServedClassifier(model, encoder, rule, weights)
        served.save(hidden, pair, signatures)
        description = _describe(encoder, rule, pair, served.fused, operations(read_graph(hidden)), metadata or {})
        description["optional_signatures"] = chosen(signatures, served.fused)
        metadata_file = hidden / METADATA
        metadata_file.parent.mkdir()
        metadata_file.write_text(json.dumps(description, indent=1, ensure_ascii=False), encoding="utf-8")
        if check is not None:
            check(hidden)
        return _publish(hidden, directory, version)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


class ServedClassifier(tf.Module):
    """Strings to answers. Holds the weights that it uses, each once, and nothing of Keras.

    A Keras model as attribute would be saved with its layers and every variable twice (keras-team/keras#23553).
    """

    def __init__(self, model: keras.Model, encoder: TextEncoder, rule: LabelRule, weights: str | None = None):
        super().__init__(name="served_classifier")
        self.encoder, self.rule = encoder, rule
        try:
            self.forward = FusedClassifier(model, weights)
            self.fused = True
        except UnsupportedModel as reason:
            if weights is not None:
                raise UserError(f"export.weights {weights}: {reason}") from reason
            self.forward = _Unfused(model)
            self.fused = False
        # Each one graph for all signatures that use it.
        tokens = {name: tf.TensorSpec([None, None], tf.int32) for name in TOKENS}
        if self.fused:
            self.pooled = tf.function(self.forward.pooled, input_signature=[tokens])
        self.probabilities_of_tokens = tf.function(self._of_tokens, input_signature=[tokens])
        self.probabilities = tf.function(lambda texts: self.probabilities_of_tokens(self.encoder(*texts)))

    def save(self, folder: Path, pair: bool, signatures: SignatureOptions) -> None:
        """Write the SavedModel."""
        # Without debug information: it holds paths of the machine that exports.
        options = tf.saved_model.SaveOptions(save_debug_info=False, experimental_custom_gradients=False)
        functions = build_signatures(self, pair, signatures)
        tf.saved_model.save(self, str(folder), signatures=functions, options=options)

    def answer(self, probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        """The outputs of serving_default of float32 [batch, C]."""
        names = tf.constant(self.rule.names)
        score = tf.reduce_max(probabilities, axis=1)
        if self.rule.multi_label:
            given = probabilities >= self.rule.threshold
            rows = tf.RaggedTensor.from_row_lengths(
                tf.boolean_mask(tf.broadcast_to(names, tf.shape(probabilities)), given),
                tf.reduce_sum(tf.cast(given, tf.int64), axis=1),
            )
            label = tf.strings.reduce_join(rows, axis=1, separator=self.rule.separator)
        else:
            label = tf.gather(names, tf.argmax(probabilities, axis=1))
            if self.rule.abstain_below:
                label = tf.where(score < self.rule.abstain_below, self.rule.abstain_label, label)
        return {"label": label, "score": score, "probabilities": probabilities}

    def _of_tokens(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """float32 [batch, C] of what the encoder gives."""
        logits = self.forward.logits(self.pooled(inputs)) if self.fused else self.forward(inputs)
        logits = tf.cast(logits, tf.float32)
        probabilities = tf.sigmoid(logits) if self.rule.multi_label else tf.nn.softmax(logits)
        return tf.ensure_shape(probabilities, [None, len(self.rule.names)])


class _Unfused(tf.Module):
    """Any Keras model as it is, by its variables."""

    def __init__(self, model: keras.Model):
        super().__init__(name="model")
        # In a closure, where tf.Module does not look.
        self._call = lambda inputs: model(inputs, training=False)
        self.variables_in_use = [variable.value for variable in model.weights]

    def __call__(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        return self._call(inputs)


def _describe(encoder: TextEncoder, rule: LabelRule, pair: bool, fused: bool, used: list[str], metadata: dict) -> dict:
    return {
        "task": "multi_label" if rule.multi_label else "single_label",
        "label_names": list(rule.names),
        "inputs": input_names(pair),
        "sequence_length": encoder.sequence_length,
        **({"threshold": rule.threshold, "separator": rule.separator} if rule.multi_label else {}),
        **({"abstain_below": rule.abstain_below, "abstain_label": rule.abstain_label} if rule.abstain_below else {}),
        "tokenization": encoder.fingerprint,
        "fused": fused,
        "operations": used,
        "minimum_serving": minimum_version(used),
        # TensorFlow may come in a package of another name (tensorflow-tpu, tensorflow-cpu).
        "versions": {"tensorflow": tf.__version__} | {name: installed(name) for name in ("tensorflow-text", "keras")},
        "run": metadata,
    }


def _publish(hidden: Path, directory: Path, version: int | None) -> Path:
    """Rename to the wanted or the next free number; os.rename fails where another process has taken it."""
    while True:
        taken = [int(path.name) for path in directory.iterdir() if path.name.isdigit()]
        target = directory / str(max(taken, default=0) + 1 if version is None else version)
        try:
            os.rename(hidden, target)
            return target
        except OSError as error:
            if not target.exists():
                raise
            if version is not None:
                raise UserError(f"{target} exists: give another version, or none for the next free one.") from error
