"""A test double of TensorFlow Serving on loopback: gRPC and REST in front of an exported model, with faults on order.

It speaks the protocol (tensorflow-serving-api's messages; paths, status codes and JSON as in tensorflow_serving/
model_servers/http_rest_api_util.cc, http_server.cc and util/json_tensor.cc) for tests and benchmarks of clients. It is
no server to use: no reload, no limits, no metrics.
"""

import base64
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import grpc
import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (registers the tokenizer's ops)
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus
from tensorflow_serving.apis.predict_pb2 import PredictResponse

HTTP_STATUS = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
CODES = {code.value[0]: code.name for code in grpc.StatusCode}
PREDICT = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(\w+)")
STATUS = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata)?")


class Refused(Exception):
    """A status code's name, and the message."""


class ServingDouble:
    """Serves all versions of a folder while the context lasts.

    Args:
        folder: of numbered versions.
        model: the name to serve it under.
        labels: of versions.
        credentials: of the gRPC port; None: insecure. REST is never encrypted, as in TensorFlow Serving.
        batching: None, or arguments of tf.nondifferentiable_batch_function, which is the scheduler that
            tensorflow_model_server's --enable_batching uses.

    Attributes:
        grpc, rest: addresses, host:port.
        faults: what the next predict requests meet, one each: the name of a status code, or a function that is called
            before the answer.
        withdrawn: versions that are served no more.
        delay: seconds that each request takes longer.
        hold: None, or an Event; until it is set no request is answered, and those that waited for it are refused.
        batches: number of rows of each predict request that was answered.
        refused: status codes with which TensorFlow refused.
        peak: highest number of predict requests at a time.
    """

    def __init__(self, folder: Path, model: str, labels: dict[str, int] | None = None, credentials=None, batching=None):
        self._model, self._labels = model, labels or {}
        self._versions = {int(path.name): _Version(path, batching) for path in Path(folder).iterdir()}
        self._credentials = credentials
        self.faults: list[str | Callable[[], object]] = []
        self.withdrawn: set[int] = set()
        self.delay = 0.0
        self.hold: threading.Event | None = None
        self.batches: list[int] = []
        self.refused: list[str] = []
        self.peak = self._running = 0
        self._lock = threading.Lock()

    def __enter__(self) -> "ServingDouble":
        self._grpc = grpc.server(ThreadPoolExecutor(64), options=[("grpc.so_reuseport", 0)])
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_Prediction(self), self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Status(self), self._grpc)
        if self._credentials is None:
            port = self._grpc.add_insecure_port("localhost:0")
        else:
            port = self._grpc.add_secure_port("localhost:0", self._credentials)
        self._grpc.start()
        self._http = ThreadingHTTPServer(("localhost", 0), type("Handler", (_Rest,), {"double": self}))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.grpc, self.rest = f"localhost:{port}", f"localhost:{self._http.server_port}"
        return self

    def __exit__(self, *_) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(0).wait()

    def version(self, name: str, number: int | None, label: str | None) -> "_Version":
        """What a request means, as tensorflow_serving/model_servers/server_core.cc finds it."""
        if label and label not in self._labels:
            raise Refused("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
        served = self._versions.keys() - self.withdrawn
        number = self._labels[label] if label else number if number is not None else max(served)
        if name != self._model or number not in served:
            raise Refused("NOT_FOUND", f"Servable not found for request: Specific({name}, {number})")
        return self._versions[number]

    def predict(self, version: "_Version", signature: str, inputs) -> dict[str, np.ndarray]:
        """Answer, after what was ordered to happen. `inputs` is a function of the signature's inputs."""
        with self._lock:
            self._running += 1
            self.peak = max(self.peak, self._running)
            fault = self.faults.pop(0) if self.faults else None
        try:
            time.sleep(self.delay)
            if self.hold:
                self.hold.wait(60)
                raise Refused("UNAVAILABLE", "held")
            if callable(fault):
                fault()
            elif fault:
                raise Refused(fault, "ordered by the test")
            signature = signature or "serving_default"
            if signature not in version.functions:
                raise Refused("INVALID_ARGUMENT", f'Serving signature name: "{signature}" not found in signature def')
            function = version.functions[signature]
            tensors = inputs(function.inputs)
            if sorted(tensors) != function.inputs:
                names = ",".join(function.inputs)
                raise Refused("INVALID_ARGUMENT", f"input size does not match signature; it takes {names}")
            outputs = function(tensors)
            with self._lock:
                self.batches.append(len(next(iter(tensors.values()))))
            return outputs
        except tf.errors.OpError as error:
            self.refused.append(CODES[error.error_code])
            raise Refused(self.refused[-1], error.message) from error
        finally:
            with self._lock:
                self._running -= 1

    def states(self, name: str, number: int | None) -> GetModelStatusResponse:
        """Of one version or of all, whatever the label: get_model_status_impl.cc reads name and version alone."""
        chosen = [n for n in sorted(self._versions, reverse=True) if name == self._model and number in (None, n)]
        if not chosen:
            raise Refused("NOT_FOUND", f"Could not find any versions of model {name}")
        rows = [
            ModelVersionStatus(
                version=n, state="END" if n in self.withdrawn else "AVAILABLE", status={"error_code": "OK"}
            )
            for n in chosen
        ]
        return GetModelStatusResponse(model_version_status=rows)


class _Version:
    def __init__(self, folder: Path, batching: dict | None):
        self.number, self._model = int(folder.name), tf.saved_model.load(str(folder))
        self.functions = {name: _Function(f, batching) for name, f in self._model.signatures.items()}
        content = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        self.signature_map = SignatureDefMap()
        for name in self.functions:
            self.signature_map.signature_def[name].CopyFrom(content.meta_graphs[0].signature_def[name])


class _Function:
    """A signature, arrays to arrays."""

    def __init__(self, function, batching: dict | None):
        self.inputs = sorted(function.structured_input_signature[1])
        names, specs = sorted(function.structured_outputs), function.structured_input_signature[1]
        run = lambda *columns: [function(**dict(zip(self.inputs, columns, strict=True)))[name] for name in names]  # noqa: E731
        if batching is not None:
            batched = tf.nondifferentiable_batch_function(**batching)(run)
            run = tf.function(lambda *columns: batched(*columns), [specs[name] for name in self.inputs])
        self._run, self._outputs, self._specs = run, names, specs

    def __call__(self, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = self._run(*(tf.constant(tensors[name], self._specs[name].dtype) for name in self.inputs))
        return {name: tensor.numpy() for name, tensor in zip(self._outputs, found, strict=True)}


def _spec(spec) -> tuple[str, int | None, str | None]:
    return spec.name, spec.version.value if spec.HasField("version") else None, spec.version_label or None


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, double: ServingDouble):
        self._double = double

    def Predict(self, request, context):
        try:
            version = self._double.version(*_spec(request.model_spec))
            tensors = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            outputs = self._double.predict(version, request.model_spec.signature_name, lambda names: tensors)
        except Refused as refusal:
            context.abort(grpc.StatusCode[refusal.args[0]], refusal.args[1])
        spec = {
            "name": request.model_spec.name,
            "signature_name": request.model_spec.signature_name or "serving_default",
            "version": {"value": version.number},
        }
        tensors = {name: tf.make_tensor_proto(array) for name, array in outputs.items()}
        return PredictResponse(model_spec=spec, outputs=tensors)

    def GetModelMetadata(self, request, context):
        try:
            version = self._double.version(*_spec(request.model_spec))
        except Refused as refusal:
            context.abort(grpc.StatusCode[refusal.args[0]], refusal.args[1])
        spec = {"name": request.model_spec.name, "version": {"value": version.number}}
        response = GetModelMetadataResponse(model_spec=spec)
        response.metadata["signature_def"].Pack(version.signature_map)
        return response


class _Status(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, double: ServingDouble):
        self._double = double

    def GetModelStatus(self, request, context):
        try:
            return self._double.states(*_spec(request.model_spec)[:2])
        except Refused as refusal:
            context.abort(grpc.StatusCode[refusal.args[0]], refusal.args[1])


class _Rest(BaseHTTPRequestHandler):
    double: ServingDouble
    protocol_version = "HTTP/1.1"
    # Headers and body go out as one packet: else each answer waits 40 ms for an acknowledgement.
    wbufsize = -1

    def do_GET(self):
        self._answer(STATUS, self._describe)

    def do_POST(self):
        self._answer(PREDICT, self._predict)

    def _describe(self, model, version, label, metadata):
        number = int(version) if version else None
        if not metadata:
            states = self.double.states(model, number)
            return json_format.MessageToDict(states, preserving_proto_field_name=True)
        found = self.double.version(model, number, label)
        signatures = json_format.MessageToDict(found.signature_map, preserving_proto_field_name=True)
        spec = {"name": model, "signature_name": "", "version": str(found.number)}
        return {"model_spec": spec, "metadata": {"signature_def": signatures}}

    def _predict(self, model, version, label, method):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        version = self.double.version(model, int(version) if version else None, label)
        if method != "predict":
            raise Refused("INVALID_ARGUMENT", f"the double answers predict, not {method}")

        def inputs(names):
            if "instances" in body:
                rows = [row if isinstance(row, dict) else {names[0]: row} for row in body["instances"]]
                columns = {name: [row[name] for row in rows] for name in rows[0]}
            else:
                columns = body["inputs"] if isinstance(body["inputs"], dict) else {names[0]: body["inputs"]}
            return {name: _column(values) for name, values in columns.items()}

        outputs = self.double.predict(version, body.get("signature_name", ""), inputs)
        plain = {name: _plain(array.tolist()) for name, array in outputs.items()}
        if "inputs" in body:
            return {"outputs": plain if len(plain) > 1 else next(iter(plain.values()))}
        rows = [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]
        return {"predictions": rows if len(plain) > 1 else next(iter(plain.values()))}

    def _answer(self, pattern, handler):
        match = pattern.fullmatch(self.path)
        try:
            if match is None:
                raise Refused("INVALID_ARGUMENT", f"Malformed request: {self.command} {self.path}")
            status, content = 200, handler(*(part and unquote(part) for part in match.groups()))
        except Refused as refusal:
            status, content = HTTP_STATUS.get(refusal.args[0], 500), {"error": refusal.args[1]}
        body = json.dumps(content, indent=1).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def _column(values: list) -> np.ndarray:
    """Texts, or numbers, which become those of the signature later."""
    texts = values and isinstance(values[0], str | dict)
    return np.array([_bytes(text) for text in values], object) if texts else np.array(values)


def _bytes(text: str | dict) -> bytes:
    return base64.b64decode(text["b64"]) if isinstance(text, dict) else text.encode()


def _plain(value):
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.decode() if isinstance(value, bytes) else value


def main() -> None:
    """For benchmarks: serve a folder in a process of its own, print the addresses, end with standard input."""
    folder, model, limit, timeout_micros = sys.argv[1:]
    batching = {
        "num_batch_threads": 1,
        "max_batch_size": int(limit),
        "batch_timeout_micros": int(timeout_micros),
        "max_enqueued_batches": 10_000,
    }
    with ServingDouble(Path(folder), model, batching=batching) as double:
        print(double.grpc, double.rest, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
