"""TensorFlow Serving over REST, in its column format. Needs no tensorflow."""

import base64
import email.utils
import json
import reprlib
import ssl
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import numpy as np
from urllib3 import Timeout
from urllib3.exceptions import DecodeError, HTTPError, NewConnectionError, SSLError, TimeoutError

from export.address import Address, Proxy
from export.failures import BadAnswer, RequestFailed, failure, out_of_time, quoted
from export.timed_http import pools
from export.transport import Columns, Metadata, Model, Reply, Signature, Spec, spec_of

CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    # Those of a proxy on the way too, which has no answer from the server.
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "UNAVAILABLE",
}
"""The inverse of ToHTTPStatusCode in tensorflow_serving/model_servers/http_server.cc, and what proxies say."""


class Rest:
    """See Transport."""

    def __init__(self, address: Address, proxy: Proxy | None, tls: ssl.SSLContext | None):
        self.target = str(address)
        self._pools, self._closed = pools(proxy, tls), False
        self._root = f"{'http' if tls is None else 'https'}://{address}/v1/models"

    def predict(self, model: Model, signature: Signature, columns: Columns, timeout: float) -> Reply:
        inputs = {name: _plain(column) for name, column in columns.items()}
        body = json.dumps({"signature_name": model.signature, "inputs": inputs}).encode()
        content = self._call("POST", model, ":predict", timeout, body)
        outputs = content.get("outputs")
        if not isinstance(outputs, dict) and "outputs" in content and len(signature.outputs) == 1:
            # A single output comes without its name.
            outputs = {next(iter(signature.outputs)): outputs}
        if not isinstance(outputs, dict):
            raise self._bad(model, "without outputs", content)
        found = {}
        for name, values in outputs.items():
            try:
                found[name] = _array(values, signature.outputs.get(name, Spec()))
            except (ValueError, TypeError, OverflowError) as error:
                raise self._bad(model, f"with {name!r} that is no array of strings or numbers", values) from error
        return Reply(found, None)

    def metadata(self, model: Model, timeout: float) -> Metadata:
        content = self._call("GET", model, "/metadata", timeout)
        try:
            signatures = {
                name: Signature(_specs(signature["inputs"]), _specs(signature["outputs"]))
                for name, signature in content["metadata"]["signature_def"]["signature_def"].items()
            }
            version = content.get("model_spec", {}).get("version")
            return Metadata(signatures, None if version is None else int(version))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise self._bad(model, "without its signatures", content) from error

    def versions(self, model: Model, timeout: float) -> dict[int, str]:
        content = self._call("GET", model, "", timeout)
        try:
            return {int(row["version"]): str(row["state"]) for row in content["model_version_status"]}
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self._bad(model, "without the states of its versions", content) from error

    def close(self) -> None:
        self._closed = True
        self._pools.clear()

    def _call(self, method: str, model: Model, path: str, timeout: float, body: bytes | None = None) -> dict:
        if self._closed:
            raise RequestFailed(f"the client of {self.target} is closed.")
        url = f"{self._root}/{quote(model.name, safe='')}"
        if model.label:
            url += f"/labels/{quote(model.label, safe='')}"
        elif model.version is not None:
            url += f"/versions/{model.version}"
        try:
            answer = self._pools.request(
                method,
                url + path,
                body=body,
                headers={"Content-Type": "application/json"},
                timeout=Timeout(total=timeout),
                redirect=False,
            )
            # urllib3 has read it all.
            data: bytes = answer.data
        except (TimeoutError, HTTPError) as error:
            raise self._failure(model, error) from error
        if answer.status != 200:
            code = CODES.get(answer.status, f"HTTP {answer.status}")
            details = _error_of(data) or f"HTTP status {answer.status}"
            raise failure(self.target, model, code, details, _retry_after(answer.headers.get("Retry-After")))
        try:
            content = json.loads(data.decode())
        except UnicodeDecodeError as error:
            raise BadAnswer(f"{self.target} answered {model} with bytes that are not UTF-8.") from error
        except (ValueError, RecursionError) as error:
            words = quoted(data[:300].decode("utf-8", "replace")) or "nothing"
            raise BadAnswer(
                f"{self.target} answered {model} with no JSON but {words}: is it TensorFlow Serving's REST port?"
            ) from error
        if not isinstance(content, dict):
            raise self._bad(model, "that is no object", content)
        return content

    def _failure(self, model: Model, error: Exception) -> RequestFailed:
        if isinstance(error, NewConnectionError):  # of some versions a TimeoutError too
            return failure(self.target, model, "UNAVAILABLE", f"no connection ({error.__cause__})")
        if isinstance(error, TimeoutError):
            return out_of_time(self.target, model)
        if isinstance(error, SSLError):
            return failure(self.target, model, "TLS", str(error))
        if isinstance(error, DecodeError):
            return BadAnswer(f"{self.target} answered {model} with bytes that are not packed as it says.")
        return failure(self.target, model, "UNAVAILABLE", str(error))

    def _bad(self, model: Model, what: str, content: Any) -> BadAnswer:
        return BadAnswer(f"{self.target} answered {model} with JSON {what}: {quoted(reprlib.repr(content))}.")


def _error_of(data: bytes) -> str:
    """The server's words: what its JSON names an error, else all of it."""
    words = data[:10_000].decode("utf-8", "replace")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return words
    error = content.get("error") if isinstance(content, dict) else None
    return error if isinstance(error, str) else words


def _retry_after(given: str | None) -> float | None:
    """Seconds from now that the header says, as a number or a date."""
    if given is None or len(given) > 40:
        return None
    if given.isascii() and given.isdigit():
        return float(given)
    try:
        date = email.utils.parsedate_to_datetime(given)
    except (ValueError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max((date - datetime.now(UTC)).total_seconds(), 0.0)


def _plain(column: np.ndarray) -> list:
    return [_json_text(text) if isinstance(text, bytes) else text for text in column.tolist()]


def _json_text(text: bytes) -> str | dict:
    """Bytes that are no UTF-8 go as TensorFlow Serving's base64 objects."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(text).decode()}


def _specs(tensors: dict) -> dict[str, Spec]:
    found = {}
    for name in sorted(tensors):
        shape = tensors[name].get("tensor_shape")
        sizes = None
        if shape is not None and not shape.get("unknown_rank"):
            sizes = [int(dim["size"]) for dim in shape.get("dim", [])]
        found[name] = spec_of(tensors[name].get("dtype"), sizes)
    return found


def _array(values: Any, spec: Spec) -> np.ndarray:
    """JSON's lists of one kind of thing as an array.

    Raises:
        ValueError, OverflowError: they are something else, or of the wrong type.
    """
    array = np.array(values, object)
    kinds = set(map(type, array.ravel().tolist()))
    if kinds <= {str}:
        # Empty lists have no kind.
        return array if kinds else array.astype(spec.dtype or object)
    if not (kinds <= {int, float} or kinds == {bool}):
        raise ValueError("neither strings, numbers nor truth values")
    dtype = spec.dtype or np.dtype(bool if kinds == {bool} else np.float32 if float in kinds else np.int64)
    if dtype.kind not in ("b" if kinds == {bool} else "f" if float in kinds else "iuf"):
        raise ValueError("of another type")
    return array.astype(dtype)
