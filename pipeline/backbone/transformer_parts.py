"""The layers inside keras-nlp's TransformerEncoder. Their names are private to it: only this file uses them."""

from dataclasses import dataclass

import keras
import keras_nlp


@dataclass(frozen=True)
class TransformerParts:
    """The layers of one TransformerEncoder, in the order of their computation."""

    query: keras.layers.EinsumDense
    """Kernel [hidden, heads, head], bias [heads, head]; key and value alike."""
    key: keras.layers.EinsumDense
    value: keras.layers.EinsumDense
    score_dropout: keras.layers.Dropout
    """Of the attention probabilities."""
    attention_output: keras.layers.EinsumDense
    """Kernel [heads, head, hidden], bias [hidden]."""
    attention_dropout: keras.layers.Dropout
    attention_norm: keras.layers.LayerNormalization
    intermediate: keras.layers.Dense
    """Kernel [hidden, intermediate]; has the activation."""
    output: keras.layers.Dense
    """Kernel [intermediate, hidden]."""
    output_dropout: keras.layers.Dropout
    output_norm: keras.layers.LayerNormalization


def parts_of(layer: keras_nlp.layers.TransformerEncoder) -> TransformerParts:
    """The layers inside a built TransformerEncoder."""
    attention = layer._self_attention_layer
    return TransformerParts(
        query=attention.query_dense,
        key=attention.key_dense,
        value=attention.value_dense,
        score_dropout=attention._dropout_layer,
        attention_output=attention.output_dense,
        attention_dropout=layer._self_attention_dropout,
        attention_norm=layer._self_attention_layer_norm,
        intermediate=layer._feedforward_intermediate_dense,
        output=layer._feedforward_output_dense,
        output_dropout=layer._feedforward_dropout,
        output_norm=layer._feedforward_layer_norm,
    )
