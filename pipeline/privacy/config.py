"""Settings of training under differential privacy, and what does not go with it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline import extras, tasks
from pipeline.features.columns import wanted_features
from pipeline.settings.bounds import Positive, PositiveShare, Seed
from pipeline.settings.read import require

if TYPE_CHECKING:
    from pipeline.config import Config


@dataclass
class PrivacyConfig:
    """Differential privacy of the training rows, by DP-SGD (Abadi et al., 2016; extra privacy)."""

    epsilon: Positive | None = None
    """How much the model may tell about any one row, or with data.group_column any one group; the less, the more
    noise. 8 is weak, 1 is strong. None: training is not private."""
    delta: PositiveShare | Literal["auto"] = "auto"
    """Probability with which epsilon may not hold; below 1 / rows. auto: 1 / (2 rows)."""
    clip_norm: Positive = 0.1
    """Largest norm of the gradient of one row, over all variables; takes the place of training.clip_norm. Small ones do
    well (Li et al., 2022)."""
    seed: Seed | None = None
    """Of batches and noise, for tests alone: who knows it can take the noise off, and nothing is private. None: secret,
    from the operating system."""

    @property
    def on(self) -> bool:
        """Whether training is private."""
        return self.epsilon is not None


def check_private_stage(config: "Config") -> None:
    """Nobody takes a checkpoint for private that is not."""
    require(
        not config.training.privacy.on or config.stage != "pretrain",
        "training.privacy is for fine-tuning: pre-training pairs each document with others in many examples, so that "
        "nothing bounds what one document does to an update; unset training.privacy.epsilon.",
    )


def check_privacy(config: "Config") -> None:
    """All that the private rows decide is counted, or refused here; the rest is switched off in `releases`."""
    training, data, model = config.training, config.data, config.model
    if not training.privacy.on:
        return
    extras.require("privacy", "dp_accounting")
    for name in ("validation", "test"):
        require(
            getattr(data, name) or not getattr(data, f"{name}_fraction"),
            f"training.privacy protects the rows of data.train, and scores tell about {name} rows: name rows that may "
            f"be told about as data.{name}, or set data.{name}_fraction 0.",
        )
    require(
        tasks.kind_of(data).labelled,
        "training.privacy is for tasks with labels: a number's mean and deviation would be told by the private rows.",
    )
    require(
        data.labels or data.label_columns,
        "training.privacy needs data.labels: which labels there are would else be told by the private rows.",
    )
    for setting, value, needed, why in (
        ("training.epochs", training.epochs > 0, True, "nothing is learned"),
        ("training.method", training.method, "fine_tune", "only fine_tune adds noise"),
        ("training.class_weights", training.class_weights, "none", "the weights tell how many rows a class has"),
        ("training.drop_suspicious", training.drop_suspicious, False, "which rows are left out depends on others"),
        ("training.tokens_per_batch", training.tokens_per_batch, None, "its batches depend on all rows"),
        ("training.xla", training.xla is True, False, "the private update is not compiled"),
        ("training.strategy", training.strategy == "tpu", False, "TPUs round the products that norms are of"),
        ("text.long", config.text.long == "chunks", False, "a text must be one sequence"),
        ("data.max_examples", data.max_examples, None, "a row less lets another one in"),
        ("data.unlabelled", data.unlabelled, None, "a model without noise would label the texts"),
        ("data.weight_column", data.weight_column, None, "weights are relative to those of other rows"),
        ("data.language_temperature", data.language_temperature, 1, "how often a row is drawn depends on others"),
        ("distillation.teacher", config.distillation.teacher, None, "what the teacher has learned is not counted"),
        ("evaluation.cross_validation", config.evaluation.cross_validation, 0, "its models would learn without noise"),
        ("evaluation.threshold", config.evaluation.threshold == "tuned", False, "training rows tell the rare label"),
        ("data.numeric_columns etc.", wanted_features(data), [], "means and names are of the private rows"),
        ("export.fit", config.export.fit or bool(config.export.outside), False, "means would be of the private rows"),
        ("corpus.train", config.corpus.train, None, "pre-training is without noise: do it in a run of its own"),
        ("model.pooled_layers", model.pooled_layers, 1, "norms of gradients are known of the last layer's vectors"),
    ):  # fmt: skip
        require(value == needed, f"training.privacy goes without {setting} as it is set: {why}.")
