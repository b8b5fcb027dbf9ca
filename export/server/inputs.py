"""What to feed a signature for given texts: these, tf.Examples of them, token ids, or something of the right shape."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from export.cells import array_of
from export.warmup import serialized_examples

# Of token ids where the signature leaves it open.
OPEN_WIDTH = 16
# [PAD], [UNK], [CLS], [SEP] and [MASK] at least are in every vocabulary.
TOKEN_IDS = 5
TOKENS, OTHER_TEXT = ("token_ids", "segment_ids", "padding_mask"), "text_b"
HOSTILE = (0.0, math.nan, math.inf, -3.4e38, 1e-40)


@dataclass(frozen=True)
class Row:
    """What one row of a request holds."""

    about: str
    """For messages: "a text of 1,000 characters"."""
    text: bytes
    other: bytes = b""
    """The second text, for pairs."""
    cells: Mapping[str, str] = field(default_factory=dict)
    """What the inputs get that are named, in place of text and number."""


def text_inputs(signatures: Mapping[str, meta_graph_pb2.SignatureDef]) -> dict[str, Any]:
    """What a model's rows are, TensorInfos by name, which are also the features of its tf.Examples."""
    default = signatures.get("serving_default")
    return dict(sorted(default.inputs.items())) if default else {"text": tf.TensorSpec([None], tf.string)}


def inputs_for(
    signature: meta_graph_pb2.SignatureDef, rows: Sequence[Row], texts: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Arrays by the names of a signature's inputs, one row each.

    Args:
        signature: `inputs` alone takes tf.Examples; text_b the other text of a pair; any other string the text; floats
            HOSTILE ones. token_ids and padding_mask get as many tokens as the text is long, other numbers 1.
        rows: at least one.
        texts: as `text_inputs`.
    """
    if list(signature.inputs) == ["inputs"]:
        return {"inputs": serialized_examples({name: _values(name, spec, rows) for name, spec in texts.items()})}
    return {name: _values(name, spec, rows) for name, spec in signature.inputs.items()}


def _values(name: str, spec, rows: Sequence[Row]) -> np.ndarray:
    dtype = tf.as_dtype(spec.dtype)
    sizes = [dim.size for dim in spec.tensor_shape.dim]
    if rows[0].cells:
        return array_of([row.cells[name] for row in rows], spec)
    if dtype == tf.string and len(sizes) == 1:
        return _strings([row.other if name == OTHER_TEXT else row.text for row in rows])
    if dtype == tf.float32 and name not in TOKENS:
        # Clients send any number, and none.
        numbers = [HOSTILE[len(row.text) % len(HOSTILE)] for row in rows]
        return np.array([np.full([max(size, 1) for size in sizes[1:]], number) for number in numbers], np.float32)
    if len(sizes) == 2 and name in TOKENS:
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
