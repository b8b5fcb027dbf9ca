"""One request to TensorFlow Serving, over gRPC or REST: arrays in, arrays out, failures in one sentence."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from pipeline.extras import require

Columns = Mapping[str, np.ndarray]
"""Arrays by the name of an input or output; texts are arrays of bytes objects."""


class RequestFailed(ValueError):
    """The server cannot be reached or refuses; the message says which server, what it was asked and why."""


class TryAgain(RequestFailed):
    """Another attempt may succeed: the server was not there, or said that it is not ready (UNAVAILABLE)."""


class OutOfTime(RequestFailed):
    """No answer within the time that was given."""


class Model(NamedTuple):
    """What of a server is asked."""

    name: str
    signature: str = "serving_default"
    version: int | None = None
    label: str | None = None

    def __str__(self) -> str:
        version = f", version {self.version}" if self.version is not None else ""
        return f"model {self.name!r}{version}" + (f", label {self.label!r}" if self.label else "")


class Signature(NamedTuple):
    """Names of the inputs and outputs, sorted."""

    inputs: list[str]
    outputs: list[str]


class Tls(NamedTuple):
    """Paths of PEM files. `root`: who signed the server's certificate (None: the system's authorities); `certificate`
    and `key`: the client's own, where the server asks for one."""

    root: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def connect(protocol: str, target: str, model: Model, tls: Tls | None):
    """A Grpc or a Rest.

    Raises:
        RequestFailed: the address is none, or a certificate cannot be read.
    """
    host, separator, port = target.rpartition(":")
    if "/" in target or not (separator and host and port.isdigit()):
        raise RequestFailed(f"{target!r} is no address: give host:port, such as localhost:8500.")
    for path in filter(None, tls or ()):
        if not Path(path).is_file():
            raise RequestFailed(f"{path}: no such certificate or key file.")
    return {"grpc": Grpc, "rest": Rest}[protocol](target, model, tls)


