"""Settings of the export."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pipeline.extras import require as require_extra
from pipeline.remote import is_remote
from pipeline.settings.bounds import Count, CountOrZero, Positive, Share
from pipeline.settings.read import require

if TYPE_CHECKING:
    from pipeline.config import Config


@dataclass
class ExportConfig:
    """The SavedModel for TensorFlow Serving."""

    enabled: bool = True
    """Export after evaluation."""
    force: bool = False
    """Score and export once more a run that is complete and of which nothing has changed."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Numerics of the exported (and evaluated) model; auto: as in training."""
    verify_examples: Count = 64
    """Held-out texts on which the export must answer as the live model does."""
    tolerance: Positive | None = None
    """Largest difference of a probability between export and live model; none: 1e-4, or in bfloat16, where
    padding changes the rounding, three times what rounding does to the live model's (0.02 to 0.1)."""
    warmup_batch_sizes: list[Count] = field(default_factory=lambda: [1, 8, 32])
    """Sizes of the requests, made of held-out texts, that a server answers for itself before a version becomes
    available; []: none."""
    recorded_examples: CountOrZero = 16
    """Held-out texts kept beside the model with their answers, for `python -m export.check`; 0: none."""
    weights: Literal["float32", "bfloat16"] | None = None
    """Numbers that the weights are stored as; bfloat16 halves the files of a model that computes in float32, which is
    then evaluated with its weights so rounded; none: as `dtype`."""
    onnx: Literal["none", "float32", "int8"] = "none"
    """Write the model as ONNX too, token ids to predictions, to `onnx/` in the run's folder; ONNX Runtime (extra onnx)
    must give the served model's predictions. int8: dense layers in 8 bits, for few texts at a time on CPUs."""
    sequence_length: Count | None = None
    """Longest sequence in tokens that is served, and evaluated; none: text.sequence_length."""
    signatures: list[Literal["predict_tokens", "top_k", "embed", "explain"]] | None = None
    """What the SavedModel offers beside serving_default and the signature for tf.Examples: answers to token ids, the
    best labels, the pooled vector, and what each token contributes to the answer; none: all that the task has."""
    top_k: Count = 5
    """Labels that the signature top_k gives; at most all."""
    explain_steps: Count = 40
    """Points of the integral of the signature explain: time and exactness."""
    abstain_below: Share = 0.0
    """Score below which the answer's label is `abstain_label`; 0: never. One label a row only."""
    abstain_error: Share = 0.0
    """In place of abstain_below: the largest share of wrong ones among the answers that are given. The validation rows
    choose the smallest score that keeps it with 95 % confidence; 0: unused. One label a row only."""
    abstain_label: str = ""
    """The label of an answer that is none; not the name of a label."""
    coverage: Share = 0.0
    """Adds the signature set: for each text the labels that together hold the right one in this share of the rows, by
    thresholds that the validation rows choose (conformal prediction); 0: none. One label a row only."""
    coverage_by: Literal["row", "label"] = "row"
    """Whether the coverage holds over all rows, or for each label by a threshold of its own, in larger sets."""
    publish: str | None = None
    """Address, such as gs://bucket/models/name, where the exported version is copied to, for a server that reads it
    there; saved_model.pb comes last. Extra remote."""
    fit: bool = False
    """Answers say how well a text fits what the model was trained on: `fit`, from 0 to 1, is the share of validation
    rows that fit no better, by the distance of pooled vectors."""
    outside: Share = 0.0
    """Share of texts of the model's own kind that are answered as any; those that fit less than all of these have the
    label `outside_label`. 0: all are. Implies fit. Labels only."""
    outside_label: str = "outside"
    """The label of a text that does not fit; not the name of a label."""


def check_answers(config: "Config") -> None:
    """What decides answers is there: validation rows for thresholds, training rows for what fits."""
    data, export = config.data, config.export
    fit = export.fit or bool(export.outside)
    for setting, asked in (("abstain_error", export.abstain_error), ("coverage", export.coverage), ("fit", fit)):
        require(
            not asked or data.validation or (data.train and data.validation_fraction),
            f"export.{setting} needs validation rows: set data.validation or data.validation_fraction.",
        )
    require(not fit or data.train, "export.fit needs the rows that the model was trained on: set data.train.")


def check_publish(config: "Config") -> None:
    """What writes to an address is there before anything is trained."""
    address = config.export.publish
    if config.export.enabled and address is not None:
        require(is_remote(address), f"export.publish {address} is no address, such as gs://bucket/models/name.")
        require_extra("remote", "fsspec")


def check_onnx(config: "Config") -> None:
    """What writes and reads ONNX is there before anything is trained."""
    if config.export.enabled and config.export.onnx != "none":
        for module in ("onnx", "onnxruntime"):
            require_extra("onnx", module)
