"""An encoder of which only the first token's vector is read: its last layer computes no other."""

from typing import Any

import keras
import keras_nlp

from pipeline.backbone.architecture import last_embedding_layer
from pipeline.backbone.encoder import EncoderLayer


def first_token_outputs(backbone: keras_nlp.models.BertBackbone) -> dict[str, Any]:
    """What a backbone gives for its inputs, of the first token alone.

    Returns:
        "sequence_output", [batch, 1, hidden], and "pooled_output", [batch, hidden]; the weights are the backbone's, in
        its order.
    """
    *layers, last = backbone.transformer_layers
    if not isinstance(last, EncoderLayer):
        return backbone(backbone.input)
    states = (layers[-1] if layers else last_embedding_layer(backbone)).output
    first = FirstToken(last)(states, padding_mask=backbone.input["padding_mask"])
    outputs = {"sequence_output": first, "pooled_output": backbone.pooled_dense(first[:, 0])}
    # A model of its own, so that a classifier has the backbone's variables in one order, whatever is computed.
    return keras.Model(backbone.input, outputs, name=backbone.name)(backbone.input)


class FirstToken(keras.layers.Layer):
    """A transformer layer for the first token alone, on the layer's own weights.

    Call arguments: states [batch, length, hidden]; padding_mask int32 [batch, length]. Returns [batch, 1, hidden].
    """

    def __init__(self, layer: EncoderLayer):
        super().__init__(dtype=layer.dtype_policy, name=layer.name)
        self.layer = layer

    def call(self, states, padding_mask, training=None):
        return self.layer.compute(states, padding_mask, training, first_only=True)

    def compute_output_shape(self, states_shape, padding_mask_shape):
        return states_shape[0], 1, states_shape[2]
