"""What a model was asked and answered when all was well: assets.extra/reference.json beside it, or any file.

It holds counts in bins (see sketch.py), names of labels and of scripts, hashes of the whole words of the model's
vocabulary, and how often answers of each score were right. No text is in it, nor anything of a single row.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.monitor.characters import SCRIPT_NAMES, Words
from export.monitor.columns import WatchedColumn
from export.monitor.sketch import Sketch
from export.versions import ModelError, find_version
from pipeline.files import write_text
from pipeline.redaction.kinds import NOTHING, Redaction

FILE = Path("assets.extra") / "reference.json"
# Raise it when what is written here is read otherwise.
VERSION = 1
# Fewer rows tell next to nothing.
FEWEST_ROWS = 50


@dataclass(frozen=True)
class Accuracy:
    """How often the answers of the reference's rows were right.

    Attributes:
        rows: whose right answer is known.
        share: of them that were right.
        by_score: the share in each bin of the sketch of `score`, by isotonic regression.
        rows_by_score: how many rows are in each.
    """

    rows: int
    share: float
    by_score: tuple[float, ...]
    rows_by_score: tuple[int, ...]


@dataclass(frozen=True)
class Reference:
    """What is compared with.

    Attributes:
        made_from: a sentence's part on which rows it is of.
        rows: how many.
        inputs: names of the model's inputs that are texts.
        text_columns: names of the same in files of rows.
        labels: names of classes that answers have; of the sketches the one called `label` is of them.
        outputs: names of what else is watched of answers, one number a row.
        sketches: of all features.
        words: of the vocabulary; None: not known.
        accuracy: None: not known.
        columns: beside the texts that are watched.
        redaction: of the texts, whose rows may have been stored so; logs hold what was sent.
    """

    made_from: str
    rows: int
    inputs: tuple[str, ...]
    text_columns: tuple[str, ...]
    labels: tuple[str, ...]
    outputs: tuple[str, ...]
    sketches: tuple[Sketch, ...]
    words: Words | None = None
    accuracy: Accuracy | None = None
    columns: tuple[WatchedColumn, ...] = ()
    redaction: Redaction = NOTHING

    def save(self, path: Path) -> None:
        """Write it beside, then rename."""
        words = None if self.words is None else {
            "lowercase": self.words.lowercase,
            "hashes": base64.b64encode(self.words.hashes.astype("<u4").tobytes()).decode(),
        }  # fmt: skip
        content = {
            "version": VERSION,
            **{
                name: getattr(self, name)
                for name in ("made_from", "rows", "inputs", "text_columns", "labels", "outputs")
            },
            "accuracy": self.accuracy and asdict(self.accuracy),
            "sketches": [sketch.metadata() for sketch in self.sketches],
            "words": words,
            **({"columns": list(map(asdict, self.columns))} if self.columns else {}),
            **({"redaction": self.redaction.metadata()} if self.redaction else {}),
        }
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False))

    @classmethod
    def load(cls, path: str | Path) -> "Reference":
        """From its file, or from that of a run, a directory of versions or a version.

        Raises:
            ModelError: there is none, or it cannot be read.
        """
        path = Path(path)
        if path.is_dir():
            folder = find_version(path)
            path = folder / FILE
            if not path.is_file():
                raise ModelError(f"{folder} has no {FILE}: make it with python -m export.monitor build.")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.get("version") != VERSION:
                raise ValueError(f"it is of version {content.get('version')}, and {VERSION} is read here")
            return cls._of(content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(f"{path} is no reference of export.monitor: {error}.") from error

    @classmethod
    def _of(cls, content: dict[str, Any]) -> "Reference":
        lists = {name: tuple(content[name]) for name in ("inputs", "text_columns", "labels", "outputs")}
        words, accuracy = content["words"], content["accuracy"]
        if words is not None:
            hashes = np.frombuffer(base64.b64decode(words["hashes"]), "<u4").astype(np.uint32)
            words = Words(hashes, words["lowercase"])
        if accuracy is not None:
            by_bin = {name: tuple(accuracy[name]) for name in ("by_score", "rows_by_score")}
            accuracy = Accuracy(accuracy["rows"], accuracy["share"], **by_bin)
        sketches = tuple(map(Sketch.read, content["sketches"]))
        columns = tuple(WatchedColumn(**column) for column in content.get("columns", ()))
        return cls(
            content["made_from"], content["rows"], **lists, sketches=sketches, words=words, accuracy=accuracy,
            columns=columns, redaction=Redaction.from_metadata(content.get("redaction", {})),
        )  # fmt: skip


def make_reference(features: Mapping[str, np.ndarray], names: Mapping[str, Sequence[str]], **about: Any) -> Reference:
    """A reference of rows.

    Args:
        features: [n] each, as `features.features_of` gives them.
        names: of the bins of features that are names.
        about: the rest of what a Reference has.
    """
    sketches = []
    for name, values in features.items():
        known = names.get(name)
        found = Sketch.of_numbers(name, values) if known is None else Sketch.of_names(name, values, known)
        sketches.append(found)
    return Reference(rows=len(next(iter(features.values()))), sketches=tuple(sketches), **about)


def names_of_features(
    inputs: Sequence[str], labels: Sequence[str], columns: Mapping[WatchedColumn, Sequence[str]]
) -> dict[str, Sequence[str]]:
    """The features that are names, with these names."""
    scripts = {feature_name(text, "script", inputs): SCRIPT_NAMES for text in inputs}
    return scripts | {"label": labels} | {column.feature: names for column, names in columns.items() if names}


def feature_name(text: str, feature: str, inputs: Sequence[str]) -> str:
    """What a feature of a text is called; of one among several with the name of the text."""
    return feature if len(inputs) == 1 else f"{text}: {feature}"
