"""Settings that a checkpoint decides where nobody does: what sentence-transformers' folders say of pooling and length,
and what a finished classifier is.

Imports no TensorFlow.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from pipeline import model_hub, tasks
from pipeline.backbone import finished_config
from pipeline.backbone.json_object import read_json
from pipeline.backbone.places import LENGTHS, checkpoint_folder, model_folder, modules
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.wheel import local_path

_SETTINGS = (("model", "pooling"), ("text", "sequence_length"))
# Of a classifier that is served as it is.
_FINISHED = (*_SETTINGS, ("data", "task"), ("data", "labels"))
# Of sentence-transformers, by the name of a file in pipeline/poolings.
_POOLINGS = {"cls": "first", "mean": "mean"}


@dataclass(frozen=True)
class SentenceEncoder:
    """What a folder of sentence-transformers does around its encoder."""

    pooling: str | None
    """As model.pooling; None: it has another."""
    sequence_length: int | None
    """Its longest sequence in tokens; None: not said."""
    lost: tuple[str, ...]
    """Modules that have no place here."""


def settle(config: Config, run_dir: Path) -> Config:
    """The config with `model.pooling` and `text.sequence_length` set, and a line on what the checkpoint has decided;
    where nothing is trained, also with the checkpoint's task and labels.

    A run that has begun keeps what it began with.

    Args:
        config: checked, with the commit of a checkpoint on the Hugging Face Hub.
        run_dir: of a new run, or of one that is to go on, whose config.yaml holds the two.

    Raises:
        UserError: the checkpoint cannot be had, or is no finished classifier where nothing is trained.
    """
    finished = config.training.epochs == 0 and config.stage != "pretrain"
    settings = _FINISHED if finished else _SETTINGS
    unset = [(section, key) for section, key in settings if getattr(getattr(config, section), key) is None]
    stored = run_dir / "config.yaml"
    if unset and stored.is_file():
        begun = yaml.safe_load(stored.read_text(encoding="utf-8")) or {}
        config = _with(config, {pair: (begun.get(pair[0]) or {}).get(pair[1]) for pair in unset})
    elif finished:
        config = _as_finished(config, unset)
    elif unset and (folder := _folder(config)) and (found := read(folder)):
        values = {pair: getattr(found, pair[1]) for pair in unset}
        config = _with(config, values)
        said = [f"{section}.{key} {value}" for (section, key), value in values.items() if value is not None]
        lost = f"; left out: {', '.join(found.lost)}" if found.lost else ""
        print(f"{config.model.backbone} (sentence-transformers): {', '.join(said) or 'nothing is taken over'}{lost}")
    usual = (config.model.pooled_by, config.text.length)
    return _with(config, dict(zip(_SETTINGS, usual, strict=True)))


def read(folder: Path) -> SentenceEncoder | None:
    """What the modules of a folder of sentence-transformers say; None: it is none."""
    folder = checkpoint_folder(folder)
    found = modules(folder)
    if not found:
        return None
    pooling, lost = None, []
    for module in found:
        kind, path = module["type"], module["path"]
        if kind == "Pooling":
            mode = _mode(read_json(folder / path / "config.json"))
            pooling = _POOLINGS.get(mode)
            lost += [] if pooling else [f"pooling {mode}"]
        elif kind != "Transformer":
            lost.append(f"{kind} ({path})")
    inner = model_folder(folder)
    lengths = next((path for path in (inner / LENGTHS, folder / LENGTHS) if path.is_file()), None)
    longest = read_json(lengths).get("max_seq_length") if lengths else None
    if longest:
        longest = min(longest, read_json(inner / "config.json").get("max_position_embeddings", longest))
    return SentenceEncoder(pooling, longest or None, tuple(lost))


def _as_finished(config: Config, unset: list[tuple[str, str]]) -> Config:
    """The config with what a finished classifier is in its unset settings."""
    source, folder = config.model.backbone, _folder(config)
    if folder is None:
        raise UserError(
            f"training.epochs 0: model.backbone {source} is no Hugging Face folder, which alone has a finished head."
        )
    folder = model_folder(folder)
    found = finished_config.read(folder, config.data.task)
    if config.model.pooling not in (None, found.pooling):
        raise UserError(
            f"model.pooling {config.model.pooling}: the classifier {source} pools by {found.pooling}, and nothing is "
            "trained: unset it."
        )
    labelled = tasks.kind(found.task).labelled
    if labelled:
        _check_labels(config, found, folder)
    values = {
        ("model", "pooling"): found.pooling,
        ("text", "sequence_length"): found.sequence_length,
        ("data", "task"): found.task,
        ("data", "labels"): list(found.names) if labelled else None,
    }
    config = _with(config, {pair: values[pair] for pair in unset})
    said = [f"{section}.{key} {getattr(getattr(config, section), key)}" for section, key in unset]
    print(f"{source} is a finished classifier: {', '.join(said) or 'nothing is taken over'}")
    for note in found.notes:
        print(f"note: {note}")
    tasks.check(config)
    return config


def _check_labels(config: Config, found: finished_config.FinishedConfig, folder: Path) -> None:
    """Each output has a name of its own, by the config or the checkpoint."""
    outputs, given = len(found.names), config.data.labels
    if given is not None and len(given) != outputs:
        raise UserError(f"data.labels has {len(given)} names, but {config.model.backbone} has {outputs} outputs.")
    if given is None and len({*found.names, ""}) <= outputs:
        raise UserError(f"{folder}: id2label has empty or equal names: give {outputs} others as data.labels.")


def _mode(config: dict[str, object]) -> str:
    """cls, mean or another; several are joined by a plus sign."""
    names = {"cls_token": "cls", "mean_tokens": "mean"}
    prefix = "pooling_mode_"
    flags = [key.removeprefix(prefix) for key, value in config.items() if key.startswith(prefix) and value is True]
    return str(config.get("pooling_mode") or "+".join(names.get(flag, flag) for flag in flags) or "of no kind")


def _folder(config: Config) -> Path | None:
    """The folder of the run's checkpoint, of whose weights nothing is fetched; None: it has none of this kind."""
    source = config.model.backbone
    if not source or "://" in source.removeprefix("hf://"):
        return None
    hub_model = model_hub.reference(source)
    folder = model_hub.fetch(hub_model, config.model.revision, weights=False) if hub_model else local_path(source)
    return folder if folder.is_dir() else None


def _with(config: Config, values: dict[tuple[str, str], object]) -> Config:
    """The config with the values that are not None."""
    for (section, key), value in values.items():
        if value is not None:
            config = replace(config, **{section: replace(getattr(config, section), **{key: value})})
    return config
