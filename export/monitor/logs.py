"""Files of what a model was asked and answered, a few thousand rows at a time.

Three kinds are read, told apart by name and beginning:
- requests as export.request_log has them, or as the kit's proxy logs them: lines of JSON;
- rows with their answers, as `export.predict --output` writes them, in any format that training reads;
- TFRecords of TensorFlow Serving's PredictionLogs with requests and responses.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from export.monitor.columns import WatchedColumn
from export.monitor.features import Rows
from export.request_log import Record, read
from pipeline.data.formats import Notices, ReadOptions, format_by_name, open_table
from pipeline.data.formats.file import File
from pipeline.errors import UserError

# Rows taken at a time.
CHUNK = 8192
SIGNATURE = "serving_default"


@dataclass(frozen=True)
class LogFields:
    """Which parts of logs are read.

    Attributes:
        inputs: names of the texts in requests.
        text_columns: names of the same in files of rows.
        outputs: names of the answers that are watched.
        time_column: of files of rows; None: they have none.
        columns: beside the texts.
        served: the model, label or version that requests are taken of, by the name of the field in a Record; none: all.
    """

    inputs: Sequence[str]
    text_columns: Sequence[str]
    outputs: Sequence[str]
    time_column: str | None = None
    columns: Sequence[WatchedColumn] = ()
    served: tuple[tuple[str, Any], ...] = ()


def read_log(path: str, wanted: LogFields, options: ReadOptions, notices: Notices) -> Iterator[Rows]:
    """The rows of a log, in its order.

    Args:
        path: a file, or - for standard input.
        wanted: what is taken.
        options: how files of rows are read.
        notices: where to count what is passed over.

    Raises:
        ValueError: naming file and line, what cannot be read.
    """
    kind = options.format or format_by_name(path)
    if kind == "tfrecord":
        return _rows_of(_prediction_logs(path), path, "record", wanted, notices)
    file = None if kind not in (None, "jsonl") else File(path, options, Notices())
    # A log of a container's output is called anything.
    if file is not None and (kind is None or _is_request_log(file)):
        return _rows_of(_request_lines(file), file.name, "request", wanted, notices)
    return _rows_of_table(path, wanted, options, notices)


def _is_request_log(file: File) -> bool:
    """Whether the first object of a file of JSON lines is a request. One longer than what is looked at is told by its
    keys so far."""
    for line in file.start.decode("utf-8", "replace").splitlines():
        if line.startswith("{"):
            try:
                found = json.loads(line)
                return "request" in found or ("inputs" in found and "outputs" in found)
            except ValueError:
                return re.search(r'"(inputs|request)" ?:', line) is not None
    return False


def _request_lines(file: File) -> Iterator[Record]:
    with file.lines() as lines:
        yield from read(lines, file.name)


def _rows_of(records: Iterable[Record], source: str, unit: str, wanted: LogFields, notices: Notices) -> Iterator[Rows]:
    """The rows of requests, of CHUNK rows or a request more."""
    gathered = _Gathered(wanted)
    for number, record in enumerate(records, 1):
        place = f"{source}, {unit} {number}"
        if record.signature != SIGNATURE:
            notices.add(f"requests of other signatures than {SIGNATURE}, which are passed over", place)
            continue
        if any(getattr(record, field) != value for field, value in wanted.served):
            continue
        gathered.add(record, place)
        if gathered.count >= CHUNK:
            yield gathered.taken()
    if gathered.count:
        yield gathered.taken()


class _Gathered:
    """Rows of requests, until there are enough of them."""

    def __init__(self, wanted: LogFields):
        self._wanted = wanted
        self._begin()

    def _begin(self) -> None:
        self.count, self._place = 0, ""
        self._texts: list[list[str]] = [[] for _ in self._wanted.inputs]
        self._outputs: dict[str, list] = {name: [] for name in self._wanted.outputs}
        self._columns: dict[str, list] = {column.column: [] for column in self._wanted.columns}
        self._times: list[str] = []

    def add(self, record: Record, place: str) -> None:
        """The rows of one request.

        Raises:
            ValueError: it lacks an input, or its lists differ in length.
        """
        inputs, outputs, wanted = record.inputs, record.outputs, self._wanted
        if "" in inputs and len(wanted.inputs) == 1:
            inputs = {wanted.inputs[0]: inputs[""]}
        missing = [name for name in wanted.inputs if name not in inputs]
        if missing:
            raise ValueError(f"{place}: no input {missing[0]!r} but {', '.join(map(repr, inputs)) or 'none'}.")
        rows = len(inputs[wanted.inputs[0]])
        self._place = self._place or place
        for name, texts in zip(wanted.inputs, self._texts, strict=True):
            if len(inputs[name]) != rows or not all(isinstance(text, str) for text in inputs[name]):
                raise ValueError(f"{place}: {name} is no list of {rows} texts.")
            texts.extend(inputs[name])
        given = [(name, outputs.get(name), values) for name, values in self._outputs.items()]
        given += [(one.input, inputs.get(one.input), self._columns[one.column]) for one in wanted.columns]
        for name, found, values in given:
            if found is not None and len(found) != rows:
                raise ValueError(f"{place}: {len(found)} values of {name} for {rows} texts.")
            values.extend(itertools.repeat(None, rows) if found is None else found)
        self._times.extend(itertools.repeat(record.time, rows))
        self.count += rows

    def taken(self) -> Rows:
        """The rows so far, which are forgotten."""
        outputs = {name: values for name, values in self._outputs.items() if any(v is not None for v in values)}
        rows = Rows(self._texts, outputs, [time or None for time in self._times], self._place, self._columns)
        self._begin()
        return rows


def _rows_of_table(path: str, wanted: LogFields, options: ReadOptions, notices: Notices) -> Iterator[Rows]:
    """The rows of a file that have texts, CHUNK at a time; those without are counted."""
    table = open_table(path, options, None, notices)
    columns = table.columns
    answers = _answers(columns, wanted.outputs)
    texts = next((found for found in (wanted.text_columns, wanted.inputs) if set(found) <= set(columns)), None)
    if texts is None:
        names = " and ".join(map(repr, wanted.text_columns))
        others = ", ".join(map(repr, columns)) or "none"
        raise UserError(f"{path} has no column {names} but {others}: set --text_column.")
    if not answers:
        raise UserError(
            f"{path} has no column of answers ({', '.join(wanted.outputs)}): answer it with export.predict."
        )
    beside = [column.column for column in wanted.columns if column.column in columns]
    places = table.places([*texts, *answers.values(), *beside, *([wanted.time_column] if wanted.time_column else [])])
    rows = iter(table)
    texts_of, answers_of = slice(len(texts)), slice(len(texts), len(texts) + len(answers))
    while some := list(itertools.islice(rows, CHUNK)):
        cells, first = [], some[0][0]
        for number, row in some:
            if isinstance(row, str):
                notices.add("rows that cannot be read, which are passed over", f"{table.place(number)}, which {row}")
                continue
            taken = [row[place] if place < len(row) else None for place in places]
            if all(isinstance(text, str) and text for text in taken[texts_of]) and any(taken[answers_of]):
                cells.append(taken)
            else:
                notices.add("rows without text or answer, which are passed over", table.place(number))
        if cells:
            found = [list(column) for column in zip(*cells, strict=True)]
            outputs = dict(zip(answers, found[answers_of], strict=True))
            times = [_iso(time) for time in found[-1]] if wanted.time_column else None
            cells_of = dict(zip(beside, found[answers_of.stop :], strict=False))
            yield Rows(found[texts_of], outputs, times, table.place(first), cells_of)


def _iso(time: Any) -> str | None:
    """A cell of a column of times; None: it is empty."""
    return None if time is None else str(time).strip().replace(" ", "T", 1) or None


def _answers(columns: Sequence[str], outputs: Sequence[str]) -> dict[str, str]:
    """Columns by the name of the answer that they hold. Where the input had a column of a name, export.predict puts
    `predicted_` before the names of all answers."""
    prefix = ""
    while any(f"predicted_{prefix}{name}" in columns for name in outputs):
        prefix = f"predicted_{prefix}"
    return {name: f"{prefix}{name}" for name in outputs if f"{prefix}{name}" in columns}


def _prediction_logs(path: str) -> Iterator[Record]:
    """The requests and responses of PredictionLogs; they have no time."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    from export.serving_protos import PredictionLog
    from pipeline.data.untuned import untuned

    number = 0
    try:
        for number, record in enumerate(untuned(tf.data.TFRecordDataset(path)).as_numpy_iterator(), 1):
            log = PredictionLog.FromString(record)
            kind = log.WhichOneof("log_type")
            if kind != "predict_log":
                raise UserError(f"{path}, record {number}: a {kind} has no outputs by name; only predict_log is read.")
            yield _record_of(log.predict_log, tf.make_ndarray)
    except tf.errors.DataLossError as error:
        raise UserError(f"{path}, record {number + 1}: the file is damaged or no TFRecord file.") from error
    except tf.errors.NotFoundError as error:
        raise UserError(f"{path}: no such file.") from error
    except DecodeError as error:
        raise UserError(f"{path}, record {number}: it is no PredictionLog.") from error


def _record_of(log: Any, as_array: Callable) -> Record:
    spec = log.request.model_spec
    inputs, outputs = (
        {name: _listed(as_array(tensor)) for name, tensor in found.items()}
        for found in (log.request.inputs, log.response.outputs)
    )
    version = spec.version.value if spec.WhichOneof("version_choice") == "version" else None
    return Record("", spec.name, version, spec.version_label or None, spec.signature_name or SIGNATURE, inputs, outputs)


def _listed(array: Any) -> list:
    if array.dtype == object:
        return [value.decode("utf-8", "replace") for value in array.ravel().tolist()]
    return array.tolist()
