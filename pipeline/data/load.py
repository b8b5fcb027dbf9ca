"""Training, validation and test rows with what is to be predicted."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline import tasks
from pipeline.config import DataConfig, EvaluationConfig
from pipeline.data.apart import apart_reason, apart_warnings, splitter
from pipeline.data.column_notes import column_digests, column_numbers, language_note, without_weightless
from pipeline.data.extra_columns import wanted_columns
from pipeline.data.health import (
    conflict_warning,
    conflicting_rows,
    label_set_keys,
    look_alike_labels,
    look_alike_warning,
    size_warnings,
)
from pipeline.data.recall import convert_or_recall
from pipeline.data.split import Split
from pipeline.features import Features
from pipeline.features.columns import wanted_features
from pipeline.redaction.kinds import NOTHING, Redaction
from pipeline.tasks.task import Task

# Of the verbs with which it is said why a row cannot be used.
PLURALS = {"has": "have", "is": "are", "does": "do", "holds": "hold"}


@dataclass(frozen=True)
class Judged:
    """Training rows before some were left out, and those that remain where a fold is held out of the judgement too.

    Attributes:
        rows: n of them.
        taught: bool [folds, n], what may be learned from where a fold of evaluation.cross_validation is asked about.
    """

    rows: Split
    taught: np.ndarray


@dataclass
class DataSplits:
    """All rows of a run.

    Attributes:
        task: what is predicted, with what the training rows say about it.
        train, validation, test: each may be None; all are, where a finished classifier is only exported.
        features: what of a row goes into the model.
        warnings: sentences that the user should read.
        notes: what the user may want to know.
        summary: numbers for the report.
        fingerprint: changes when any text, target or split changes, and any column that decides splits or weights.
        learned: the training rows and texts that a model has given labels, where there are any; scores, folds and
            baselines are of the training rows alone.
        labelled_fingerprint: the fingerprint without these texts; empty: there are none.
        judged: where rows were taken from the training rows as their labels are doubted: all of them, to be scored.
        asked: rows that the fractions ask for, of the splits that were split off.
        first_notes: those that do not depend on which training rows are left.
    """

    task: Task
    train: Split | None
    validation: Split | None
    test: Split | None
    features: Features
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    summary: dict = field(default_factory=dict)
    fingerprint: str = ""
    learned: Split | None = None
    labelled_fingerprint: str = ""
    judged: Judged | None = None
    asked: dict[str, float] = field(default_factory=dict)
    first_notes: list[str] = field(default_factory=list)

    @property
    def to_learn(self) -> Split | None:
        """The rows that a model learns from."""
        return self.train if self.learned is None else self.learned

    @property
    def splits(self) -> list[Split]:
        """Those that there are."""
        return [split for split in (self.train, self.validation, self.test) if split is not None]


def load(
    data: DataConfig,
    cache: Path,
    begun: bool = False,
    learning: bool = True,
    evaluation: EvaluationConfig | None = None,
    redaction: Redaction = NOTHING,
) -> DataSplits:
    """Read, check and split the data that a config names.

    Args:
        data: the data section.
        cache: folder for the converted rows; what is there already is used again, also where its source is gone.
        begun: whether a model has learned from the rows in `cache` already: others are refused.
        learning: whether a model will learn from the rows; else the data section alone describes the task.
        evaluation: its group_columns are read too; None: there are none.
        redaction: what is replaced in texts before they are stored.

    Raises:
        UserError: naming file, row and reason.
    """
    if data.keep_redacted_only and not redaction:
        raise ValueError("data.keep_redacted_only, and nothing says what is redacted")
    stores, gone = {}, []
    for name in ("train", "validation", "test"):
        source = getattr(data, name)
        if source:
            wanted = wanted_columns(data, evaluation, name)
            sizes = stores["train"].meta.sizes if "train" in stores else {}
            stores[name], recalled = convert_or_recall(source, data, cache, name, begun, wanted, redaction, sizes)
            gone += [f"data.{name} ({', '.join(stores[name].meta.sources)})"] if recalled else []
    kind = tasks.kind_of(data)
    task = kind.of(data, stores["train"]) if learning else kind.stand_in(data)
    known = "data.labels" if data.labels else "the training rows"
    splits = {
        name: Split(name, store, np.arange(store.meta.rows), task.targets(store, known))
        for name, store in stores.items()
    }
    rows, asked = len(splits["train"]) if "train" in splits else 0, {}
    for name in ("test", "validation"):
        fraction = getattr(data, f"{name}_fraction")
        if name not in splits and fraction and rows:
            # Both are shares of the whole, also of what the first has left.
            asked[name] = fraction * rows
            share = asked[name] / len(splits["train"])
            split_off = splitter(splits["train"])
            splits["train"], splits[name] = split_off(splits["train"], name, share, data.split_seed)
    notes = []
    if learning:
        splits["train"], notes = without_weightless(replace(splits["train"], temperature=data.language_temperature))
        task = task.fitted(splits["train"].targets())
    if gone:
        notes.append(f"{' and '.join(gone)} cannot be found: the rows that this run has stored are used.")
    train, validation, test = (splits.get(name) for name in ("train", "validation", "test"))
    features = features_of(data, train)
    return described(DataSplits(task, train, validation, test, features, asked=asked, first_notes=notes))


def described(splits: DataSplits) -> DataSplits:
    """The rows with notes, warnings, summary and fingerprint that are about them, in place of earlier ones."""
    found = replace(splits, notes=[*splits.first_notes], warnings=[], summary={})
    if found.train is not None:
        found.notes += language_note(found.train)
    _describe(found)
    if found.splits:
        _warn_of_labels(found)
    return found


def features_of(data: DataConfig, train: Split | None) -> Features:
    """What goes into the model, with what the training rows say of the columns beside the text; features.choice decides
    on their fusion."""
    wanted = wanted_features(data)
    if not wanted:
        return Features(tuple(data.text_columns))
    assert train is not None, "check_fusion has seen to it"
    columns = [one.kind.fitted(one.column, found.tolist()) for one, found in zip(wanted, train.beside(), strict=True)]
    return Features(tuple(data.text_columns), tuple(columns))


def _describe(splits: DataSplits) -> None:
    train = splits.train
    known = None if train is None else np.unique(train.hashes())
    fingerprints = []
    splits.warnings += apart_warnings(splits.splits) if train else []
    for split in splits.splits:
        numbers = {"rows": len(split), **splits.task.data_summary(split.targets()), **column_numbers(split)}
        if split is not train:
            splits.notes += splits.task.unseen_notes(split.targets(), split.name)
        sample = split.texts(np.linspace(0, len(split) - 1, min(len(split), 10_000)).astype(np.int64))
        lengths = sum(np.array([len(text.decode()) for text in column]) for column in sample)
        quantiles = (0.0, 0.5, 0.9, 0.99, 1.0)
        numbers["characters"] = {f"{q:.0%}": int(np.quantile(lengths, q)) for q in quantiles}
        numbers["sources"] = split.store.meta.sources
        if split.store.meta.skipped:
            numbers["skipped"] = split.store.meta.skipped
        if split.store.meta.notices:
            numbers["notices"] = dict(split.store.meta.notices)
        # A split that was taken off the training rows shares their store.
        if train is not None and split is not train and split.store is train.store:
            numbers["split_off"] = "a share of the train source"
        else:
            splits.warnings += _skipped_warning(split)
            if split.store.meta.notices:
                splits.warnings += [f"{split.name} source: {line}" for line in split.store.meta.notices.sentences()]
        hashes = split.hashes()
        numbers["repeated_texts"] = len(split) - len(np.unique(hashes))
        if known is not None and split is not train:
            seen = int(np.isin(hashes, known).sum())
            numbers["also_in_train"] = seen
            if seen:
                splits.warnings.append(
                    f"{seen} of {len(split)} {split.name} rows ({seen / len(split):.1%}) are also in train: "
                    f"the {split.name} score may be too good by as much."
                )
        splits.summary[split.name] = numbers
        digests = column_digests(split)
        fingerprints.append(":".join([split.name, split.store.meta.fingerprint, str(len(split)), *digests]))
    splits.warnings += splits.task.data_warnings()
    splits.fingerprint = " ".join(fingerprints)


def _skipped_warning(split: Split) -> list[str]:
    """How many rows of a split's source were left out, and why."""
    skipped = split.store.meta.skipped
    if not skipped:
        return []
    total = sum(skipped.values())
    reasons = ", ".join(f"{count} {_of_many(reason, count)}" for reason, count in skipped.items())
    return [f"skipped {'1 row' if total == 1 else f'{total} rows'} of the {split.name} source: {reasons}."]


