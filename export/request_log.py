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
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
        answer = client(texts)
        log.add("news", {"text": texts}, answer, label="stable")

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
        inputs: dict[str, list],
        outputs: dict[str, Any],
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "serving_default",
    ) -> bool:
        """Keep a request, or, as often as not chosen, do nothing; returns whether it was kept.

        Raises:
            OSError: the file cannot be written.
        """
        if random.random() >= self._share:
            return False
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        # Arrays as lists.
        outputs = {name: values.tolist() if hasattr(values, "tolist") else values for name, values in outputs.items()}
        line = line_of(Record(time, model, version, label, signature, inputs, outputs))
        with self._lock, open(self._path, "a", encoding="utf-8", opener=_private) as file:
            file.write(line)
        return True


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
