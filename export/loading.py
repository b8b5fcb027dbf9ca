"""A SavedModel as a function from strings to answers. Imports only tensorflow and tensorflow_text."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, overload

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the tokenizer's ops)

from export.answers import Answer, Answers
from export.at_once import Asked, threads_for_calls
from export.cells import fed
from export.versions import ModelError, find_version, read_metadata
from pipeline import tasks
from pipeline.features import Features
from pipeline.files import is_pattern

if TYPE_CHECKING:
    import pandas as pd

Text: TypeAlias = str | bytes
Row: TypeAlias = Text | Sequence[Any] | Mapping[str, Any]
"""One text, two texts for a model of pairs, a text with the cells of the columns beside it, or a mapping that has these
under the model's columns."""


class Explanation(NamedTuple):
    """What the tokens of one text add to the log-odds of its label, or to its value."""

    answer: dict[str, Any]
    """What is explained: "label" (of several the most probable) and "score"; of a number "value"."""
    pieces: list[str]
    attributions: list[float]
    spans: list[tuple[int, int, int]]
    """For each piece: of which text (0, or 1 in a pair), and its first byte and the one behind its last there."""
    completeness_gap: float
    """Share by which the attributions miss what they should add up to."""
    columns: Mapping[str, float] = MappingProxyType({})
    """What each column beside the text adds as numbers; what is read as words is among the pieces."""
    read: str | None = None
    """What was tokenized, which the spans are of, where that is not a text as it was sent."""

    @property
    def label(self) -> str:
        """The label that is explained."""
        return self.answer["label"]