def _of_many(reason: str, count: int) -> str:
    """What is said of one row ("has no text"), said of several."""
    verb, _, rest = reason.partition(" ")
    return reason if count == 1 else f"{PLURALS.get(verb, verb)} {rest}"


def _warn_of_labels(splits: DataSplits) -> None:
    """Look-alike labels, equal texts under several labels, and splits of another size than asked for."""
    task = splits.task
    grouped = [task.groups(split.targets()) for split in splits.splits]
    names = grouped[0].names
    rows = np.sum([np.bincount(groups.members, minlength=len(names)) for groups in grouped], axis=0)
    if alike := look_alike_labels(names, rows):
        splits.warnings.append(look_alike_warning(alike, names, rows))
        splits.summary["labels_that_look_alike"] = sum(map(len, alike))
    for split in {id(split.store): split for split in splits.splits[::-1]}.values():
        # The whole source: equal texts stay together when rows are split off.
        source = replace(split, rows=np.arange(split.store.meta.rows))
        groups = task.groups(source.targets())
        keys = label_set_keys(groups.counts, groups.members)
        texts, conflicting, example = conflicting_rows(source.hashes(), keys)
        if example:
            splits.summary[split.name]["texts_under_several_labels"] = texts
            said = [(source.store.where(row), _answer(task, source, row)) for row in example]
            splits.warnings.append(conflict_warning(split.name, texts, int(conflicting.sum()), len(source), said))
    for split in splits.splits:
        if splits.train is not None and split.name in splits.asked:
            hashes = splits.train.store.hashes
            different = len(np.unique(hashes))
            reason = apart_reason(split)
            splits.warnings += size_warnings(
                split.name, splits.asked[split.name], len(split), len(hashes), different, reason
            )


def _answer(task: Task, split: Split, row: int) -> str:
    groups = task.groups(split.targets(np.array([row])))
    return " and ".join(repr(groups.names[i]) for i in groups.members) or "no label"
