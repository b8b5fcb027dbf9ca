"""A SavedModel as a function from strings to answers. Imports only tensorflow and tensorflow_text."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the tokenizer's ops)

from pipeline.files import is_pattern

METADATA = Path("assets.extra") / "metadata.json"


class ModelError(ValueError):
    """A model folder or a request that cannot be used; the message says why."""


class Answers(NamedTuple):
    """Answers to n texts."""

    labels: list[str]
    scores: np.ndarray
    """float32 [n], the highest probability of each."""
    probabilities: np.ndarray
    """float32 [n, C]."""


class Explanation(NamedTuple):
    """What the pieces of one text add to the log-odds of its label."""

    label: str
    """The most probable one."""
    score: float
    pieces: list[str]
    attributions: list[float]
    spans: list[tuple[int, int, int]]
    """For each piece: of which text (0, or 1 in a pair), and its first byte and the one behind its last there."""
    completeness_gap: float
    """Share by which the attributions miss what they should add up to."""


class Predictor:
    """An exported classifier.

    Where a process only predicts, the environment variable TF_ONEDNN_ASSUME_FROZEN_WEIGHTS=1, set before TensorFlow
    starts, lets oneDNN keep the weights in its own layout, which is much faster on CPUs. Where it also trains, the
    variable would make TensorFlow use outdated weights: leave it unset.

    Example:
        predictor = Predictor("runs/quickstart")
        answers = predictor(["some text", "another"])
        answers.labels, answers.scores, answers.probabilities

    Args:
        path: a run directory, a directory of versions, or one version.

    Attributes:
        version: the folder that was loaded.
        label_names: the labels in the order of `probabilities`.
        inputs: ["text"] or ["text_a", "text_b"].
        metadata: what the export wrote about itself.

    Raises:
        ModelError: there is no model, or it cannot be loaded.
    """

    def __init__(self, path: str | Path):
        self.version = find_version(path)
        if is_pattern(self.version):
            raise ModelError(f"{self.version}: TensorFlow reads no model from a path with [ or \\ in it; rename it.")
        try:
            # The loaded object owns the variables: it must live as long as its signature is used.
            self._model = tf.saved_model.load(str(self.version))
            self._serve = self._model.signatures["serving_default"]
            self.metadata = read_metadata(self.version)
            self.label_names, self.inputs = self.metadata["label_names"], self.metadata["inputs"]
        except Exception as error:  # TensorFlow raises whatever its file systems and parsers raise
            reason = (str(error).splitlines() or [""])[0][:200]
            raise ModelError(f"{self.version} is no classifier of this project's export: {reason}") from error

    def __call__(self, *texts: Sequence[str | bytes], batch_size: int = 32) -> Answers:
        """Answer any number of texts, in their order.

        Args:
            texts: one list of strings, or two of the same length for a model of pairs.
            batch_size: texts a forward pass; texts of like length share one, to save padding.

        Raises:
            ModelError: not as many lists as the model has inputs, or lists of different lengths.
        """
        rows = self._rows(texts)
        order = sorted(range(len(rows)), key=lambda i: sum(map(len, rows[i])))
        labels = [""] * len(rows)
        scores = np.zeros(len(rows), np.float32)
        probabilities = np.zeros((len(rows), len(self.label_names)), np.float32)
        for start in range(0, len(rows), batch_size):
            chosen = order[start : start + batch_size]
            answer = self._ask(self._serve, [rows[i] for i in chosen])
            for i, label in zip(chosen, answer["label"].numpy().tolist(), strict=True):
                labels[i] = label.decode()
            scores[chosen] = answer["score"].numpy()
            probabilities[chosen] = answer["probabilities"].numpy()
        return Answers(labels, scores, probabilities)

    def explain(self, *texts: Sequence[str | bytes], batch_size: int = 8) -> list[Explanation]:
        """Say which pieces of texts speak for their labels. It takes hundreds of times as long as to answer.

        Args:
            texts, batch_size: as for answers.

        Raises:
            ModelError: as for answers; or the model was exported without the signature explain.
        """
        if "explain" not in self._model.signatures:
            raise ModelError(f"{self.version} cannot explain: export it with explain among export.signatures.")
        rows, found = self._rows(texts), []
        for start in range(0, len(rows), batch_size):
            answer = self._ask(self._model.signatures["explain"], rows[start : start + batch_size])
            answer.setdefault("segment_ids", tf.zeros_like(answer["begin"]))
            found += [_explanation(row) for row in _by_row(answer)]
        return found

    def _rows(self, texts: Sequence[Sequence[str | bytes]]) -> list[tuple[bytes, ...]]:
        if len(texts) != len(self.inputs):
            raise ModelError(f"{self.version} takes {' and '.join(self.inputs)}, not {len(texts)} lists of texts.")
        if len({len(column) for column in texts}) != 1:
            raise ModelError(f"the lists of texts differ in length: {', '.join(str(len(column)) for column in texts)}.")
        return [
            tuple(t if isinstance(t, bytes) else t.encode("utf-8", "replace") for t in row)
            for row in zip(*texts, strict=True)
        ]

    def _ask(self, signature, rows: list[tuple[bytes, ...]]) -> dict[str, tf.Tensor]:
        columns = zip(self.inputs, zip(*rows, strict=True), strict=True)
        return signature(**{name: tf.constant(column) for name, column in columns})


def _by_row(answer: dict[str, tf.Tensor]) -> Iterator[dict]:
    columns = {name: values.numpy().tolist() for name, values in answer.items()}
    for row in zip(*columns.values(), strict=True):
        yield dict(zip(columns, row, strict=True))


def _explanation(row: dict) -> Explanation:
    # Special tokens and padding have no bytes.
    kept = [i for i, (begin, end) in enumerate(zip(row["begin"], row["end"], strict=True)) if end > begin]
    return Explanation(
        row["label"].decode(),
        row["score"],
        [row["pieces"][i].decode() for i in kept],
        [row["attributions"][i] for i in kept],
        [(row["segment_ids"][i], row["begin"][i], row["end"][i]) for i in kept],
        row["completeness_gap"],
    )


def read_metadata(folder: Path) -> dict:
    """What the export wrote about itself.

    Raises:
        ModelError: it is not there, or cannot be read.
    """
    try:
        return json.loads((folder / METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{METADATA} cannot be read: {error}") from error


def find_version(path: str | Path) -> Path:
    """The SavedModel folder that a path means: itself, its newest version, or the newest of a run directory.

    Raises:
        ModelError: there is none.
    """
    path = Path(path)
    if (path / "saved_model.pb").is_file():
        return path
    for folder in (path / "saved_model", path):
        versions = [
            child for child in folder.glob("*") if child.name.isdigit() and (child / "saved_model.pb").is_file()
        ]
        if versions:
            return max(versions, key=lambda child: int(child.name))
    if not path.exists():
        raise ModelError(f"{path}: no such folder.")
    raise ModelError(f"{path} holds no exported model: give a run directory, a directory of versions, or one version.")
