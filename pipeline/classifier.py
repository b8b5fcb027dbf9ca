"""A prediction head on a BERT backbone."""

from dataclasses import dataclass, replace

import keras
import keras_nlp
from keras import ops

from pipeline.backbone.architecture import copy_weights, last_embedding_layer, like
from pipeline.backbone.classifier_head import ClassifierHead
from pipeline.backbone.dropout import Dropout
from pipeline.backbone.first_token import first_token_outputs
from pipeline.backbone.loaded import LoadedBackbone
from pipeline.chunk_pooling import ChunkPooling, Kind
from pipeline.errors import UserError
from pipeline.features.columns import COLUMNS
from pipeline.fusion import Fusion
from pipeline.fusion import Kind as FusionKind
from pipeline.layer_mean import MeanOfLayers
from pipeline.long_texts import CHUNKS
from pipeline.poolings import Pooling, pooling_class
from pipeline.tasks.task import Task

__all__ = [
    "Parts",
    "build_classifier",
    "copy_weights",
    "head_of",
    "over_chunks",
    "over_columns",
    "parts_of",
    "pooled_model",
    "serving_copy",
    "take_head",
    "with_hidden_states",
]


@dataclass(frozen=True)
class Parts:
    """What a classifier is made of, as `build_classifier` has put it together."""

    backbone: keras_nlp.models.BertBackbone
    pooling_name: str
    pooling: Pooling
    pooled_layers: int
    dropout: keras.layers.Dropout
    head: keras.layers.Dense
    pooled: keras.KerasTensor
    """What the dropout takes, [batch, hidden]."""
    chunk_pooling: ChunkPooling | None = None
    """From the vectors of a text's chunks to one; None: a text is one sequence."""
    fusion: Fusion | None = None
    """Of a text's vector and the columns beside it; None: there are none."""

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """Layers with weights between the backbone and the dropout."""
        return [*self.pooling.layers, *(layer for layer in (self.chunk_pooling, self.fusion) if layer)]

    def of_texts(self, vectors, inputs: dict):
        """What the dropout takes of the pooled vectors of sequences, [rows, hidden], and a model's inputs."""
        if self.chunk_pooling:
            vectors = self.chunk_pooling(vectors, inputs["padding_mask"], inputs[CHUNKS])
        return self.fusion(vectors, inputs[COLUMNS]) if self.fusion else vectors


def build_classifier(
    loaded: LoadedBackbone,
    outputs: int,
    *,
    pooling: str = "fresh",
    pooled_layers: int = 1,
    dropout: float = 0.1,
    seed: int = 0,
    dtype: str | None = None,
    model_class: type[keras.Model] = keras.Model,
) -> keras.Model:
    """Backbone, pooling, dropout and a dense layer.

    Args:
        loaded: the backbone; the model shares its variables, and freezes its pooler if it is not used.
        outputs: of the dense layer, C.
        pooling: the name of a file in pipeline/poolings.
        pooled_layers: of how many layers, from the last on down, the mean is pooled.
        dropout: rate before the dense layer.
        seed: of the new weights and of the dropout before the dense layer.
        dtype: Keras dtype policy of the pooling; None: the current one.
        model_class: keras.Model or a subclass to build.

    Returns:
        Inputs: dict of token_ids, segment_ids and padding_mask, int32 [batch, length]; output: logits, float32
        [batch, C].

    Raises:
        UserError: no such pooling, the checkpoint lacks what it needs, or has fewer layers than are pooled.
    """
    chosen = pooling_class(pooling)
    chosen.check(loaded)
    backbone = loaded.backbone
    pooler = chosen(backbone, seed, dtype)
    before = Dropout(dropout, seed=seed, dtype=dtype, name="classifier_dropout")
    initializer = keras.initializers.TruncatedNormal(stddev=0.02, seed=seed + 1)
    # The last layer in float32: a softmax over bfloat16 logits would round probabilities to 3 digits.
    head = keras.layers.Dense(outputs, kernel_initializer=initializer, dtype="float32", name="logits")
    pooled = pooler(_states(loaded, pooled_layers, chosen.first_only), backbone.input["padding_mask"])
    # A pooler that is not used has no gradient.
    backbone.pooled_dense.trainable = chosen.uses_pooler
    parts = Parts(backbone, pooling, pooler, pooled_layers, before, head, pooled)
    return _put_together(model_class, backbone.input, parts)


