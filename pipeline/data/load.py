"""Training, validation and test rows with integer labels."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.config import DataConfig
from pipeline.data.split import Split, split_off
from pipeline.data.store import Store, convert
from pipeline.errors import UserError


@dataclass
class DataSplits:
    """All rows of a run.

    Attributes:
        train, validation, test: the last two may be None.
        label_names: in the order of the model's outputs.
        multi_label: whether a row has any number of labels.
        pair: whether a row has two texts.
        warnings: sentences that the user should read.
        summary: numbers for the report.
        fingerprint: changes when any text, label or split changes.
    """

    train: Split
    validation: Split | None
    test: Split | None
    label_names: tuple[str, ...]
    multi_label: bool
    pair: bool
    warnings: list[str] = field(default_factory=list)
    summary: dict = field(default_factory=dict)
    fingerprint: str = ""


def load(config: DataConfig, cache: Path) -> DataSplits:
    """Read, check and split the data that a config names.

    Args:
        config: the data section.
        cache: folder for the converted rows; what is there already is used again.

    Raises:
        UserError: naming file, row and reason.
    """
    stores = {"train": convert(config.train, config, cache, "train")}
    for name in ("validation", "test"):
        source = getattr(config, name)
        if source:
            stores[name] = convert(source, config, cache, name)
    names = [name.strip() for name in config.labels or _sorted_labels(stores["train"].meta.labels)]
    if len(set(names)) < len(names):
        name, count = Counter(names).most_common(1)[0]
        raise UserError(f"data.labels has {name!r} {count} times: name each label once.")
    if len(names) < 2:
        found = f"all rows have the one label {names[0]!r}" if names else "no row has a label"
        raise UserError(f"{', '.join(stores['train'].meta.sources)}: {found}; a classifier needs at least two.")
    splits = {name: _split(name, store, names, config) for name, store in stores.items()}
    rows = len(splits["train"])
    for name in ("test", "validation"):
        fraction = getattr(config, f"{name}_fraction")
        if name not in splits and fraction:
            # Both are shares of the whole, also of what the first has left.
            share = fraction * rows / len(splits["train"])
            splits["train"], splits[name] = split_off(splits["train"], name, share, config.split_seed)
    result = DataSplits(
        splits["train"],
        splits.get("validation"),
        splits.get("test"),
        tuple(names),
        config.label_separator is not None,
        len(config.text_columns) == 2,
    )
    _describe(result)
    return result


def _sorted_labels(labels: list[str]) -> list[str]:
    try:
        return sorted(labels, key=int)
    except ValueError:
        return sorted(labels)


def _split(name: str, store: Store, names: list[str], config: DataConfig) -> Split:
    places = {label: i for i, label in enumerate(names)}
    lookup = np.array([places.get(label, -1) for label in store.meta.labels], np.int32)
    ids = lookup[store.label_ids] if len(lookup) else np.zeros(0, np.int32)
    if (ids < 0).any():
        position = int(np.argmax(ids < 0))
        row = int(np.searchsorted(store.label_starts, position, side="right")) - 1
        label = store.meta.labels[store.label_ids[position]]
        known = "data.labels" if config.labels else "the training rows"
        raise UserError(f"{store.where(row)}: the label {label!r} is not among those of {known}.")
    return Split(name, store, np.arange(store.meta.rows), lookup, len(names), config.label_separator is not None)


def _describe(splits: DataSplits) -> None:
    train = splits.train
    known = np.unique(train.hashes())
    fingerprints = []
    for split in (train, splits.validation, splits.test):
        if split is None:
            continue
        numbers = {"rows": len(split), "labels": dict(zip(splits.label_names, split.counts().tolist(), strict=True))}
        sample = split.texts(np.linspace(0, len(split) - 1, min(len(split), 10_000)).astype(np.int64))
        lengths = sum(np.array([len(text.decode()) for text in column]) for column in sample)
        quantiles = (0.0, 0.5, 0.9, 0.99, 1.0)
        numbers["characters"] = {f"{q:.0%}": int(np.quantile(lengths, q)) for q in quantiles}
        numbers["sources"] = split.store.meta.sources
        if split.store.meta.skipped:
            numbers["skipped"] = split.store.meta.skipped
            total = sum(split.store.meta.skipped.values())
            reasons = ", ".join(f"{count} {reason}" for reason, count in split.store.meta.skipped.items())
            rows = "1 row" if total == 1 else f"{total} rows"
            splits.warnings.append(f"skipped {rows} of the {split.name} source: {reasons}.")
        if split.store.meta.notices:
            numbers["notices"] = dict(split.store.meta.notices)
            # A split that was taken off the training rows shares their store.
            if split.store is not train.store or split is train:
                splits.warnings += [f"{split.name} source: {line}" for line in split.store.meta.notices.sentences()]
        hashes = split.hashes()
        numbers["repeated_texts"] = len(split) - len(np.unique(hashes))
        if split is not train:
            seen = int(np.isin(hashes, known).sum())
            numbers["also_in_train"] = seen
            if seen:
                splits.warnings.append(
                    f"{seen} of {len(split)} {split.name} rows ({seen / len(split):.1%}) are also in train: "
                    f"the {split.name} score may be too good by as much."
                )
        splits.summary[split.name] = numbers
        fingerprints.append(f"{split.name}:{split.store.meta.fingerprint}:{len(split)}")
    for label, count in zip(splits.label_names, train.counts(), strict=True):
        if count == 0:
            splits.warnings.append(f"no training row has the label {label!r}.")
    splits.fingerprint = " ".join(fingerprints)
