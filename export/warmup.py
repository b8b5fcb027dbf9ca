"""Requests that TensorFlow Serving answers for itself before it lets clients at a model.

The first calls of a graph are slow: TensorFlow optimises it, and its kernels are prepared. Serving runs the requests in
assets.extra/tf_serving_warmup_requests, a TFRecord of at most 1000 PredictionLogs, before a version becomes available,
and refuses the version if one of them fails (servables/tensorflow/saved_model_warmup_util.cc).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError, Message

from export.cells import fed
from export.graph import read_graph, signatures
from export.serving_protos import PredictionLog
from export.versions import ModelError
from pipeline.errors import UserError
from pipeline.text import TextEncoder

FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_RECORDS = 1000
# Signatures that run the model dozens of times for a text: one request of the smallest size, or a server takes minutes.
COSTLY = ("explain",)
# Characters of a text that are kept: more than any model reads; and of one for a signature of COSTLY, whose graph a few
# tokens prepare as well.
LONGEST_TEXT, COSTLY_TEXT = 4_000, 40


def write_warmup(
    folder: Path, texts: Mapping[str, Sequence[str]], batch_sizes: Sequence[int], encoder: TextEncoder
) -> int:
    """Put a request of each batch size for each signature of a SavedModel (COSTLY: of the smallest, with the beginnings
    of texts) beside it.

    The names of a signature's inputs decide what it is sent: the texts, what the encoder makes of them (token_ids ...),
    or serialized tf.Examples for `inputs`. Any other number is 1, any other string is empty.

    Args:
        folder: the SavedModel.
        texts: typical cells, used in turn, by the name of the input that takes them, as export.verify has them.
        batch_sizes: none: nothing is written.
        encoder: the model's own.

    Returns:
        How many requests were written.

    Raises:
        UserError: more than a server takes.
    """
    wanted = signatures(read_graph(folder))
    asked = [(size, name) for size in batch_sizes for name in wanted if name not in COSTLY or size == min(batch_sizes)]
    count = len(asked)
    if count > MAX_RECORDS:
        raise UserError(
            f"export.warmup_batch_sizes has {len(batch_sizes)} sizes, which makes {count} requests for {len(wanted)} "
            f"signatures, but TensorFlow Serving takes {MAX_RECORDS}: give fewer."
        )
    if not count:
        return 0
    strings = dict.fromkeys(texts, tf.TensorSpec([None], tf.string))
    inputs: Any = wanted["serving_default"].inputs if "serving_default" in wanted else strings
    path = folder / FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size, name in asked:
            longest = COSTLY_TEXT if name in COSTLY else LONGEST_TEXT
            # Half a number would be another one.
            cut = {key: longest if tf.as_dtype(info.dtype) == tf.string else None for key, info in inputs.items()}
            columns = fed({key: _taken(column, size, cut[key]) for key, column in texts.items()}, inputs)
            tokens = encoder(*columns.values(), fixed_length=True)
            values = {key: value.numpy() for key, value in tokens.items()} | columns
            values["inputs"] = serialized_examples(columns)
            writer.write(_request(name, wanted[name], values, size).SerializeToString())
    return count


def read_warmup(folder: Path) -> list[Any]:
    """The requests beside a SavedModel, PredictionLogs of `serving_protos`; none where there is no file.

    Raises:
        ModelError: the file is no TFRecord of PredictionLogs.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        return [PredictionLog.FromString(record) for record in records]
    except (tf.errors.DataLossError, DecodeError) as error:
        raise ModelError(f"{FILE} is no TFRecord of PredictionLogs: {str(error).splitlines()[0]}") from error


def inputs_of(log: Any) -> tuple[str, dict[str, np.ndarray]]:
    """The signature that a request asks, and the arrays that a server feeds it, by the names of its inputs.

    Raises:
        ModelError: a kind of request that no server warms up with.
    """
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        arrays = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
    elif kind == "classify_log":
        request = log.classify_log.request
        examples = [example.SerializeToString() for example in request.input.example_list.examples]
        arrays = {"inputs": np.array(examples, object)}
    else:
        raise ModelError(f"a request of the kind {kind} warms no server up.")
    return request.model_spec.signature_name or "serving_default", arrays


def _taken(column: Sequence[str], size: int, longest: int | None) -> list[str]:
    return [column[i % len(column)][:longest] for i in range(size)]


def serialized_examples(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Serialized tf.Examples, dtype object [n], of n texts or numbers by feature."""
    examples = []
    for row in zip(*columns.values(), strict=True):
        features = {key: _feature(value) for key, value in zip(columns, row, strict=True)}
        examples.append(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return np.array(examples, object)


def _feature(value: Any) -> tf.train.Feature:
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=np.atleast_1d(value)))


def _request(name: str, signature, values: Mapping[str, np.ndarray], batch: int) -> Message:
    log = PredictionLog()
    if list(signature.inputs) == ["inputs"] and set(signature.outputs) <= {"classes", "scores"}:
        request = log.classify_log.request
        request.model_spec.signature_name = name
        request.input.example_list.examples.extend(map(tf.train.Example.FromString, values["inputs"]))
        return log
    request = log.predict_log.request
    request.model_spec.signature_name = name
    for key, spec in signature.inputs.items():
        dtype = tf.as_dtype(spec.dtype)
        value = values.get(key)
        if value is None:
            shape = [dim.size for dim in spec.tensor_shape.dim]
            shape = [batch, *(max(size, 1) for size in shape[1:])] if shape else []
            value = np.full(shape, b"" if dtype == tf.string else 1)
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value, dtype))
    return log
