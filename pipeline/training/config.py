"""Settings of training."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pipeline import tasks
from pipeline.privacy.config import PrivacyConfig
from pipeline.settings.bounds import Count, CountOrZero, Decay, NotNegative, Positive, Seed, Share, WholeShare
from pipeline.settings.read import require

if TYPE_CHECKING:
    from pipeline.config import Config

Trainable = Literal["all", "head", "bias", "last", "lora"]
# Names of TransformerParts.
Kernel = Literal["query", "key", "value", "attention_output", "intermediate", "output"]


@dataclass
class LoraConfig:
    """Low-rank updates of kernels, which training.trainable lora learns in place of the kernels (Hu et al., 2021)."""

    rank: Count = 8
    """Of the update of each kernel."""
    alpha: Positive = 16.0
    """The update is multiplied by alpha / rank, so that the learning rate need not change with the rank."""
    kernels: list[Kernel] = field(default_factory=lambda: ["query", "value"])
    """Of each transformer layer: query, key, value and attention_output, those of attention, intermediate and output,
    those of the feed-forward network."""


@dataclass
class TrainingConfig:
    """Optimisation, numerics and checkpoints."""

    method: Literal["fine_tune", "contrastive", "head", "auto"] = "fine_tune"
    """How weights are found. fine_tune: all, by the task's loss. head: the classification layer alone, on the vectors
    that the checkpoint gives as it is, in seconds. contrastive: vectors of texts with the same label are drawn together
    and others apart, then a head is fitted; best with few labels. auto: the one that does best on training rows held
    out from it; from 5,000 rows on, and with data.language_temperature, fine_tune."""
    epochs: CountOrZero = 3
    """Passes over the training rows. 0: none; the checkpoint is a finished classifier, which is scored and exported as
    it is, with its own head, labels and length. Rows, of data.test or any other, are only to score it."""
    updates: Count | None = None
    """Weight updates in all, in place of epochs: few rows need more than a few passes give them. What is said of epochs
    then holds for stretches of a tenth of them, or of a pass where that is more. None: as many as the epochs have."""
    batch_size: Count = 32
    """Examples a weight update, over all devices."""
    tokens_per_batch: Count | None = None
    """Tokens a weight update at most, padding included, in place of batch_size: of long texts few are taken together,
    of short ones many. An update is the mean over its texts, so that a long text counts more than a short one. None:
    batches of batch_size texts."""
    accumulation: Count = 1
    """Split each batch into this many parts, one after the other, to save memory; the update is the same."""
    learning_rate: Positive = 5e-5
    """Peak learning rate."""
    columns_learning_rate: Positive = 1e-3
    """Peak learning rate where columns beside the text come in: of the layers of model.fusion and of the last one,
    which begin with random weights."""
    warmup: Share = 0.1
    """Share of all updates over which the learning rate rises linearly from 0."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    weight_decay: NotNegative = 0.01
    """Decoupled weight decay; never applied to biases and layer normalisation."""
    layer_decay: Decay = 1.0
    """Layer-wise learning-rate decay: each layer below the head learns at this multiple of the one above it."""
    clip_norm: Positive | None = 1.0
    """Largest global norm of the gradient over all variables and devices."""
    embedding_update: Literal["lazy", "dense"] = "lazy"
    """lazy: update only the word embeddings of the batch (LazyAdam, much faster); dense: all of them, every step."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: weight each class by the inverse of its share of the training rows."""
    self_training: Count = 1
    """Rounds in which data.unlabelled is given labels, before the training that is served."""
    drop_suspicious: bool = False
    """Leave out training rows whose labels are contradicted by predictions that have not learned them (see
    python -m pipeline.labels check, which names them for a person, and is usually better); dropped.csv in the run's
    folder has them."""
    label_smoothing: Share = 0.0
    """Share of the target's probability spread evenly over all classes."""
    ema: Share | None = None
    """Evaluate, keep and export an exponential moving average of the weights with this decay (0.999 is usual); none:
    the weights as trained."""
    early_stopping: Count | None = None
    """Stop after this many epochs without a better validation score."""
    monitor: str | None = None
    """Validation score that chooses the best epoch, whose weights are kept: accuracy, macro_f1, micro_f1, weighted_f1
    or loss; of a number mae, rmse, r2, spearman or loss; none: macro_f1, or mae. Of equal scores that of less loss."""
    dtype: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    """Numerics; auto: mixed_bfloat16 where the hardware multiplies bfloat16, else float32."""
    xla: Literal["auto"] | bool = "auto"
    """Compile updates (of pre-training too) with XLA: seconds for each length of batch the first time, fewer and larger
    kernels from then on. auto: in long trainings on GPUs. CPUs are slower with it, TPUs compile anyway."""
    strategy: Literal["auto", "one", "mirrored", "multiworker", "tpu"] = "auto"
    """Devices; auto: those of all workers where TF_CONFIG or Slurm describe a cluster, else a TPU, else all GPUs of
    this machine, else one device. mirrored: all GPUs, else all logical CPUs. multiworker: auto, where no cluster is an
    error."""
    workers_timeout: Positive = 600.0
    """Seconds to wait at the start for the last worker of a cluster."""
    steps_per_execution: Count = 1
    """Updates (of pre-training too) without a look at losses or a checkpoint between them; on one device and on a TPU
    in one call of TensorFlow, which helps where single updates are short. The weights are the same."""
    bucket_by_length: bool = True
    """Batch texts of like length together, so that short ones do not pay for long ones."""
    checkpoint_seconds: Positive = 300.0
    """Save the state at least this often, besides the end of every epoch."""
    deterministic: bool = False
    """Bit-for-bit repeatable operations on accelerators, at some cost in speed."""
    seed: Seed = 0
    """Decides initial weights, data order and dropout."""
    trainable: Trainable = "all"
    """Which weights method fine_tune changes, beside the new ones of pooling and head: all; none (head); biases, those
    of layer normalisation too (Ben Zaken et al., 2022); all of the last trainable_layers transformer layers; low-rank
    updates of kernels, merged into them at the end (lora). Fewer need less time and memory, and with few labels or
    training.privacy may do better."""
    trainable_layers: Count = 2
    """Transformer layers that trainable last changes."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)


@dataclass
class DistillationConfig:
    """Learning from a larger classifier, beside the labels."""

    teacher: str | None = None
    """Folder of a finished run with the same labels and vocabulary, whose best weights teach; none: no distillation."""
    temperature: Positive = 2.0
    """Divides the logits of both, to show what the teacher thinks of the less likely labels (Hinton et al., 2015)."""
    soft_share: WholeShare = 0.9
    """Weight of the teacher's probabilities as targets; the labels have the rest."""
    hidden_weight: NotNegative = 0.0
    """Weight of the mean squared error to the teacher's hidden states, of layers chosen evenly and, where the widths
    differ, through a linear projection that is learned too (Jiao et al., 2020); 0: not looked at."""


