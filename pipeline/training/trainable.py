"""training.trainable: which weights of a classifier are changed, and which stay as the checkpoint has them."""

import keras

from pipeline.backbone.encoder import EncoderLayer
from pipeline.backbone.low_rank import LowRank, LowRankUpdates
from pipeline.backbone.transformer_parts import parts_of
from pipeline.classifier import Parts
from pipeline.errors import UserError
from pipeline.training.config import LoraConfig, TrainingConfig
from pipeline.training.model import ExactModel

# Keras' names of a layer's bias, and of that of layer normalisation.
BIASES = ("bias", "beta")


def freeze(model: ExactModel, training: TrainingConfig) -> None:
    """Let a classifier's optimizer have some of its weights; those of pooling and head are among them always.

    Args:
        model: from `build_classifier`, before its optimizer is made; in its strategy's scope.
        training: its method, trainable, and what belongs to the latter.

    Raises:
        UserError: the backbone has fewer layers, or kernels of no such rank.
    """
    parts: Parts = model.classifier_parts
    backbone, trainable = parts.backbone, "head" if training.method == "head" else training.trainable
    if trainable in ("head", "lora"):
        backbone.trainable = False
    if trainable == "lora":
        model.low_rank = _low_rank(parts, training.lora, training.seed)
    if trainable == "bias":
        for variable in backbone.trainable_variables:
            variable.trainable = variable.name in BIASES
    if trainable == "last":
        layers = training.trainable_layers
        if layers > backbone.num_layers:
            raise UserError(f"training.trainable_layers {layers}: the backbone has {backbone.num_layers} layers.")
        kept = [*backbone.transformer_layers[-layers:], backbone.pooled_dense]
        for layer in backbone.layers:
            if layer not in kept:
                layer.trainable = False


def _low_rank(parts: Parts, config: LoraConfig, seed: int) -> list[LowRank]:
    """New updates, which the transformer layers add to their products from now on."""
    made = []
    for number, layer in enumerate(parts.backbone.transformer_layers):
        dense = {name: getattr(parts_of(layer), name) for name in config.kernels}
        width = parts.backbone.hidden_dim
        if config.rank > width:
            raise UserError(f"training.lora.rank {config.rank}: the backbone's kernels are of rank {width} at most.")
        assert isinstance(layer, EncoderLayer)
        # Under the layer's name, by which training.layer_decay goes.
        with keras.name_scope(layer.name):
            of = {
                name: LowRank(each, config.rank, config.alpha, seed + number, f"{name}_low_rank")
                for name, each in dense.items()
            }
        layer.low_rank = LowRankUpdates(of)
        made += of.values()
    return made
