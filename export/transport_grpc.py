"""TensorFlow Serving over gRPC: its PredictionService and ModelService."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from export.address import Address, Proxy
from export.failures import BadAnswer, RequestFailed, failure
from export.transport import Columns, Metadata, Model, Reply, Signature, Tls, spec_of


class Grpc:
    """See Transport."""

    def __init__(self, address: Address, proxy: Proxy | None, tls: Tls | None):
        self.target = str(address)
        options: dict[str, Any] = {
            "grpc.max_send_message_length": -1,
            "grpc.max_receive_message_length": -1,
            # The client's own attempts are the only ones.
            "grpc.enable_retries": 0,
            "grpc.initial_reconnect_backoff_ms": 100,
            "grpc.max_reconnect_backoff_ms": 2000,
            # What proxy_of says, not gRPC's own reading of the environment.
            "grpc.enable_http_proxy": int(proxy is not None),
        }
        if proxy is not None:
            user = f"{quote(proxy.user, safe=':')}@" if proxy.user else ""
            options["grpc.http_proxy"] = f"http://{user}{proxy.address}"
        if tls is None:
            self._channel = grpc.insecure_channel(self.target, list(options.items()))
        else:
            root, certificate, key = (path and Path(path).read_bytes() for path in tls)
            credentials = grpc.ssl_channel_credentials(root, key, certificate)
            self._channel = grpc.secure_channel(self.target, credentials, list(options.items()))
        self._predict = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._status = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(self, model: Model, signature: Signature, columns: Columns, timeout: float) -> Reply:
        tensors = {name: tf.make_tensor_proto(column) for name, column in columns.items()}
        request = predict_pb2.PredictRequest(model_spec=_spec(model, model.signature), inputs=tensors)
        answer = self._call(self._predict.Predict, request, model, timeout)
        outputs = {name: self._array(name, tensor, model) for name, tensor in answer.outputs.items()}
        return Reply(outputs, _version(answer.model_spec))

    def metadata(self, model: Model, timeout: float) -> Metadata:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=_spec(model), metadata_field=["signature_def"]
        )
        answer = self._call(self._predict.GetModelMetadata, request, model, timeout)
        found = get_model_metadata_pb2.SignatureDefMap()
        try:
            known = answer.metadata["signature_def"].Unpack(found)
        except DecodeError:
            known = False
        if not known:
            raise BadAnswer(f"{self.target} described {model} without its signatures.")
        signatures = {
            name: Signature(_specs(signature.inputs), _specs(signature.outputs))
            for name, signature in found.signature_def.items()
        }
        return Metadata(signatures, _version(answer.model_spec))

    def versions(self, model: Model, timeout: float) -> dict[int, str]:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=_spec(model))
        answer = self._call(self._status.GetModelStatus, request, model, timeout)
        name_of = get_model_status_pb2.ModelVersionStatus.State.Name
        return {row.version: name_of(row.state) for row in answer.model_version_status}

    def close(self) -> None:
        self._channel.close()

    def _call(self, method, request, model: Model, timeout: float):
        end = time.monotonic() + timeout
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            # What is raised is a call too.
            code, details = error.code().name, error.details() or ""  # pyright: ignore[reportAttributeAccessIssue]
            wait = _pushback(error.trailing_metadata())  # pyright: ignore[reportAttributeAccessIssue]
            if code == "DEADLINE_EXCEEDED" and time.monotonic() < end - 0.05:
                # Somebody else's time was over, as with HTTP 504.
                code = "UNAVAILABLE"
            raise failure(self.target, model, code, details, wait) from error
        except ValueError as error:
            # gRPC's own word for it.
            if "closed channel" not in str(error):
                raise
            raise RequestFailed(f"the client of {self.target} is closed.") from error

    def _array(self, name: str, tensor, model: Model) -> np.ndarray:
        try:
            array = tf.make_ndarray(tensor)
        except (TypeError, ValueError) as error:
            raise BadAnswer(f"{self.target} answered {model} with {name!r} that is no whole tensor.") from error
        return array.astype(np.float32) if array.dtype == tf.bfloat16.as_numpy_dtype else array


def _spec(model: Model, signature: str = "") -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=model.name, signature_name=signature)
    if model.label:
        spec.version_label = model.label
    elif model.version is not None:
        spec.version.value = model.version
    return spec


def _version(spec: model_pb2.ModelSpec) -> int | None:
    return spec.version.value if spec.HasField("version") else None


def _specs(tensors) -> dict:
    found = {}
    for name in sorted(tensors):
        info = tensors[name]
        known = info.HasField("tensor_shape") and not info.tensor_shape.unknown_rank
        # A type that came after this was written has a number, but no name.
        dtype = types_pb2.DataType.Name(info.dtype) if info.dtype in types_pb2.DataType.values() else None
        found[name] = spec_of(dtype, [dim.size for dim in info.tensor_shape.dim] if known else None)
    return found


def _pushback(metadata) -> float | None:
    """gRPC's Retry-After."""
    given = dict(metadata or ()).get("grpc-retry-pushback-ms", "")
    return int(given) / 1000 if isinstance(given, str) and given.isascii() and given.isdigit() else None
