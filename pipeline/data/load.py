"""Training, validation and test rows with what is to be predicted."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline import tasks
from pipeline.config import DataConfig
from pipeline.data.split import Split, split_off
from pipeline.data.store import convert
from pipeline.features import Features
from pipeline.tasks.task import Task


@dataclass
class DataSplits:
    """All rows of a run.

    Attributes:
        task: what is predicted, with what the training rows say about it.
        train, validation, test: the last two may be None.
        features: what of a row goes into the model.
        warnings: sentences that the user should read.
        summary: numbers for the report.
        fingerprint: changes when any text, target or split changes.
    """

    task: Task
    train: Split
    validation: Split | None
    test: Split | None
    features: Features
    warnings: list[str] = field(default_factory=list)
    summary: dict = field(default_factory=dict)
    fingerprint: str = ""

    @property
    def splits(self) -> list[Split]:
        """Those that there are."""
        return [split for split in (self.train, self.validation, self.test) if split is not None]


def load(data: DataConfig, cache: Path) -> DataSplits:
    """Read, check and split the data that a config names.

    Args:
        data: the data section.
        cache: folder for the converted rows; what is there already is used again.

    Raises:
        UserError: naming file, row and reason.
    """
    stores = {"train": convert(data.train, data, cache, "train")}
    for name in ("validation", "test"):
        source = getattr(data, name)
        if source:
            stores[name] = convert(source, data, cache, name)
    task = tasks.kind_of(data).of(data, stores["train"])
    known = "data.labels" if data.labels else "the training rows"
    splits = {
        name: Split(name, store, np.arange(store.meta.rows), task.targets(store, known))
        for name, store in stores.items()
    }
    rows = len(splits["train"])
    for name in ("test", "validation"):
        fraction = getattr(data, f"{name}_fraction")
        if name not in splits and fraction:
            # Both are shares of the whole, also of what the first has left.
            share = fraction * rows / len(splits["train"])
            splits["train"], splits[name] = split_off(splits["train"], name, share, data.split_seed)
    task = task.fitted(splits["train"].targets())
    features = Features.of(data.text_columns)
    result = DataSplits(task, splits["train"], splits.get("validation"), splits.get("test"), features)
    _describe(result)
    return result


def _describe(splits: DataSplits) -> None:
    train = splits.train
    known = np.unique(train.hashes())
    fingerprints = []
    for split in splits.splits:
        numbers = {"rows": len(split), **splits.task.data_summary(split.targets())}
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
    splits.warnings += splits.task.data_warnings()
    splits.fingerprint = " ".join(fingerprints)