def check_training(config: "Config") -> None:
    """Batches divide into their parts, and what looks at validation rows finds them."""
    training, data = config.training, config.data
    kernels = training.lora.kernels
    require(
        len(set(kernels)) == len(kernels) > 0,
        f"training.lora.kernels [{', '.join(kernels)}] must name one kernel or more, each once.",
    )
    require(
        training.batch_size % training.accumulation == 0,
        f"training.batch_size {training.batch_size} is no multiple of training.accumulation {training.accumulation}.",
    )
    if training.tokens_per_batch is not None:
        check_tokens_per_batch(config)
    require(
        not training.epochs or not training.early_stopping or data.validation or data.validation_fraction > 0,
        "training.early_stopping needs validation rows: set data.validation or data.validation_fraction.",
    )


def check_tokens_per_batch(config: "Config") -> None:
    """Batches of any number of rows and tokens go with what they are made for."""
    training = config.training
    for setting, value, needed in (
        ("training.method", training.method, "fine_tune"),
        ("training.bucket_by_length", training.bucket_by_length, True),
        ("text.fixed_length", config.text.fixed_length, False),
        ("data.language_temperature", config.data.language_temperature, 1.0),
    ):
        need = str(needed).lower() if isinstance(needed, bool) else needed
        require(value == needed, f"training.tokens_per_batch needs {setting} {need}: set it so, or give batch_size.")
    require(
        training.xla is not True,
        "training.tokens_per_batch makes batches of too many shapes for training.xla true: unset one of the two.",
    )


def check_finished(config: "Config") -> None:
    """Where nothing is trained, there is a checkpoint to serve, as it is."""
    if config.training.epochs or config.stage == "pretrain":
        return
    require(
        config.model.backbone is not None and not config.corpus.train,
        "training.epochs 0 trains nothing: name a finished classifier as model.backbone, and no corpus.",
    )
    for setting, value in (
        ("model.num_layers", config.model.num_layers),
        ("text.vocabulary", config.text.vocabulary),
        ("distillation.teacher", config.distillation.teacher),
    ):
        require(value is None, f"training.epochs 0 serves a checkpoint as it is, which {setting} {value} would change.")
    for setting, value, usual in (
        ("model.pooled_layers", config.model.pooled_layers, 1),
        ("text.long", config.text.long, "head"),
    ):
        require(
            value == usual, f"training.epochs 0 serves a checkpoint as it is, which {setting} {value} would change."
        )


def check_distillation(config: "Config") -> None:
    """A teacher has something to teach."""
    teaching = config.distillation
    require(
        not teaching.teacher or teaching.soft_share > 0 or teaching.hidden_weight > 0,
        "distillation.teacher has nothing to teach: set distillation.soft_share or distillation.hidden_weight above 0.",
    )


def check_self_training(config: "Config") -> None:
    """Texts without labels can be given some."""
    data = config.data
    if not data.unlabelled:
        return
    require(config.training.epochs > 0, "data.unlabelled is of no use where training.epochs is 0.")
    require(
        tasks.kind_of(data).labelled, "data.unlabelled is for tasks with labels, and data.task is number: unset it."
    )
    for name in ("label_columns", "weight_column", "language_column", "group_column"):
        require(
            not getattr(data, name),
            f"data.unlabelled goes without data.{name}, which such texts lack: unset one of the two.",
        )


def check_method(config: "Config") -> None:
    """Other methods than fine_tune go without what only it knows."""
    method = config.training.method
    require(
        method == "fine_tune" or config.training.trainable == "all",
        f"training.trainable {config.training.trainable} is for training.method fine_tune: unset one of the two.",
    )
    if method not in ("head", "contrastive"):
        return
    for setting, value, unset in (
        ("distillation.teacher", config.distillation.teacher, None),
        ("training.ema", config.training.ema, None),
        ("training.early_stopping", config.training.early_stopping, None),
        ("training.accumulation", config.training.accumulation, 1),
        ("data.language_temperature", config.data.language_temperature, 1),
    ):
        require(value == unset, f"training.method {method} goes without {setting} {value}: unset one of the two.")
    require(
        method == "head" or tasks.kind_of(config.data).labelled,
        "training.method contrastive compares labels, and data.task is number: use fine_tune or head.",
    )
