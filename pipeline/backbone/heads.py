"""The heads that BERT was pre-trained with, as plain arrays between a checkpoint and a model."""

from collections.abc import Container
from dataclasses import dataclass
from typing import NamedTuple

import keras_nlp
import numpy as np

from pipeline.backbone.architecture import embedding_dim_of
from pipeline.errors import UserError


@dataclass
class PretrainingHeads:
    """The masked-token head and, where there is one, the next-sentence head; float32 arrays.

    The scores of a position are norm(activation(x @ transform_kernel + transform_bias)) @ E.T + output_bias. E are the
    backbone's word embeddings, which are not kept twice; activation and epsilon are the encoder's. The scores of a
    pair (0: follows, 1: random) are pooled @ next_sentence_kernel + next_sentence_bias.
    """

    transform_kernel: np.ndarray
    """[hidden, width], inputs first; width: of the word embeddings."""
    transform_bias: np.ndarray
    """[width]"""
    norm_gamma: np.ndarray
    """[width]"""
    norm_beta: np.ndarray
    """[width]"""
    output_bias: np.ndarray
    """[vocabulary]"""
    next_sentence_kernel: np.ndarray | None = None
    """[hidden, 2]"""
    next_sentence_bias: np.ndarray | None = None
    """[2]"""


class HeadName(NamedTuple):
    """The names of one array in google-research/bert's checkpoints and in transformers'."""

    field: str
    google: str
    huggingface: str


MASKED = (
    HeadName("transform_kernel", "cls/predictions/transform/dense/kernel", "cls.predictions.transform.dense.weight"),
    HeadName("transform_bias", "cls/predictions/transform/dense/bias", "cls.predictions.transform.dense.bias"),
    HeadName("norm_gamma", "cls/predictions/transform/LayerNorm/gamma", "cls.predictions.transform.LayerNorm.weight"),
    HeadName("norm_beta", "cls/predictions/transform/LayerNorm/beta", "cls.predictions.transform.LayerNorm.bias"),
    HeadName("output_bias", "cls/predictions/output_bias", "cls.predictions.bias"),
)
NEXT_SENTENCE = (
    HeadName("next_sentence_kernel", "cls/seq_relationship/output_weights", "cls.seq_relationship.weight"),
    HeadName("next_sentence_bias", "cls/seq_relationship/output_bias", "cls.seq_relationship.bias"),
)
# Which of them each format keeps as [out, in].
TRANSPOSED_GOOGLE = ("next_sentence_kernel",)
TRANSPOSED_HUGGINGFACE = ("transform_kernel", "next_sentence_kernel")


def read_heads(
    tensors, names: dict[str, str], transposed: Container[str], backbone: keras_nlp.models.BertBackbone
) -> tuple[PretrainingHeads | None, list[str]]:
    """The heads of a checkpoint.

    Args:
        tensors: a `parts.Tensors`.
        names: field to name in the checkpoint.
        transposed: fields that it keeps as [out, in].
        backbone: whose sizes they have.

    Returns:
        The heads, and why there are none where there is only a part of them (a checkpoint is as good without).

    Raises:
        UserError: a tensor of another shape.
    """
    hidden, width = backbone.hidden_dim, embedding_dim_of(backbone)
    shapes = {"transform_kernel": (hidden, width), "output_bias": (backbone.vocabulary_size,)}
    shapes |= {"next_sentence_kernel": (hidden, 2), "next_sentence_bias": (2,)}
    there = [field for field, name in names.items() if name in tensors]
    missing = [names[name.field] for name in MASKED if name.field not in there]
    if missing:
        return None, [f"its pre-training heads are left out, for want of {', '.join(missing)}"] if there else []
    if len([name for name in NEXT_SENTENCE if name.field in there]) < 2:
        there = [name.field for name in MASKED]
    arrays = {}
    for field in there:
        shape = shapes.get(field, (width,))
        stored = shape[::-1] if field in transposed else shape
        if tensors.shape(names[field]) != stored:
            raise UserError(
                f"{tensors.source}: {names[field]} has shape {tensors.shape(names[field])}, but the encoder asks for "
                f"{stored}."
            )
        value = tensors.read(names[field])
        arrays[field] = np.ascontiguousarray(value.T if field in transposed else value)
    return PretrainingHeads(**arrays), []


def head_arrays(heads: PretrainingHeads, transposed: Container[str]) -> list[tuple[HeadName, np.ndarray]]:
    """Every array that there is, as a format keeps it, with its names."""
    arrays = [(name, getattr(heads, name.field)) for name in (*MASKED, *NEXT_SENTENCE)]
    return [
        (name, np.ascontiguousarray(array.T if name.field in transposed else array, np.float32))
        for name, array in arrays
        if array is not None
    ]
