"""Requests and their answers as lines of JSON, for whoever watches what a served model is asked.

Each line is one request, an object with the fields of `Record`:

    {"time": "2026-01-31T12:00:00Z", "model": "news", "version": null, "label": "stable",
     "signature": "serving_default", "inputs": {"text": ["..."]},
     "outputs": {"label": ["sport"], "score": [0.98], "probabilities": [[0.98, 0.02]]}}

A service that asks a model keeps a share of its requests with `RequestLog`. What the kit's proxy logs becomes the same
lines:

    docker compose logs --no-log-prefix proxy | python -m export.request_log > requests.jsonl

The texts are what people wrote: read deploy.md, "Logging requests", before you keep them.
"""

import base64
import json
import os
import random
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from export.answers import Answers

# What HAProxy writes of a connection that brought no request.
_NOTHING = '"request":-,"response":-}'
# http_rest_api_util.cc; a signature for tf.Examples has other methods, whose bodies name no inputs.
_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:predict", re.IGNORECASE)


@dataclass(frozen=True)
class Record:
    """A request of n rows and its answer."""

    time: str
    """When it was answered, in UTC: 2026-01-31T12:00:00Z."""
    model: str
    version: int | None
    """None where neither request nor answer says it: a request by label, or of the newest version, over REST."""
    label: str | None
    signature: str
    inputs: dict[str, list]
    """By name of the input, n values; under "" where a REST request gave bare values, which do not name it."""
    outputs: dict[str, list]
    """By name of the output, n values; under "" where a signature has one, which REST does not name."""


class RequestLog:
    """A share of the requests, chosen at random, at the end of a file. Safe to use from several threads.

    Example:
        log = RequestLog("requests.jsonl", share=0.01)
        answers = client(texts)
        log.add("news", {"text": texts}, answers, label="stable")

    Args:
        path: the file, made where it is missing; only its owner may read it.
        share: of the requests, from 0 to 1.

    Raises:
        ValueError: `share` is no share.
    """

    def __init__(self, path: str | Path, share: float = 0.01):
        if not 0 <= share <= 1:
            raise ValueError(f"share {share:g}: it is from 0 to 1.")
        self._path, self._share, self._lock = Path(path), share, threading.Lock()

    def add(
        self,
        model: str,
        inputs: Mapping[str, Any],
        outputs: Answers | Mapping[str, Any],
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "serving_default",
    ) -> bool:
        """Keep a request, or, as often as not chosen, do nothing; returns whether it was kept.

        Args:
            model: the name that it is served under.
            inputs: by name a list or an array of n values, texts as str or bytes; or the values of one row.
            outputs: what a Client or a Classifier answered: `Answers`, their arrays by name, or the answer to one row.
            version: that answered; None: the one that `outputs` says, if it does.
            label: that was asked for.
            signature: that was asked.

        Raises:
            ValueError: inputs and outputs are not of as many rows; said whether the request is chosen or not.
            OSError: the file cannot be written.
        """
        if isinstance(outputs, Answers):
            version = outputs.version if version is None else version
            outputs = outputs.outputs
        inputs, outputs = _rows_of(inputs, outputs)
        if random.random() >= self._share:
            return False
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        line = line_of(Record(time, model, version, label, signature, _plain(inputs), _plain(outputs)))
        with self._lock, open(self._path, "a", encoding="utf-8", opener=_private) as file:
            file.write(line)
        return True


def _rows_of(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Both by name with n values each, where they may be of one row without a list around it.

    Raises:
        ValueError: they are not of as many rows.
    """
    if any(isinstance(value, str | bytes) for value in inputs.values()):
        inputs = {name: [value] for name, value in inputs.items()}
        if any(_count(value) != 1 for value in outputs.values()):
            outputs = {name: [value] for name, value in outputs.items()}
    counts = {f"{kind} {name!r}": _count(value) for kind, values in (("input", inputs), ("output", outputs))
              for name, value in values.items()}  # fmt: skip
    if len(set(counts.values())) != 1 or None in counts.values():
        found = ", ".join(f"{name} {'no list' if count is None else count}" for name, count in counts.items())
        raise ValueError(f"inputs and outputs are no lists of as many rows: {found or 'none'}.")
    return inputs, outputs


def _count(values: Any) -> int | None:
    """How many rows; None: it is no list of them."""
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__len__") or getattr(values, "ndim", 1) == 0:
        return None
    return len(values)


def _plain(value: Any) -> Any:
    """As JSON has it: arrays as lists, bytes as text; what it has no form for as its words."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def line_of(record: Record) -> str:
    """A record as a line, its end included."""
    return json.dumps(asdict(record)) + "\n"


def read(lines: Iterable[str], name: str = "the log") -> Iterator[Record]:
    """The records of lines, whether of `RequestLog` or of the kit's proxy.

    Lines that are no objects, such as what the proxy says of itself and of broken connections, are passed over.

    Raises:
        ValueError: naming the line, one is an object and no record.
    """
    for number, line in enumerate(lines, 1):
        if not line.startswith("{") or line.rstrip().endswith(_NOTHING):
            continue
        try:
            content = json.loads(line, object_hook=_decoded)
            record = _of_proxy(content) if "request" in content else Record(**content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{name}, line {number}: it is no record of a request: {error}") from error
        if record is not None:
            yield record


def main() -> int:
    """From the proxy's log to records; returns the exit status: 0, or 2 after one sentence on what is wrong."""
    try:
        with open(0, encoding="utf-8", errors="replace", closefd=False) as source:
            for record in read(source):
                sys.stdout.write(line_of(record))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _of_proxy(content: dict[str, Any]) -> Record | None:
    """None for what is no prediction."""
    match = _PATH.fullmatch(content["path"])
    if match is None:
        return None
    model, version, label = match.groups()
    request, response = content["request"], content["response"]
    signature = request.get("signature_name") or "serving_default"
    inputs = _columns(request["instances"]) if "instances" in request else _named(request["inputs"])
    outputs = _columns(response["predictions"]) if "predictions" in response else _named(response["outputs"])
    return Record(content["time"], model, int(version) if version else None, label, signature, inputs, outputs)


def _decoded(found: dict[str, Any]) -> Any:
    """Of an object of JSON the text where it is {"b64": ...}, which is how REST takes bytes; else the object."""
    if found.keys() != {"b64"} or not isinstance(found["b64"], str):
        return found
    return base64.b64decode(found["b64"]).decode("utf-8", "replace")


def _columns(rows: list) -> dict[str, list]:
    if not all(isinstance(row, dict) for row in rows):
        return {"": rows}
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}


def _named(values: Any) -> dict[str, list]:
    return values if isinstance(values, dict) else {"": values}


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
