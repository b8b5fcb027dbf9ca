"""Every setting of a run: typed, bounded and explained, section by section beside what it configures.

TensorFlow is not needed to know them.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from export.config import ExportConfig
from pipeline.backbone.config import ModelConfig, TextConfig
from pipeline.data.config import CorpusConfig, DataConfig
from pipeline.errors import UserError
from pipeline.evaluation.config import EvaluationConfig
from pipeline.files import is_pattern
from pipeline.pretraining.config import PhaseConfig, PretrainingConfig
from pipeline.redaction.kinds import NOTHING, Redaction
from pipeline.search.config import Range, SearchConfig
from pipeline.settings.read import read, require, types_of
from pipeline.training.config import DistillationConfig, TrainingConfig

__all__ = [
    "Config", "CorpusConfig", "DataConfig", "DistillationConfig", "EvaluationConfig", "ExportConfig", "ModelConfig",
    "PhaseConfig", "PretrainingConfig", "Range", "SearchConfig", "TextConfig", "TrainingConfig", "differences",
    "to_yaml",
]  # fmt: skip

# A run may be taken up again with other settings in these sections; the others decide the weights.
REPEATABLE_SECTIONS = ("evaluation", "export", "search")
# Of the other sections, those that decide when a run waits, saves and looks at its losses, and no weights.
REPEATABLE_SETTINGS = ("training.workers_timeout", "training.checkpoint_seconds", "training.steps_per_execution")
# Of the repeatable sections, what the scores depend on by which the best epoch is chosen, until all are made.
SETTINGS_OF_SCORES = ("evaluation.threshold",)


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
    search: SearchConfig = field(default_factory=SearchConfig)
    run_dir: str | None = None
    """Folder of everything the run makes; the same folder again resumes. None: runs/<name of the config>, which without
    one is pretrain for --stage pretrain."""

    @property
    def kept_redaction(self) -> Redaction:
        """What is replaced in rows before they are stored."""
        return self.text.redaction if self.data.keep_redacted_only else NOTHING


def check_run_dir(config: Config) -> None:
    """Checkpoints and the served model can be read where they are written."""
    folder = Path(config.run_dir or "runs").absolute()
    require(
        not is_pattern(folder),
        f"run_dir is {folder}: TensorFlow cannot read a model from a path with [ or \\ in it; give another one.",
    )


def to_yaml(config: Config) -> str:
    """The whole config as YAML, in the order of the dataclasses."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)


def differences(old: dict, config: Config, training: bool = False) -> list[str]:
    """Settings that decide the weights and differ between a stored config and this one, as `key: old -> new`.

    Two ways to write the same setting, such as a file and a list of one file, are no difference.

    Args:
        old: the stored config.
        config: this one.
        training: whether a training has begun and not come to its end, so that epochs are still compared.
    """
    new = dataclasses.asdict(config)
    found = []
    for section, values in new.items():
        if not isinstance(values, dict):
            continue
        kind = type(getattr(config, section))
        # A setting that is younger than the run had its default in it.
        before = dataclasses.asdict(kind()) | (old.get(section) or {})
        for key in sorted(values.keys() | before.keys()):
            name = f"{section}.{key}"
            if not _decides_weights(name, training):
                continue
            if _plain(kind, key, before.get(key)) != _plain(kind, key, values.get(key)):
                found.append(f"{name}: {before.get(key)} -> {values.get(key)}")
    return found


def _decides_weights(name: str, training: bool) -> bool:
    """Whether a setting, section.key, decides the weights of a run, in training or not."""
    repeatable = name.partition(".")[0] in REPEATABLE_SECTIONS or name in REPEATABLE_SETTINGS
    return not repeatable or (training and name in SETTINGS_OF_SCORES)


def _plain(kind: type, key: str, value: Any) -> Any:
    """A setting in the one form that two ways to write it share."""
    try:
        value = read(types_of(kind)[key], value, key)
    except (KeyError, UserError):  # Of another version of this project.
        return value
    return value[0] if isinstance(value, list) and len(value) == 1 else value
