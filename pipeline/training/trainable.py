"""training.trainable: which weights of a classifier are changed, and which stay as the checkpoint has them."""

from pipeline.classifier import Parts
from pipeline.errors import UserError
from pipeline.training.config import Trainable

# Keras' names of a layer's bias, and of that of layer normalisation.
BIASES = ("bias", "beta")


def freeze(parts: Parts, trainable: Trainable, layers: int) -> None:
    """Let a classifier's optimizer have some of its weights; those of pooling and head are among them always.

    Args:
        parts: of the classifier, before its optimizer is made.
        trainable: see TrainingConfig.
        layers: of `last`.

    Raises:
        UserError: the backbone has fewer layers.
    """
    backbone = parts.backbone
    if trainable == "head":
        backbone.trainable = False
    if trainable == "bias":
        for variable in backbone.trainable_variables:
            variable.trainable = variable.name in BIASES
    if trainable == "last":
        if layers > backbone.num_layers:
            raise UserError(f"training.trainable_layers {layers}: the backbone has {backbone.num_layers} layers.")
        kept = [*backbone.transformer_layers[-layers:], backbone.pooled_dense]
        for layer in backbone.layers:
            if layer not in kept:
                layer.trainable = False
