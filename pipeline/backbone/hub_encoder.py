"""A backbone as TF-Hub's BERT encoders are: a reusable SavedModel, which can be trained further in other programs."""

from collections.abc import Callable

import keras
import tensorflow as tf

from pipeline.backbone.architecture import activation_of, configure, epsilon_of, like
from pipeline.backbone.bert_config import hidden_act_of
from pipeline.backbone.heads import PretrainingHeads
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.backbone.parts import parts

# The names of TF-Hub's BERT encoders, and a backbone's.
INPUTS = {"input_word_ids": "token_ids", "input_mask": "padding_mask", "input_type_ids": "segment_ids"}
MASKED_VARIABLES = {
    "transform_kernel": "cls/predictions/transform/dense/kernel",
    "transform_bias": "cls/predictions/transform/dense/bias",
    "norm_gamma": "cls/predictions/transform/LayerNorm/gamma",
    "norm_beta": "cls/predictions/transform/LayerNorm/beta",
    "output_bias": "cls/predictions/output_bias/bias",
}


def reusable_encoder(loaded: LoadedBackbone) -> tf.train.Checkpoint:
    """An object for tf.saved_model.save.

    Loaded again, it is called with input_word_ids, input_mask and input_type_ids, int32 [batch, length], and
    `training`, which turns dropout on. It gives sequence_output, float32 [batch, length, hidden]; encoder_outputs, a
    list of the outputs of all layers, of the same shape; and, where there is a pooler, pooled_output and default, both
    the same float32 [batch, hidden]. With a masked-token head its `mlm` takes masked_lm_positions, int32 [batch, n],
    too, and gives mlm_logits, float32 [batch, n, vocabulary], too.

    Args:
        loaded: any backbone; variables are float32.
    """
    # Of Keras' own layers: gradients of functions are derived from their graph where they are loaded, and the custom
    # ones of this project's are not there.
    backbone = like(loaded.backbone, dtype="float32", plain=True)
    if hidden_act_of(backbone) == "gelu":
        configure(backbone, activation=_gelu)
    outputs = {
        "sequence_output": backbone.output["sequence_output"],
        "encoder_outputs": [layer.output for layer in backbone.transformer_layers],
    }
    if loaded.has_pooler:
        outputs["pooled_output"] = outputs["default"] = backbone.output["pooled_output"]
    model = keras.Model(backbone.input, outputs)
    named = {
        id(part.variable): tf.Variable(part.variable.value, name=part.hub)
        for part in parts(backbone, loaded.has_pooler)
    }
    variables = [named[id(variable)] for variable in model.trainable_variables]

    def encode(inputs: dict[str, tf.Tensor], training: bool = False) -> dict:
        # The states of dropout's generators: drawn at each call, so that there is nothing to keep.
        states = [
            tf.cast(tf.random.uniform(state.shape, maxval=tf.int32.max, dtype=tf.int32), state.dtype)
            if training
            else tf.zeros(state.shape, state.dtype)
            for state in model.non_trainable_variables
        ]
        ours = {name: inputs[hub] for hub, name in INPUTS.items()}
        return model.stateless_call(variables, states, ours, training=training)[0]

    specs = {name: tf.TensorSpec([None, None], tf.int32, name) for name in INPUTS}
    encoder = _reusable(encode, specs, variables)
    if loaded.heads is not None:
        head = {
            field: tf.Variable(getattr(loaded.heads, field), name=name, dtype=tf.float32)
            for field, name in MASKED_VARIABLES.items()
        }
        words = next(variable for variable in variables if variable.name.startswith("word_embeddings/"))
        inner = activation_of(backbone)
        epsilon = epsilon_of(backbone)

        def predict(inputs: dict[str, tf.Tensor], training: bool = False) -> dict:
            outputs = encode(inputs, training)
            rows = tf.gather(outputs["sequence_output"], inputs["masked_lm_positions"], batch_dims=1)
            return outputs | {"mlm_logits": _masked_scores(PretrainingHeads(**head), rows, words, inner, epsilon)}

        positions = {"masked_lm_positions": tf.TensorSpec([None, None], tf.int32, "masked_lm_positions")}
        encoder.mlm = _reusable(predict, specs | positions, [*variables, *head.values()])
    return encoder


def _reusable(call: Callable, specs: dict[str, tf.TensorSpec], variables: list[tf.Variable]) -> tf.train.Checkpoint:
    """What https://www.tensorflow.org/hub/reusable_saved_models asks for; all variables can be trained."""
    # In a tf.Module `variables` would be a property, which is not saved.
    reusable = tf.train.Checkpoint()
    reusable.__call__ = tf.function(call, autograph=False)
    for training in (False, True):
        reusable.__call__.get_concrete_function(specs, training=training)
    reusable.variables = variables
    reusable.trainable_variables = variables
    reusable.regularization_losses = []
    return reusable


def _masked_scores(head: PretrainingHeads, rows, words, activation: Callable, epsilon: float) -> tf.Tensor:
    """float32 [batch, n, vocabulary] of the sequence output at n positions, as PretrainingHeads says."""
    x = activation(tf.einsum("bnh,hi->bni", rows, head.transform_kernel) + head.transform_bias)
    mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
    x = tf.nn.batch_normalization(x, mean, variance, head.norm_beta, head.norm_gamma, epsilon)
    return tf.einsum("bnh,vh->bnv", x, words) + head.output_bias


def _gelu(x):
    """The exact GELU, without the custom gradient of `activations.gelu`."""
    return keras.activations.gelu(x, approximate=False)