class Classifier:
    """An exported model that answers texts; `export.load` makes it.

    Where a process only predicts, the environment variable TF_ONEDNN_ASSUME_FROZEN_WEIGHTS=1, set before TensorFlow
    starts, lets oneDNN keep the weights in its own layout, which is much faster on CPUs. Where it also trains, leave it
    unset: see pipeline.frozen_weights.

    Example:
        classifier = Classifier("runs/quickstart")
        classifier("some text")["label"]                    one text: an Answer
        classifier(["some text", "another"]).labels         several: Answers
        classifier(frame, columns=["review"]).to_frame()    a DataFrame: Answers with its index
        for answer in classifier(line for line in file):    a generator: an Answer at a time, in bounded memory
            print(answer["label"], answer["score"])
        classifier(["a question"], ["a passage"])           a model of pairs: two lists, or two texts

    Args:
        path: a run directory, a directory of versions, or one version.

    Attributes:
        version: the folder that was loaded.
        task: what it predicts (see pipeline.tasks); of labels `task.names`, in the order of `probabilities`.
        inputs: ["text"] or ["text_a", "text_b"], or the names of more texts and of the columns beside them.
        features: what they are.
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
            self.task, self.inputs = tasks.from_metadata(self.metadata), self.metadata["inputs"]
            self.features = Features.from_metadata(self.metadata)
            self._beside = self.features.wanted("the column")
            # First what is one string or number a text, in the order of a table's columns.
            self._order = [*self.task.answer_names, *self._serve.structured_outputs]
        except Exception as error:  # TensorFlow raises whatever its file systems and parsers raise
            reason = (str(error).splitlines() or [""])[0][:200]
            raise ModelError(f"{self.version} is no classifier of this project's export: {reason}") from error

    @overload
    def __call__(self, *texts: Text, batch_size: int = 32) -> Answer: ...
    @overload
    def __call__(
        self, rows: Iterator[Row], /, *, batch_size: int = 32, columns: Sequence[str] | None = None
    ) -> Iterator[Answer]: ...
    @overload
    def __call__(
        self, frame: "pd.DataFrame", /, *, batch_size: int = 32, columns: Sequence[str] | None = None
    ) -> Answers: ...
    @overload
    def __call__(self, *texts: "Sequence[Text] | pd.Series | np.ndarray", batch_size: int = 32) -> Answers: ...
    def __call__(
        self, *texts: Any, batch_size: int = 32, columns: Sequence[str] | None = None
    ) -> Answer | Answers | Iterator[Answer]:
        """Answer any number of texts, in their order.

        Args:
            texts: a text, a list of them, a DataFrame, or an iterator over rows (see `stream`). For a model of pairs:
                two texts, or two lists of the same length.
            batch_size: texts a forward pass; texts of like length share one, to save padding.
            columns: of a DataFrame or of mappings, one for each input; None: those that it was trained on, where the
                export knows them, else the names of the inputs.

        Raises:
            ModelError: not as many texts, lists or columns as the model has inputs, lists of different lengths, or
                something that is no text; the message names the row.
        """
        if _single(texts):
            return self._answers([self._row(texts, "the text")], batch_size)[0]
        if len(texts) == 1 and isinstance(texts[0], Iterator):
            return self.stream(texts[0], batch_size=batch_size, columns=columns)
        # A list has an index too, which is a method.
        index = texts[0].index if texts and hasattr(texts[0], "iloc") else None
        return self._answers(self._rows(texts, columns), batch_size, index)

    def stream(
        self,
        rows: Iterable[Row],
        *,
        batch_size: int = 32,
        columns: Sequence[str] | None = None,
        window: int = 1024,
    ) -> Iterator[Answer]:
        """Answers one by one, in the order of the rows, of which never more than `window` are held.

        Args:
            rows: texts; tuples of two for a model of pairs; or mappings with a text for each of `columns`.
            batch_size: texts a forward pass.
            columns: of mappings, one for each input; None: those that it was trained on, where the
                export knows them, else the names of the inputs.
            window: rows taken at a time; those of like length share a forward pass.

        Raises:
            ModelError: as for answers, when the row's turn comes.
        """
        names, numbered = self._columns(columns), enumerate(iter(rows), 1)
        while taken := list(itertools.islice(numbered, window)):
            found = []
            for number, given in taken:
                row: Any = given
                if isinstance(row, Mapping):
                    missing = [name for name in names if name not in row]
                    if missing:
                        raise ModelError(
                            f"row {number}: no {missing[0]!r} but {', '.join(map(str, row)) or 'nothing'}."
                        )
                    row = [row[name] for name in names]
                found.append(self._row([row] if isinstance(row, str | bytes) else row, f"row {number}"))
            yield from self._answers(found, batch_size)

    @overload
    def explain(self, *texts: Text, batch_size: int = 8) -> Explanation: ...
    @overload
    def explain(self, *texts: Any, batch_size: int = 8, columns: Sequence[str] | None = None) -> list[Explanation]: ...
    def explain(
        self, *texts: Any, batch_size: int = 8, columns: Sequence[str] | None = None
    ) -> Explanation | list[Explanation]:
        """Say which pieces of texts speak for their labels. It takes about ninety times as long as to answer.

        Args:
            texts, batch_size, columns: as for answers, but no iterator.

        Raises:
            ModelError: as for answers; or the model was exported without the signature explain.
        """
        if "explain" not in self._model.signatures:
            raise ModelError(f"{self.version} cannot explain: export it with explain among export.signatures.")
        rows = [self._row(texts, "the text")] if _single(texts) else self._rows(texts, columns)
        found = []
        for start in range(0, len(rows), batch_size):
            answer = self._ask(self._model.signatures["explain"], rows[start : start + batch_size])
            answer.setdefault("segment_ids", tf.zeros_like(answer["begin"]))
            found += [_explanation(row, self.task.answer_names, self.features) for row in _by_row(answer)]
        return found[0] if _single(texts) else found

    def begin(self, threads: Executor, *texts: Sequence[Text], batch_size: int = 32) -> Asked:
        """Have lists of texts answered by threads, batch by batch, and return at once.

        Args:
            threads: of export.at_once.threads_for_calls.
            texts, batch_size: as for answers, but lists alone.

        Raises:
            ModelError: as for answers.
        """
        answers, calls = self._planned(self._rows(texts), batch_size)
        return Asked(answers, [threads.submit(call) for call in calls])

    def _answers(self, rows: list[tuple[bytes, ...]], batch_size: int, index: Any = None) -> Answers:
        answers, calls = self._planned(rows, batch_size, index)
        if len(calls) < 2:
            for call in calls:
                call()
            return answers
        with threads_for_calls(batch_size) as threads:
            return Asked(answers, [threads.submit(call) for call in calls]).complete()

    def _planned(
        self, rows: list[tuple[bytes, ...]], batch_size: int, index: Any = None
    ) -> tuple[Answers, list[Callable[[], int]]]:
        """Answers to be filled, and calls that each fill some of them and give their number; in any order, at once."""
        order = sorted(range(len(rows)), key=lambda i: sum(map(len, rows[i])))
        specs = [(name, self._serve.structured_outputs[name]) for name in dict.fromkeys(self._order)]
        outputs = {
            name: np.zeros(
                (len(rows), *spec.shape[1:]), object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
            )
            for name, spec in specs
        }

        def fill(chosen: list[int]) -> int:
            for name, values in self._ask(self._serve, [rows[i] for i in chosen]).items():
                values = values.numpy()
                outputs[name][chosen] = (
                    np.vectorize(bytes.decode, [object])(values) if values.dtype == object else values
                )
            return len(chosen)

        starts = range(0, len(rows), batch_size)
        return Answers(outputs, index), [partial(fill, order[start : start + batch_size]) for start in starts]

    def _rows(self, texts: Sequence[Any], columns: Sequence[str] | None = None) -> list[tuple[bytes, ...]]:
        if len(texts) == 1 and hasattr(texts[0], "columns"):
            texts = self._of_frame(texts[0], self._columns(columns))
        if len(texts) != len(self.inputs):
            raise ModelError(f"{self.version} takes {' and '.join(self.inputs)}, not {len(texts)} lists of texts.")
        if len({len(column) for column in texts}) != 1:
            raise ModelError(f"the lists of texts differ in length: {', '.join(str(len(column)) for column in texts)}.")
        return [self._row(row, f"row {number}") for number, row in enumerate(zip(*texts, strict=True), 1)]

    def _of_frame(self, frame: "pd.DataFrame", names: Sequence[str]) -> list:
        for name in names:
            if name not in frame.columns:
                found = ", ".join(map(str, frame.columns)) or "none"
                raise ModelError(f"the DataFrame has no column {name!r} but {found}: name one for each of "
                                 f"{' and '.join(self.inputs)}, as columns=[...].")  # fmt: skip
        return [frame[name] for name in names]

    def _columns(self, columns: Sequence[str] | None) -> Sequence[str]:
        if columns is None:
            return self.features.cells
        if isinstance(columns, str) or len(columns) != len(self.inputs):
            raise ModelError(f"{self.version} takes {' and '.join(self.inputs)}: give a list of as many columns.")
        return columns

    def _row(self, row: Sequence[Text], place: str) -> tuple[bytes, ...]:
        if len(row) != len(self.inputs):
            raise ModelError(f"{place}: {self.version} takes {' and '.join(self.inputs)}, not {len(row)} texts.")
        count = len(self.features.text_columns)
        for text in row[:count]:
            if not isinstance(text, str | bytes):
                raise ModelError(f"{place}: {text!r:.50} is no text but {type(text).__name__}.")
        texts = [text if isinstance(text, bytes) else text.encode("utf-8", "replace") for text in row[:count]]
        try:
            return *texts, *(one.read(cell) for one, cell in zip(self._beside, row[count:], strict=True))
        except ValueError as error:
            raise ModelError(f"{place} {error}.") from None

    def _ask(self, signature, rows: list[tuple[bytes, ...]]) -> dict[str, tf.Tensor]:
        columns = dict(zip(self.inputs, zip(*rows, strict=True), strict=True))
        cells = fed(columns, signature.structured_input_signature[1])
        return signature(**{name: tf.constant(values) for name, values in cells.items()})


def _single(texts: Sequence[Any]) -> bool:
    # What stands beside a text may be a number, or missing.
    return bool(texts) and isinstance(texts[0], str | bytes)


def _by_row(answer: dict[str, tf.Tensor]) -> Iterator[dict]:
    columns = {name: values.numpy().tolist() for name, values in answer.items()}
    for row in zip(*columns.values(), strict=True):
        yield dict(zip(columns, row, strict=True))


def _explanation(row: dict, names: Sequence[str], features: Features) -> Explanation:
    # Special tokens and padding have no bytes.
    kept = [i for i, (begin, end) in enumerate(zip(row["begin"], row["end"], strict=True)) if end > begin]
    # A signature's outputs come in no order of their own.
    answer = {name: row[name] for name in names if name in row}
    return Explanation(
        {name: value.decode() if isinstance(value, bytes) else value for name, value in answer.items()},
        [row["pieces"][i].decode() for i in kept],
        [row["attributions"][i] for i in kept],
        [(row["segment_ids"][i], row["begin"][i], row["end"][i]) for i in kept],
        row["completeness_gap"],
        dict(zip([column.name for column in features.beside], row.get("column_attributions", ()), strict=True)),
        row["read"].decode() if "read" in row else None,
    )
