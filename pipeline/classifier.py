"""A classification head on a BERT backbone."""

import keras
import tensorflow as tf
from keras import ops

from pipeline.backbone.architecture import copy_weights, like
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.errors import UserError

__all__ = ["MaskedMean", "build_classifier", "copy_weights", "probabilities", "serving_copy", "with_hidden_states"]


def build_classifier(
    loaded: LoadedBackbone,
    num_classes: int,
    *,
    pooling: str = "fresh",
    dropout: float = 0.1,
    seed: int = 0,
    dtype: str | None = None,
    model_class: type[keras.Model] = keras.Model,
) -> keras.Model:
    """Backbone, pooling, dropout and a dense layer.

    Args:
        loaded: the backbone; the model shares its variables, and freezes its pooler if it is not used.
        num_classes: C.
        pooling: "mean" of the tokens' vectors; "cls": the checkpoint's own [CLS] pooler (dense and tanh);
            "fresh": the same pooler newly initialised.
        dropout: rate before the dense layer.
        seed: of the new weights and of the dropout before the dense layer.
        dtype: Keras dtype policy of the pooling; None: the current one.
        model_class: keras.Model or a subclass to build.

    Returns:
        Inputs: dict of token_ids, segment_ids and padding_mask, int32 [batch, length]; output: logits, float32
        [batch, C].

    Raises:
        UserError: pooling "cls" with a checkpoint that has no pooler.
    """
    backbone = loaded.backbone
    if pooling == "cls" and not loaded.has_pooler:
        raise UserError(f"model.pooling cls: {loaded.source} has no pooler weights; use fresh or mean.")
    # A pooler that is not used has no gradient.
    backbone.get_layer("pooled_dense").trainable = pooling == "cls"
    outputs = backbone(backbone.input)
    sequence = outputs["sequence_output"]
    if pooling == "cls":
        pooled = outputs["pooled_output"]
    elif pooling == "mean":
        pooled = MaskedMean(dtype=dtype, name="pooler")(sequence, backbone.input["padding_mask"])
    elif pooling == "fresh":
        pooled = keras.layers.Dense(
            backbone.hidden_dim, activation="tanh", kernel_initializer=_initializer(seed), dtype=dtype, name="pooler"
        )(sequence[:, 0])
    else:
        raise UserError(f"model.pooling {pooling!r} is not one of mean, cls, fresh.")
    pooled = keras.layers.Dropout(dropout, seed=seed, dtype=dtype, name="classifier_dropout")(pooled)
    # The last layer in float32: a softmax over bfloat16 logits would round probabilities to 3 digits.
    head = keras.layers.Dense(num_classes, kernel_initializer=_initializer(seed + 1), dtype="float32", name="logits")
    return model_class(inputs=backbone.input, outputs=head(pooled), name="classifier")


def serving_copy(model: keras.Model, dtype: str, weights: str | None = None) -> keras.Model:
    """The same classifier in the numerics that it will be served in.

    Args:
        model: from `build_classifier`; left as it is.
        dtype: Keras dtype policy, such as "float32", or "bfloat16" (weights too: half the size). Weights are rounded
            to it.
        weights: "bfloat16": their values are rounded as they would be stored so, but for the last layer's; None or
            "float32": as they are.

    Returns:
        A plain keras.Model with variables of its own.
    """
    backbone = _backbone_of(model)
    poolers = [layer for layer in model.layers if layer.name == "pooler"]
    pooling = "cls" if not poolers else "mean" if isinstance(poolers[0], MaskedMean) else "fresh"
    loaded = LoadedBackbone(like(backbone, dtype=dtype), (), None, has_pooler=True)
    copy = build_classifier(loaded, model.output_shape[-1], pooling=pooling, dropout=0.0, dtype=dtype)
    for layer in copy.layers:
        if layer.name in ("pooler", "logits"):
            copy_weights(model.get_layer(layer.name), layer)
    if weights == "bfloat16":
        kept = {id(variable) for variable in copy.get_layer("logits").weights}
        for variable in copy.weights:
            if id(variable) not in kept:
                variable.assign(ops.cast(ops.cast(variable, weights), variable.dtype))
    return copy


def with_hidden_states(model: keras.Model) -> keras.Model:
    """A view of a classifier, of the same layers, that also gives what is between them.

    Args:
        model: from `build_classifier`.

    Returns:
        The same inputs; output: a dict of "logits", float32 [batch, C], and "states", a list of float [batch, length,
        hidden]: the embeddings, then the output of each transformer layer.
    """
    backbone = _backbone_of(model)
    outputs = backbone.output
    head = {layer.name: layer for layer in model.layers}
    if "pooler" not in head:
        pooled = outputs["pooled_output"]
    elif isinstance(head["pooler"], MaskedMean):
        pooled = head["pooler"](outputs["sequence_output"], backbone.input["padding_mask"])
    else:
        pooled = head["pooler"](outputs["sequence_output"][:, 0])
    logits = head["logits"](head["classifier_dropout"](pooled))
    layers = [backbone.get_layer("embeddings_dropout"), *backbone.transformer_layers]
    return keras.Model(backbone.input, {"logits": logits, "states": [layer.output for layer in layers]})


def _backbone_of(model: keras.Model) -> keras.Model:
    (backbone,) = (layer for layer in model.layers if hasattr(layer, "transformer_layers"))
    return backbone


def probabilities(logits: tf.Tensor, multi_label: bool) -> tf.Tensor:
    """float32 [batch, C]: independent sigmoids with several labels a row, else a softmax."""
    return tf.sigmoid(logits) if multi_label else tf.nn.softmax(logits)


@keras.saving.register_keras_serializable(package="pipeline")
class MaskedMean(keras.layers.Layer):
    """Mean over the tokens that are not padding, in float32.

    Call arguments: sequence [batch, length, hidden]; padding_mask int32 [batch, length]. Returns [batch, hidden].
    """

    def call(self, sequence, padding_mask):
        mask = ops.cast(padding_mask, "float32")[..., None]
        total = ops.sum(ops.cast(sequence, "float32") * mask, axis=1)
        return ops.cast(total / ops.maximum(ops.sum(mask, axis=1), 1.0), self.compute_dtype)


def _initializer(seed: int) -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=0.02, seed=seed)
