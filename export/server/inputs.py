"""What to feed a signature for given texts: these, tf.Examples of them, token ids, or something of the right shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from export.warmup import serialized_examples

# Of token ids where the signature leaves it open.
OPEN_WIDTH = 16
# [PAD], [UNK], [CLS], [SEP] and [MASK] at least are in every vocabulary.
TOKEN_IDS = 5


@dataclass(frozen=True)
class Row:
    """What one row of a request holds."""

    about: str
    """For messages: "a text of 1,000 characters"."""
    text: bytes
    other: bytes = b""
    """The second text, for pairs."""


def text_inputs(signatures: Mapping[str, meta_graph_pb2.SignatureDef]) -> list[str]:
    """Names of the texts of a model's rows, which are also those of the features of its tf.Examples."""
    default = signatures.get("serving_default")
    return sorted(default.inputs) if default else ["text"]


def inputs_for(
    signature: meta_graph_pb2.SignatureDef, rows: Sequence[Row], texts: Sequence[str]
) -> dict[str, np.ndarray]:
    """Arrays by the names of a signature's inputs, one row each.

    Args:
        signature: `inputs` alone takes tf.Examples; text_b, or the second of `texts`, the other text of a pair; any
            other string the text. token_ids and padding_mask get as many tokens as the text is long, other numbers 1.
        rows: at least one.
        texts: as `text_inputs`.
    """
    columns = {name: _strings([row.other if i else row.text for row in rows]) for i, name in enumerate(texts)}
    if list(signature.inputs) == ["inputs"]:
        return {"inputs": serialized_examples(columns)}
    return {name: _values(name, spec, rows, columns) for name, spec in signature.inputs.items()}


def _values(name: str, spec, rows: Sequence[Row], columns: Mapping[str, np.ndarray]) -> np.ndarray:
    dtype = tf.as_dtype(spec.dtype)
    sizes = [dim.size for dim in spec.tensor_shape.dim]
    if dtype == tf.string and len(sizes) == 1:
        return columns[name] if name in columns else _strings([row.text for row in rows])
    if len(sizes) == 2 and name in ("token_ids", "segment_ids", "padding_mask"):
        width = sizes[1] if sizes[1] > 0 else OPEN_WIDTH
        place = np.arange(width)
        mask = np.stack([place < 2 + len(row.text) % width for row in rows])
        ids = np.stack([(place + len(row.text)) % TOKEN_IDS for row in rows])
        values = {"token_ids": mask * ids, "segment_ids": 0 * ids, "padding_mask": mask}[name]
        return values.astype(dtype.as_numpy_dtype)
    shape = [len(rows), *(max(size, 1) for size in sizes[1:])] if sizes else []
    return np.full(shape, b"", object) if dtype == tf.string else np.ones(shape, dtype.as_numpy_dtype)


def _strings(texts: Sequence[bytes]) -> np.ndarray:
    values = np.empty(len(texts), object)
    values[:] = texts
    return values