def over_chunks(model: keras.Model, kind: Kind, seed: int = 0, dtype: str | None = None) -> keras.Model:
    """A classifier of texts in chunks out of one of single sequences, of the same layers.

    Args:
        model: from `build_classifier`.
        kind: of the ChunkPooling between its pooling and its dropout.
        seed: of the kind's new weights.
        dtype: Keras dtype policy of the pooling; None: the current one.

    Returns:
        Inputs: dict of token_ids, segment_ids and padding_mask, int32 [rows, length], and chunks, int32 [batch], as
        TextEncoder gives them; output: logits, float32 [batch, C].
    """
    pooling = ChunkPooling(kind, seed + 2, dtype=dtype, name="chunk_pooling")
    parts: Parts = replace(model.classifier_parts, chunk_pooling=pooling)
    inputs = {**parts.backbone.input, CHUNKS: keras.Input((), dtype="int32", name=CHUNKS)}
    return _put_together(type(model), inputs, replace(parts, pooled=parts.of_texts(parts.pooled, inputs)))


def over_columns(
    model: keras.Model, width: int, kind: FusionKind = "concat", units: int = 0, seed: int = 0
) -> keras.Model:
    """A classifier of texts with columns beside them out of one of texts, of the same layers but for its head.

    Args:
        model: from `build_classifier` or `over_chunks`.
        width: numbers of a row's columns.
        kind, units: of the Fusion between its pooling and its dropout.
        seed: of the Fusion's weights.

    Returns:
        Inputs: the model's, and columns, float32 [batch, width]; output: logits, float32 [batch, C].
    """
    parts: Parts = model.classifier_parts
    columns = keras.Input((width,), dtype="float32", name=COLUMNS)
    fusion = Fusion(kind, units, seed + 3, name="fusion")
    # As wide as what is fused.
    head = keras.layers.Dense.from_config(parts.head.get_config())
    parts = replace(parts, fusion=fusion, head=head, pooled=fusion(parts.pooled, columns))
    return _put_together(type(model), {**model.input, COLUMNS: columns}, parts)


def _put_together(model_class: type[keras.Model], inputs: dict, parts: Parts) -> keras.Model:
    """A classifier of its parts."""
    model = model_class(inputs=inputs, outputs=parts.head(parts.dropout(parts.pooled)), name="classifier")
    model.classifier_parts = parts
    return model


def _states(loaded: LoadedBackbone, pooled_layers: int, first_only: bool) -> dict:
    """What is pooled: a backbone's outputs, with the mean of its last layers' states in place of the last's."""
    backbone = loaded.backbone
    if pooled_layers == 1:
        return first_token_outputs(backbone) if first_only else backbone(backbone.input)
    if pooled_layers > backbone.num_layers:
        raise UserError(
            f"model.pooled_layers {pooled_layers}: {loaded.source or 'the backbone'} has {backbone.num_layers} layers."
        )
    mean = MeanOfLayers(dtype=backbone.transformer_layers[-1].dtype_policy, name="mean_of_layers")
    return {"sequence_output": mean([layer.output for layer in backbone.transformer_layers[-pooled_layers:]])}


def parts_of(model: keras.Model) -> Parts | None:
    """What a model is made of; None: `build_classifier` has not made it."""
    return getattr(model, "classifier_parts", None)


def pooled_model(model: keras.Model) -> keras.Model:
    """The part of a classifier from `build_classifier` below its head: the same inputs to vectors, [batch, hidden]."""
    parts: Parts = model.classifier_parts
    return keras.Model(model.input, parts.pooled)


