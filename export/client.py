"""Ask a model that TensorFlow Serving serves.

    python -m export.client --target localhost:8500 --model news "some text" "another"
    python -m export.client --target localhost:8501 --protocol rest --model news --input texts.csv --text-column review
    cat texts.txt | python -m export.client --target localhost:8500 --model news --label canary --format jsonl

Texts come from the command line, files or standard input, as for export.predict; jsonl keeps the columns of the input.
REST imports no tensorflow. The exit status is 0, 2 after one sentence on what is wrong, and 75 where the server is not
available or did not answer in time: try again.
"""

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tenacity

from export.answers import REASON, line_of
from export.command_line import command_parser
from export.texts import Row, Texts, add_text_arguments, check_text_arguments
from export.transport import Model, OutOfTime, RequestFailed, Tls, TryAgain, connect
from pipeline.data.formats import as_text, printable
from pipeline.errors import TRY_AGAIN

# Texts taken at a time from a large input, in requests' worth for each that may be under way.
WINDOW = 16


@dataclass(frozen=True)
class Limits:
    """How requests are made.

    Attributes:
        timeout: seconds that a request may take, with all its attempts.
        attempts: how often a request is sent at most.
        batch_size: texts a request.
        parallel: requests at a time.
    """

    timeout: float = 10.0
    attempts: int = 5
    batch_size: int = 32
    parallel: int = 4


DEFAULT_LIMITS = Limits()


class Client:
    """A served model as a function from texts to its outputs.

    Large inputs are cut into requests of `limits.batch_size` texts, of like length to save padding, of which at most
    `limits.parallel` are under way. A request that meets UNAVAILABLE is sent again, after a random wait that grows from
    0.1 to 2 seconds. Safe to use from several threads.

    Example:
        with Client("localhost:8500", model="news", label="stable") as client:
            answer = client(["some text", "another"])
            answer["label"], answer["score"], answer["probabilities"]

    Args:
        target: host:port; of tensorflow_model_server's image 8500 is gRPC, 8501 REST.
        model: the name that it is served under.
        protocol: "grpc" or "rest".
        signature: of the SavedModel.
        version, label: at most one of them; neither: the newest version.
        limits: time, attempts and sizes of requests.
        tls: root certificates and the client's own; None: no encryption.

    Raises:
        RequestFailed: wrong arguments.
    """

    def __init__(
        self,
        target: str,
        *,
        model: str,
        protocol: str = "grpc",
        signature: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
        tls: Tls | None = None,
    ):
        if protocol not in ("grpc", "rest"):
            raise RequestFailed(f"protocol {protocol!r}: it is grpc or rest.")
        if version is not None and label:
            raise RequestFailed(f"version {version} and label {label!r}: give one of them.")
        if min(limits.timeout, limits.attempts, limits.batch_size, limits.parallel) <= 0:
            raise RequestFailed("timeout, attempts, batch_size and parallel must be above 0.")
        self._model = Model(model, signature, version, label)
        self._transport = connect(protocol, target, self._model, tls)
        self._limits = limits
        self._inputs: list[str] | None = None

    def __call__(self, *texts: Sequence[str | bytes]) -> dict[str, np.ndarray]:
        """Answer any number of texts, in their order.

        Args:
            texts: one list for each input of the signature, in the order of `inputs`, all of one length.

        Returns:
            The signature's outputs, arrays of one row a text; strings are str objects.

        Raises:
            RequestFailed: the server refuses, or the lists do not fit.
            TryAgain: it was not available at any attempt.
            OutOfTime: a request took longer than the timeout.
        """
        if len(texts) != len(self.inputs):
            raise RequestFailed(f"{self._model} takes {' and '.join(self.inputs)}, not {len(texts)} lists of texts.")
        return self.predict(dict(zip(self.inputs, texts, strict=True)))

    def predict(self, inputs: Mapping[str, Sequence]) -> dict[str, np.ndarray]:
        """As __call__, with inputs by name: texts, or numbers where the signature takes such."""
        columns = {name: _column(values) for name, values in inputs.items()}
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            raise RequestFailed(f"the inputs differ in length: {', '.join(str(len(c)) for c in columns.values())}.")
        (count,) = lengths
        if not count:
            return {}
        texts = [column for column in columns.values() if column.dtype == object]
        order = np.array(sorted(range(count), key=lambda i: sum(len(column[i]) for column in texts)))
        parts = [order[start : start + self._limits.batch_size] for start in range(0, count, self._limits.batch_size)]
        if len(parts) == 1:
            answers = [self._ask(columns)]
            order = np.arange(count)
        else:
            with ThreadPoolExecutor(min(self._limits.parallel, len(parts))) as pool:
                try:
                    requests = [{name: column[part] for name, column in columns.items()} for part in parts]
                    answers = list(pool.map(self._ask, requests))
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        outputs = {}
        for name in answers[0]:
            rows = _joined([answer[name] for answer in answers])
            if len(rows) != count:
                raise RequestFailed(f"the output {name!r} of {self._model} does not have one row a text.")
            outputs[name] = np.empty_like(rows)
            outputs[name][order] = rows
        return outputs

    @property
    def inputs(self) -> list[str]:
        """Names of the signature's inputs, asked once."""
        if self._inputs is None:
            signatures = self._try(self._transport.signatures)
            if self._model.signature not in signatures:
                raise RequestFailed(
                    f"{self._model} has no signature {self._model.signature!r} but {', '.join(sorted(signatures))}."
                )
            self._inputs = list(signatures[self._model.signature].inputs)
        return self._inputs or []

    def versions(self) -> dict[int, str]:
        """State of each version that the server knows of, such as {1: "AVAILABLE"}."""
        return self._try(self._transport.versions)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _ask(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answer = self._try(lambda timeout: self._transport.predict(columns, timeout))
        return {name: _decoded(array) for name, array in answer.items()}

    def _try(self, send):
        """send(seconds left), again while it raises TryAgain and there is time."""
        end = time.monotonic() + self._limits.timeout
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TryAgain),
            wait=tenacity.wait_random_exponential(0.1, max=2.0),
            stop=tenacity.stop_after_attempt(self._limits.attempts) | tenacity.stop_before_delay(self._limits.timeout),
            reraise=True,
        )
        return attempts(lambda: send(max(end - time.monotonic(), 1e-3)))