class Grpc:
    """tensorflow.serving.PredictionService and ModelService."""

    def __init__(self, target: str, model: Model, tls: Tls | None):
        # tensorflow-serving-api's messages import all of tensorflow: only where they are used.
        grpc = require("client", "grpc")
        model_service_pb2_grpc = require("client", "tensorflow_serving.apis.model_service_pb2_grpc")
        prediction_service_pb2_grpc = require("client", "tensorflow_serving.apis.prediction_service_pb2_grpc")

        self._target, self._model = target, model
        options = {
            "grpc.max_send_message_length": -1,
            "grpc.max_receive_message_length": -1,
            # The client's own attempts are the only ones.
            "grpc.enable_retries": 0,
            "grpc.initial_reconnect_backoff_ms": 100,
            "grpc.max_reconnect_backoff_ms": 2000,
        }
        if tls is None:
            self._channel = grpc.insecure_channel(target, list(options.items()))
        else:
            root, certificate, key = (path and Path(path).read_bytes() for path in tls)
            credentials = grpc.ssl_channel_credentials(root, key, certificate)
            self._channel = grpc.secure_channel(target, credentials, list(options.items()))
        self._predict = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._status = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(self, columns: Columns, timeout: float) -> dict[str, np.ndarray]:
        """Outputs of the signature; bytes objects where they are strings. `timeout` in seconds."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        tensors = {name: tf.make_tensor_proto(column) for name, column in columns.items()}
        request = predict_pb2.PredictRequest(model_spec=self._spec(self._model.signature), inputs=tensors)
        answer = self._call(self._predict.Predict, request, timeout)
        return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}

    def signatures(self, timeout: float) -> dict[str, Signature]:
        """What the model can be asked."""
        from tensorflow_serving.apis import get_model_metadata_pb2 as messages

        request = messages.GetModelMetadataRequest(model_spec=self._spec(), metadata_field=["signature_def"])
        answer = self._call(self._predict.GetModelMetadata, request, timeout)
        found = messages.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        return {
            name: Signature(sorted(signature.inputs), sorted(signature.outputs))
            for name, signature in found.signature_def.items()
        }

    def versions(self, timeout: float) -> dict[int, str]:
        """State of each version, such as AVAILABLE."""
        from tensorflow_serving.apis import get_model_status_pb2 as messages

        request = messages.GetModelStatusRequest(model_spec=self._spec())
        answer = self._call(self._status.GetModelStatus, request, timeout)
        return {row.version: messages.ModelVersionStatus.State.Name(row.state) for row in answer.model_version_status}

    def close(self) -> None:
        self._channel.close()

    def _spec(self, signature: str = ""):
        from tensorflow_serving.apis import model_pb2

        spec = model_pb2.ModelSpec(name=self._model.name, signature_name=signature)
        if self._model.label:
            spec.version_label = self._model.label
        elif self._model.version is not None:
            spec.version.value = self._model.version
        return spec

    def _call(self, method, request, timeout: float):
        import grpc

        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise _failure(self._target, self._model, error.code().name, error.details() or "") from error


class Rest:
    """TensorFlow Serving's REST interface, in its column format. Needs no tensorflow."""

    def __init__(self, target: str, model: Model, tls: Tls | None):
        import urllib3

        self._target, self._model = target, model
        self._single: str | None = None
        options: dict[str, Any] = {}
        if tls is not None:
            files = zip(("ca_certs", "cert_file", "key_file"), tls, strict=True)
            options = {name: str(path) for name, path in files if path}
        self._pool = urllib3.PoolManager(maxsize=32, retries=False, **options)
        path = f"/v1/models/{quote(model.name, safe='')}"
        if model.label:
            path += f"/labels/{quote(model.label, safe='')}"
        elif model.version is not None:
            path += f"/versions/{model.version}"
        self._url = f"{'http' if tls is None else 'https'}://{target}{path}"

    def predict(self, columns: Columns, timeout: float) -> dict[str, np.ndarray]:
        """Outputs of the signature; str objects where they are strings. `timeout` in seconds."""
        inputs = {name: _plain(column) for name, column in columns.items()}
        body = json.dumps({"signature_name": self._model.signature, "inputs": inputs}).encode()
        outputs = self._call("POST", ":predict", timeout, body)["outputs"]
        if not isinstance(outputs, dict):
            # A single output comes without its name.
            if self._single is None:
                self._single = self.signatures(timeout)[self._model.signature].outputs[0]
            outputs = {self._single: outputs}
        return {name: _array(values) for name, values in outputs.items()}

    def signatures(self, timeout: float) -> dict[str, Signature]:
        """What the model can be asked."""
        found = self._call("GET", "/metadata", timeout)["metadata"]["signature_def"]["signature_def"]
        return {
            name: Signature(sorted(signature["inputs"]), sorted(signature["outputs"]))
            for name, signature in found.items()
        }

    def versions(self, timeout: float) -> dict[int, str]:
        """State of each version, such as AVAILABLE."""
        rows = self._call("GET", "", timeout)["model_version_status"]
        return {int(row["version"]): row["state"] for row in rows}

    def close(self) -> None:
        self._pool.clear()

    def _call(self, method: str, path: str, timeout: float, body: bytes | None = None) -> dict:
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError, NewConnectionError, SSLError, TimeoutError

        headers = {"Content-Type": "application/json"}
        try:
            limit = Timeout(total=timeout)
            answer = self._pool.request(method, self._url + path, body=body, headers=headers, timeout=limit)
        except NewConnectionError as error:  # of some versions a TimeoutError too
            raise _failure(self._target, self._model, "UNAVAILABLE", "no connection") from error
        except TimeoutError as error:
            raise _failure(self._target, self._model, "DEADLINE_EXCEEDED", "") from error
        except SSLError as error:
            raise _failure(self._target, self._model, "TLS", str(error)) from error
        except HTTPError as error:
            raise _failure(self._target, self._model, "UNAVAILABLE", str(error)) from error
        try:
            content = json.loads(answer.data)
        except ValueError:
            content = {"error": answer.data.decode("utf-8", "replace")}
        if answer.status != 200:
            code = HTTP_CODES.get(answer.status, f"HTTP {answer.status}")
            details = str(content.get("error", content)) if isinstance(content, dict) else str(content)
            raise _failure(self._target, self._model, code, details)
        return content


HTTP_CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""The inverse of ToHTTPStatusCode in tensorflow_serving/model_servers/http_server.cc."""


def _failure(target: str, model: Model, code: str, details: str) -> RequestFailed:
    # A server's words can be long and have many lines.
    reason = " ".join(details.split())[:300].rstrip(".")
    if code == "UNAVAILABLE":
        return TryAgain(f"{target} is not available: {reason or 'no reason given'}.")
    if code in ("DEADLINE_EXCEEDED", "CANCELLED"):
        return OutOfTime(f"{target} gave no answer for {model} in the time allowed: raise the timeout.")
    if code == "NOT_FOUND":
        return RequestFailed(f"{target} does not serve {model}: {reason}.")
    return RequestFailed(f"{target} refused the request to {model} ({code}): {reason}.")


def _plain(column: np.ndarray) -> list:
    return [_json_text(text) if isinstance(text, bytes) else text for text in column.tolist()]


def _json_text(text: bytes) -> str | dict:
    """Bytes that are no UTF-8 go as TensorFlow Serving's base64 objects."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(text).decode()}


def _array(values: list) -> np.ndarray:
    array = np.array(values)
    if array.dtype.kind == "U":
        return array.astype(object)
    return array.astype(np.float32) if array.dtype.kind == "f" else array