def take_head(model: keras.Model, head: ClassifierHead) -> None:
    """Put the head of a finished classifier in place of a fresh one.

    Args:
        model: from `build_classifier`, of the same encoder and pooling, with as many outputs.
        head: of the checkpoint.
    """
    parts: Parts = model.classifier_parts
    parts.head.kernel.assign(head.kernel)
    parts.head.bias.assign(head.bias)
    for layer in parts.pooling.layers:
        layer.kernel.assign(head.pooler_kernel)
        layer.bias.assign(head.pooler_bias)


def head_of(model: keras.Model, task: Task) -> ClassifierHead | None:
    """The head of a trained classifier; None: its pooling is none that a ClassifierHead has, or is of several layers.

    The pooler of the pooling `fresh` is BERT's own kind: it becomes the encoder's.

    Args:
        model: from `build_classifier`; its backbone gets the pooler.
        task: what its outputs mean.
    """
    parts: Parts = model.classifier_parts
    pooling, pooler = parts.pooling_name, None
    if parts.pooled_layers > 1:
        return None
    if pooling == "fresh":
        copy_weights(parts.pooling.layers[0], parts.backbone.pooled_dense)
        pooling = "cls"
    elif pooling in ("relu", "gelu"):
        pooler = parts.pooling.layers[0]
    elif pooling != "cls":
        return None
    kernel, bias, names = task.last_layer(*(ops.convert_to_numpy(weight) for weight in parts.head.weights))
    dense = () if pooler is None else (ops.convert_to_numpy(ops.cast(weight, "float32")) for weight in pooler.weights)
    return ClassifierHead(pooling, kernel, bias, task.name, names, *dense)


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
    parts: Parts = model.classifier_parts
    loaded = LoadedBackbone(like(parts.backbone, dtype=dtype), (), None, has_pooler=True)
    copy = build_classifier(
        loaded,
        model.output_shape[-1],
        pooling=parts.pooling_name,
        pooled_layers=parts.pooled_layers,
        dropout=0.0,
        dtype=dtype,
    )
    if parts.chunk_pooling:
        copy = over_chunks(copy, parts.chunk_pooling.kind, dtype=dtype)
    if parts.fusion:
        copy = over_columns(copy, model.input[COLUMNS].shape[-1], parts.fusion.kind, parts.fusion.units)
    mine: Parts = copy.classifier_parts
    for old, new in zip([*parts.layers, parts.head], [*mine.layers, mine.head], strict=True):
        copy_weights(old, new)
    if weights == "bfloat16":
        kept = {id(variable) for variable in mine.head.weights}
        for variable in copy.weights:
            if id(variable) not in kept:
                variable.assign(ops.cast(ops.cast(variable, weights), variable.dtype))
    return copy


def rescale_logits(model: keras.Model, scale, shift) -> None:
    """Change the last layer of a classifier from `build_classifier` so that its outputs become `scale` times them plus
    `shift`, numbers or float [C]."""
    head = model.classifier_parts.head
    head.kernel.assign(head.kernel * ops.cast(scale, head.kernel.dtype))
    head.bias.assign(head.bias * ops.cast(scale, head.bias.dtype) + ops.cast(shift, head.bias.dtype))


def with_hidden_states(model: keras.Model) -> keras.Model:
    """A view of a classifier, of the same layers, that also gives what is between them.

    Args:
        model: from `build_classifier`.

    Returns:
        The same inputs; output: a dict of "logits", float32 [batch, C], and "states", a list of float [batch, length,
        hidden]: the embeddings, then the output of each transformer layer.
    """
    parts: Parts = model.classifier_parts
    backbone = parts.backbone
    layers = [last_embedding_layer(backbone), *backbone.transformer_layers]
    states = [layer.output for layer in layers]
    several = parts.pooled_layers > 1
    # Of one layer the model's own pooled vector is of another call of the backbone.
    if several:
        pooled = parts.pooled
    else:
        vectors = parts.pooling(backbone.output, backbone.input["padding_mask"])
        pooled = parts.of_texts(vectors, model.input)
    return keras.Model(model.input, {"logits": parts.head(parts.dropout(pooled)), "states": states})