def _column(values: Sequence) -> np.ndarray:
    """Texts as bytes objects, whatever they hold; numbers as they are."""
    values = list(values)
    if values and not isinstance(values[0], str | bytes):
        return np.array(values)
    column = np.empty(len(values), object)
    column[:] = [text if isinstance(text, bytes) else text.encode("utf-8", "replace") for text in values]
    return column


def _decoded(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "OSU":
        return array
    texts = [text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in array.ravel().tolist()]
    decoded = np.empty(len(texts), object)
    decoded[:] = texts
    return decoded.reshape(array.shape)


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    """Concatenated; where a request has shorter rows than another, they are filled with zeros or empty strings."""
    shape = np.max([array.shape[1:] for array in arrays], axis=0).astype(int) if arrays[0].ndim > 1 else ()
    filled = []
    for array in arrays:
        widths = [(0, 0), *((0, wanted - found) for wanted, found in zip(shape, array.shape[1:], strict=True))]
        filled.append(np.pad(array, widths, constant_values="" if array.dtype == object else 0))
    return np.concatenate(filled)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, 2 after one sentence on what is wrong, 75 to try again."""
    parser = command_parser("export.client", __doc__)
    parser.add_argument("--target", required=True, metavar="HOST:PORT", help="of the server")
    parser.add_argument("--protocol", choices=["grpc", "rest"], default="grpc", help="(default: grpc)")
    parser.add_argument("--model", default="model", help="name that it is served under (default: model)")
    parser.add_argument("--signature", default="serving_default", help="(default: serving_default)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=int, help="number of the version (default: the newest)")
    which.add_argument("--label", help="of the version, such as stable or canary")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds a request may take (default: 10)")
    parser.add_argument("--attempts", type=int, default=5, help="at a request that meets UNAVAILABLE (default: 5)")
    parser.add_argument("--batch_size", "--batch-size", type=int, default=32, help="texts a request (default: 32)")
    parser.add_argument("--parallel", type=int, default=4, help="requests at a time (default: 4)")
    parser.add_argument("--tls", action="store_true", help="encrypt; without --root the system's authorities are used")
    parser.add_argument("--root", type=Path, help="PEM file of who signed the server's certificate; means --tls")
    parser.add_argument("--certificate", type=Path, help="PEM file of the client's own; means --tls")
    parser.add_argument("--key", type=Path, help="PEM file of its key")
    parser.add_argument("--format", choices=["lines", "jsonl"], default="lines", help="of the answers (default: lines)")
    add_text_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        check_text_arguments(options)
        if bool(options.certificate) != bool(options.key):
            raise ValueError("--certificate and --key go together.")
        files = Tls(options.root, options.certificate, options.key)
        settings = {name: getattr(options, name) for name in ("model", "protocol", "signature", "version", "label")}
        settings["limits"] = Limits(options.timeout, options.attempts, options.batch_size, options.parallel)
        with Client(options.target, tls=files if options.tls or any(files) else None, **settings) as client:
            _answer(client, options)
    except BrokenPipeError:
        # The reader of our output, such as head, has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (TryAgain, OutOfTime) as error:
        print(f"error: {error}", file=sys.stderr)
        return TRY_AGAIN
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _answer(client: Client, options: argparse.Namespace) -> None:
    rows = Texts(options, client.inputs)
    iterator, count = iter(rows), 0
    while window := list(itertools.islice(iterator, options.batch_size * options.parallel * WINDOW)):
        asked = [row.texts for row in window if row.texts]
        answer = client(*zip(*asked, strict=True)) if asked else {}
        answers = ({name: _json(array[i]) for name, array in answer.items()} for i in range(len(asked)))
        prefix = "predicted_" if {*answer, REASON} & {*rows.columns} else ""
        for row in window:
            outputs = next(answers) if row.texts else {REASON: row.reason}
            if options.format == "lines":
                print(_line(row, outputs))
            else:
                given = dict(zip(rows.columns, row.cells, strict=False))
                record = given | {f"{prefix}{name}": value for name, value in outputs.items()}
                print(json.dumps(record, ensure_ascii=False, default=as_text))
        count += len(window)
    if not count:
        raise ValueError("there is no text to answer.")
    for sentence in rows.notices.sentences():
        print(f"warning: {sentence}", file=sys.stderr)


def _line(row: Row, outputs: dict) -> str:
    """One line a text, whatever the text holds."""
    texts = " | ".join(printable(text) for text in row.texts or map(as_text, row.cells))
    if REASON in outputs:
        return f"- ({outputs[REASON]})\t{texts}"
    if {"label", "score"} <= outputs.keys():
        return f"{line_of({name: outputs[name] for name in ('label', 'score')})}\t{texts}"
    return f"{json.dumps(outputs, ensure_ascii=False)}\t{texts}"


def _json(value):
    if isinstance(value, np.ndarray):
        return [_json(part) for part in value]
    if isinstance(value, np.floating):
        return round(float(value), 6)
    return value.item() if isinstance(value, np.generic) else value


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
