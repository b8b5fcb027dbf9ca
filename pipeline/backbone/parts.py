"""Every variable of a BertBackbone, and its name in each kind of checkpoint: the one table of names."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import keras
import keras_nlp
import numpy as np
import tensorflow as tf

from pipeline.backbone.architecture import is_projected
from pipeline.backbone.transformer_parts import parts_of
from pipeline.errors import UserError


@dataclass(frozen=True)
class Part:
    """One variable of a backbone."""

    google: str
    """Its name in google-research/bert's checkpoints."""
    huggingface: str
    """Its name in transformers' BertModel."""
    hub: str
    """Its name in the BertEncoder of tensorflow/models, which TF-Hub's encoders are."""
    variable: keras.Variable
    shape: tuple[int, ...]
    """As google-research/bert keeps it: matrices [in, out], attention's heads side by side."""

    @property
    def is_kernel(self) -> bool:
        """Whether it is the matrix of a dense layer, which transformers keeps as [out, in]."""
        return self.google.endswith("/kernel")

    def value(self) -> np.ndarray:
        """A copy, float32, of `shape`."""
        value = tf.cast(tf.convert_to_tensor(self.variable.value), tf.float32)
        return value.numpy().reshape(self.shape)

    def assign(self, value: np.ndarray) -> None:
        """Set it from an array of `shape`."""
        self.variable.assign(value.reshape(self.variable.shape))


class Tensors(Protocol):
    """The tensors of a checkpoint by name."""

    source: str
    """The checkpoint, for messages."""

    def __iter__(self) -> Iterator[str]: ...

    def __contains__(self, name: str) -> bool: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(self, name: str) -> np.ndarray:
        """float32, whatever the file has."""
        ...


def parts(backbone: keras_nlp.models.BertBackbone, pooler: bool = True) -> Iterator[Part]:
    """All variables of a backbone, from the embeddings up; `pooler`: with the pooler's."""

    def dense(google: str, huggingface: str, hub: str, layer):
        out = math.prod(layer.bias.shape)
        shape = math.prod(layer.kernel.shape) // out, out
        yield Part(f"{google}/kernel", f"{huggingface}.weight", f"{hub}/kernel", layer.kernel, shape)
        yield Part(f"{google}/bias", f"{huggingface}.bias", f"{hub}/bias", layer.bias, (out,))

    def norm(google: str, huggingface: str, hub: str, layer):
        for name, other in (("gamma", "weight"), ("beta", "bias")):
            variable = getattr(layer, name)
            yield Part(f"{google}/{name}", f"{huggingface}.{other}", f"{hub}/{name}", variable, tuple(variable.shape))

    for name, hub, ours in (
        ("word_embeddings", "word_embeddings", "token"),
        ("position_embeddings", "position_embedding", "position"),
        ("token_type_embeddings", "type_embeddings", "segment"),
    ):
        (table,) = backbone.get_layer(f"{ours}_embedding").weights
        yield Part(
            f"bert/embeddings/{name}", f"embeddings.{name}.weight", f"{hub}/embeddings", table, tuple(table.shape)
        )
    yield from norm(
        "bert/embeddings/LayerNorm",
        "embeddings.LayerNorm",
        "embeddings/layer_norm",
        backbone.get_layer("embeddings_layer_norm"),
    )
    if is_projected(backbone):
        layer = backbone.get_layer("embeddings_projection")
        yield from dense("bert/embeddings_project", "embeddings_project", "embedding_projection", layer)
    for i, layer in enumerate(backbone.transformer_layers):
        inner = parts_of(layer)
        for make, name, hub, ours in (
            (dense, "attention/self/query", "self_attention/query", inner.query),
            (dense, "attention/self/key", "self_attention/key", inner.key),
            (dense, "attention/self/value", "self_attention/value", inner.value),
            (dense, "attention/output/dense", "self_attention/attention_output", inner.attention_output),
            (norm, "attention/output/LayerNorm", "self_attention_layer_norm", inner.attention_norm),
            (dense, "intermediate/dense", "intermediate", inner.intermediate),
            (dense, "output/dense", "output", inner.output),
            (norm, "output/LayerNorm", "output_layer_norm", inner.output_norm),
        ):
            huggingface = f"encoder.layer.{i}.{name.replace('/', '.')}"
            yield from make(f"bert/encoder/layer_{i}/{name}", huggingface, f"transformer/layer_{i}/{hub}", ours)
    if pooler:
        yield from dense("bert/pooler/dense", "pooler.dense", "pooler_transform", backbone.get_layer("pooled_dense"))


def fill(
    targets: dict[str, Part], tensors: Tensors, unexpected: Iterable[str], transposed: bool = False, sizes: str = ""
) -> None:
    """Copy a checkpoint into a backbone's variables.

    Args:
        targets: name in the checkpoint to part.
        tensors: the checkpoint.
        unexpected: names in it that belong to an encoder, but not to this one.
        transposed: whether it keeps the matrices of dense layers as [out, in].
        sizes: the file that the backbone's sizes are from, for messages.

    Raises:
        UserError: missing, unexpected or misshapen tensors.
    """
    missing = [name for name in targets if name not in tensors]
    if missing:
        found = f"; it has {', '.join(list(tensors)[:3])} ..." if len(missing) == len(targets) else ""
        raise UserError(f"{tensors.source}: the weights lack {_some(missing)}{found}")
    unexpected = [f"{name} {tensors.shape(name)}" for name in unexpected]
    if unexpected:
        raise UserError(f"{tensors.source}: it has weights that {sizes} does not describe: {_some(unexpected)}")
    for name, part in targets.items():
        flip = transposed and part.is_kernel
        shape = part.shape[::-1] if flip else part.shape
        if tensors.shape(name) != shape:
            raise UserError(f"{tensors.source}: {name} has shape {tensors.shape(name)}, {sizes} asks for {shape}.")
        value = tensors.read(name)
        part.assign(value.T if flip else value)


def _some(names: list[str], count: int = 5) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return f"{', '.join(names[:count])}{more}."
