"""What differs between BERT checkpoints beyond their sizes, on keras-nlp's BertBackbone."""

from collections.abc import Callable
from typing import Any, cast

import keras
import keras_nlp
import numpy as np
import tensorflow as tf

from pipeline.backbone.encoder import EncoderLayer, speed_up
from pipeline.backbone.transformer_parts import parts_of
from pipeline.backbone.unfilled import unfilled


class ProjectedBackbone(keras_nlp.models.ElectraBackbone):
    """A BertBackbone whose embeddings have a width of their own, before a dense layer (Clark et al., 2020)."""

    @property
    def vocabulary_size(self) -> int:
        """As BertBackbone has it."""
        return self.vocab_size


def new_backbone(
    *, vocabulary_size: int, hidden_dim: int, embedding_dim: int | None = None, dtype: str | None = None, **sizes: Any
) -> keras_nlp.models.BertBackbone:
    """A backbone of fresh weights.

    Args:
        vocabulary_size: rows of the word embeddings.
        hidden_dim: width of the layers.
        embedding_dim: width of the embeddings, None: that of the layers; any other makes a ProjectedBackbone.
        dtype: Keras dtype policy; None: the current one.
        sizes: what BertBackbone takes beside.
    """
    if embedding_dim in (None, hidden_dim):
        return keras_nlp.models.BertBackbone(
            vocabulary_size=vocabulary_size, hidden_dim=hidden_dim, dtype=dtype, **sizes
        )
    projected = ProjectedBackbone(
        vocab_size=vocabulary_size, hidden_dim=hidden_dim, embedding_dim=embedding_dim, dtype=dtype, **sizes
    )
    # It has all that a BertBackbone has, but is none to Python.
    return cast(keras_nlp.models.BertBackbone, projected)


def is_projected(backbone: keras_nlp.models.BertBackbone) -> bool:
    """Whether a dense layer leads from its embeddings to its layers."""
    return isinstance(backbone, ProjectedBackbone)


def embedding_dim_of(backbone: keras_nlp.models.BertBackbone) -> int:
    """The width of a backbone's embeddings."""
    return backbone.get_layer("token_embedding").weights[0].shape[1]


def last_embedding_layer(backbone: keras_nlp.models.BertBackbone) -> keras.Layer:
    """The layer whose output the first transformer layer takes."""
    return backbone.get_layer("embeddings_projection" if is_projected(backbone) else "embeddings_dropout")


def configure(
    backbone: keras_nlp.models.BertBackbone, *, activation: Callable | None = None, epsilon: float | None = None
) -> None:
    """Set what BertBackbone's constructor fixes; None keeps it.

    Args:
        backbone: changed in place.
        activation: of the feed-forward layers (BertBackbone: GELU in its tanh form, as google-research/bert).
        epsilon: of every layer normalisation (BertBackbone: 1e-12).
    """
    if activation is not None:
        for layer in backbone.transformer_layers:
            parts_of(layer).intermediate.activation = activation
    if epsilon is not None:
        backbone.get_layer("embeddings_layer_norm").epsilon = epsilon
        for layer in backbone.transformer_layers:
            parts = parts_of(layer)
            parts.attention_norm.epsilon = parts.output_norm.epsilon = epsilon


def activation_of(backbone: keras_nlp.models.BertBackbone) -> Callable:
    """The activation of a backbone's feed-forward layers."""
    return parts_of(backbone.transformer_layers[0]).intermediate.activation


def epsilon_of(backbone: keras_nlp.models.BertBackbone) -> float:
    """The epsilon of a backbone's layer normalisations."""
    return backbone.get_layer("embeddings_layer_norm").epsilon


def embed_in_float32(backbone: keras_nlp.models.BertBackbone) -> None:
    """Under mixed precision, look up and add embeddings in the float32 that their tables are kept in.

    The sum is then rounded once, after its normalisation, in place of three times before, and no table is cast as a
    whole at every step (with which its gradient would be as large as the table).
    """
    layers = [backbone.get_layer(f"{name}_embedding") for name in ("token", "position", "segment")]
    if layers[0].compute_dtype == layers[0].variable_dtype:
        return
    for layer in (*layers, backbone.get_layer("embeddings_add")):
        layer.dtype_policy = layer.variable_dtype


def like(
    backbone: keras_nlp.models.BertBackbone,
    *,
    num_layers: int | None = None,
    dtype: str | None = None,
    plain: bool = False,
    words: np.ndarray | None = None,
) -> keras_nlp.models.BertBackbone:
    """A copy of a backbone, with its weights, in another dtype policy, of fewer layers or with other words.

    Args:
        backbone: left as it is.
        num_layers: keep only the first ones; None: all.
        dtype: Keras dtype policy; weights are rounded to it. None: the current policy.
        plain: of keras-nlp's own layer classes, even where the backbone has been sped up, and nothing frozen: for other
            programs.
        words: float [words, hidden], in place of the word embeddings.
    """
    with unfilled(backbone.hidden_dim):
        copy = new_backbone(
            vocabulary_size=backbone.vocabulary_size if words is None else len(words),
            num_layers=backbone.num_layers if num_layers is None else num_layers,
            num_heads=backbone.num_heads,
            hidden_dim=backbone.hidden_dim,
            embedding_dim=embedding_dim_of(backbone),
            intermediate_dim=backbone.intermediate_dim,
            dropout=backbone.dropout,
            max_sequence_length=backbone.max_sequence_length,
            num_segments=backbone.num_segments,
            dtype=dtype,
        )
    configure(copy, activation=activation_of(backbone), epsilon=epsilon_of(backbone))
    for layer in copy.layers:
        old = backbone.get_layer(layer.name)
        layer.trainable = plain or old.trainable
        if words is not None and layer is copy.token_embedding:
            layer.embeddings.assign(tf.cast(words, layer.embeddings.dtype))
        elif layer.weights:
            copy_weights(old, layer)
    embed_in_float32(copy)
    if not plain and isinstance(backbone.transformer_layers[0], EncoderLayer):
        speed_up(copy)
    return copy


def copy_weights(source: keras.Layer, target: keras.Layer) -> None:
    """Copy all weights between two layers or models of one structure, rounding to the target's dtypes."""
    for old, new in zip(source.weights, target.weights, strict=True):
        new.assign(tf.cast(tf.convert_to_tensor(old.value), new.dtype))
