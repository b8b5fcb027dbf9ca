"""References made: of the held-out rows of a run, as its exported model answers them, or of what logs hold."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.monitor.accuracy import Accuracy, measure
from export.monitor.characters import Words
from export.monitor.columns import WatchedColumn, watched_columns
from export.monitor.features import Features, Rows
from export.monitor.redacting import redacting
from export.monitor.reference import FEWEST_ROWS, Reference, make_reference, names_of_features
from export.versions import find_version, read_metadata
from pipeline.errors import UserError
from pipeline.features import Features as ModelFeatures
from pipeline.features.columns import Number
from pipeline.redaction.kinds import Redaction

# Answers that are watched in logs, where they are numbers.
NUMBERS = ("score", "fit", "value", "low", "high")
# Names of labels that no class has, as of several labels together, which have a bin of their own.
MOST_LABELS = 100
# Of a log; their features, not their texts, are held at once.
MOST_LOGGED = 1_000_000


@dataclass(frozen=True)
class _HeldOut:
    """Rows of a run with what its exported model answers.

    Attributes:
        rows: texts and answers.
        classes: names of classes.
        outputs: names of the numbers of an answer.
        columns: beside the texts, with the names of their bins.
        right: float [n], whether an answer was; None: the task does not say it of a row.
    """

    rows: Rows
    classes: tuple[str, ...]
    outputs: tuple[str, ...]
    columns: dict[WatchedColumn, tuple[str, ...]]
    right: np.ndarray | None


def of_run(run: Path, most: int) -> Reference:
    """Of the validation and test rows of a run.

    Args:
        run: its folder, with the rows that it has stored.
        most: rows that are asked, evenly spread.

    Raises:
        UserError, ModelError: it is no finished run, it is private, or it has too few held-out rows.
    """
    folder = find_version(run)
    metadata = read_metadata(folder)
    refuse_private(run, metadata)
    data = _data(run)
    held = [split for split in (data.validation, data.test) if split is not None]
    total = sum(map(len, held))
    if total < FEWEST_ROWS:
        raise UserError(
            f"{run} has {total} validation and test rows, and a reference takes {FEWEST_ROWS} at least: "
            "make one of answered requests with --from LOG."
        )
    found = _asked(folder, held, most)
    names = {split.name: len(split) for split in held}
    shown = " and ".join(f"{count} {name}" for name, count in names.items())
    inputs, text_columns = texts_of(folder)
    return _made(
        found, _words(run),
        made_from=f"{len(found.rows)} of {shown} rows of {run.resolve().name}, as version {folder.name} answers them",
        inputs=inputs, text_columns=text_columns, redaction=Redaction.from_metadata(metadata.get("redaction", {})),
    )  # fmt: skip


def of_logs(parts: Iterable[Rows], model: Path | None, inputs: Sequence[str], text_columns: Sequence[str]) -> Reference:
    """Of the rows of logs; nothing is known of accuracy.

    Args:
        parts: of the logs.
        model: a run, whose vocabulary, columns and redaction are known then; None: there is none.
        inputs, text_columns: see Reference.

    Raises:
        UserError: there are too few rows.
    """
    words = _words(model) if model is not None and (model / "config.yaml").is_file() else None
    gathered, labels, count = [], Counter(), 0
    features, columns = None, {}
    coded: list[np.ndarray] = []
    known: dict[str, int] = {}
    outputs: dict[str, None] = {}
    redaction = redaction_of(model)
    for rows in map(redacting(redaction), parts):
        if features is None:
            columns = columns_of(features_of(model), rows)
            features = Features(inputs, (), NUMBERS, words, columns)
        gathered.append(features(rows))
        if "label" in rows.outputs:
            given = list(map(str, rows.outputs["label"]))
            labels.update(given)
            codes = (known.setdefault(label, len(known)) for label in given)
            coded.append(np.fromiter(codes, np.int64, len(rows)))
        outputs |= dict.fromkeys(name for name in NUMBERS if name in rows.outputs)
        count += len(rows)
        if count >= MOST_LOGGED:
            break
    if count < FEWEST_ROWS:
        raise UserError(f"the logs hold {count} rows with answers, and a reference takes {FEWEST_ROWS} at least.")
    names = tuple(label for label, _ in labels.most_common(MOST_LABELS))
    found = {name: np.concatenate([one[name] for one in gathered if name in one]) for name in gathered[0]}
    if coded:
        of_code = np.array([names.index(label) if label in names else -1 for label in known])
        found["label"] = of_code[np.concatenate(coded)]
    return make_reference(
        found, names_of_features(inputs, names, columns), made_from=f"{count} rows of logs", inputs=tuple(inputs),
        text_columns=tuple(text_columns), labels=names, outputs=tuple(outputs), words=words,
        columns=tuple(columns), redaction=redaction,
    )  # fmt: skip


def refuse_private(run: Path, metadata: Mapping[str, Any]) -> None:
    """A reference tells what held-out rows are like, which a private run does not release (pipeline.privacy.releases).

    Raises:
        UserError: the run is private.
    """
    if "privacy" in metadata or (run / "privacy.json").is_file():
        raise UserError(
            f"{run} is private (training.privacy): a reference would tell what its held-out rows are like; make one of "
            "answered requests with --from LOG."
        )


def _data(run: Path) -> Any:
    """The rows of a run, from its stores where their sources are gone."""
    from pipeline.rows_of_run import config_of, rows_of

    config = config_of(run, ": give --from LOG beside a model")
    if config.training.privacy.on:
        refuse_private(run, {"privacy": True})
    return rows_of(config)


def _asked(folder: Path, held: Sequence[Any], most: int) -> _HeldOut:
    """Ask the exported model about rows, as clients would."""
    from export.loading import Classifier

    model = Classifier(folder)
    total = sum(map(len, held))
    cells, values = [], []
    for split in held:
        chosen = np.unique(np.linspace(0, len(split) - 1, min(len(split), -(-most * len(split) // total))).astype(int))
        cells.append(split.cells(chosen))
        values.append(split.targets(chosen))
    columns = [[cell.decode() for part in parts for cell in part] for parts in zip(*cells, strict=True)]
    outputs = model(*columns).outputs
    numbers = tuple(name for name, found in outputs.items() if found.ndim == 1 and found.dtype.kind == "f")
    predictions = model.task.predictions_of("serving_default", outputs)
    right = None
    if predictions is not None and "score" in numbers:
        scores = model.task.row_scores(np.concatenate(values), np.asarray(predictions, np.float32))
        right = scores.values if scores.share else None
    texts = columns[: len(model.features.text_columns)]
    kept = {name: outputs[name] for name in (*numbers, "label") if name in outputs}
    cells = {one.name: found for one, found in zip(model.features.columns, columns[len(texts) :], strict=True)}
    rows, names = Rows(texts, kept, None, "row 1", cells), tuple(getattr(model.task, "names", ()))
    return _HeldOut(rows, names, numbers, columns_of(model.features, rows), right)


def columns_of(features: ModelFeatures, rows: Rows) -> dict[WatchedColumn, tuple[str, ...]]:
    """The columns of a model that rows have, with the names of their bins; of numbers none."""
    found = {}
    for watched, column in watched_columns(features):
        if watched.column in rows.columns:
            cells = watched.read(rows.columns[watched.column])
            known = getattr(column, "names", ())
            found[watched] = () if watched.kind == Number.kind else watched.names(cells, known)
    return found


def _made(found: _HeldOut, words: Words | None, **about: Any) -> Reference:
    """A reference of rows whose classes are known."""
    rows, right, outputs, classes = found.rows, found.right, found.outputs, found.classes
    labels: tuple[str, ...] = ()
    if "label" in rows.outputs:
        others = Counter(label for label in rows.outputs["label"] if label not in set(classes))
        labels = (*classes, *(label for label, _ in others.most_common(MOST_LABELS)))
    rows = redacting(about["redaction"])(rows)
    features = Features(about["inputs"], labels, outputs, words, found.columns)(rows)
    names = names_of_features(about["inputs"], labels, found.columns)
    about |= {"labels": labels, "outputs": outputs, "words": words, "columns": tuple(found.columns)}
    reference = make_reference(features, names, **about)
    if right is None:
        return reference
    sketch = next(sketch for sketch in reference.sketches if sketch.name == "score")
    accuracy: Accuracy = measure(right, features["score"], sketch)
    return replace(reference, accuracy=accuracy)


def _words(run: Path) -> Words | None:
    """The vocabulary of a run's checkpoint; None, with a line that says so, where it is gone."""
    from pipeline.training.finished_run import load_run_backbone, read_settings

    try:
        settings = read_settings(run)
        loaded = load_run_backbone(settings, None, "float32")
    except (UserError, OSError) as error:
        print(f"note: whole words are not watched, for the vocabulary is gone: {error}")
        return None
    lowercase = loaded.lowercase if settings.text.lowercase is None else settings.text.lowercase
    return Words.of(loaded.vocabulary, bool(lowercase))


def features_of(model: Path | None) -> ModelFeatures:
    """What a model reads; without one a text."""
    return ModelFeatures() if model is None else ModelFeatures.from_metadata(read_metadata(find_version(model)))


def redaction_of(model: Path | None) -> Redaction:
    """What a model redacts of its texts before it reads them; without a model nothing."""
    metadata = {} if model is None else read_metadata(find_version(model))
    return Redaction.from_metadata(metadata.get("redaction", {}))


def texts_of(model: Path | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The inputs of a model that are texts, and their columns in files of rows; without a model one text.

    Raises:
        ModelError: there is no model there.
    """
    if model is None:
        return ("text",), ("text",)
    metadata = read_metadata(find_version(model))
    # A model's own names of columns are those that it was trained on; behind the texts are the columns beside them.
    count = min(len(metadata.get("text_columns", metadata["inputs"])), len(metadata["inputs"]))
    inputs, trained = tuple(metadata["inputs"][:count]), metadata.get("read", {}).get("text_columns") or ()
    return inputs, tuple(trained) if len(trained) == count else inputs
