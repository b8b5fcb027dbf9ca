"""From the vectors of a text's tokens to one: a file a pooling, which is known by the file's name.

Such a file has a class called Pooling with the pooling's two forms: the layers that are trained, and the same in the
operations of the served graph (export/fused.py).
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pipeline.errors import UserError

if TYPE_CHECKING:
    import keras
    import keras_nlp
    import tensorflow as tf

    from pipeline.backbone.loaded import LoadedBackbone

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


class ServedWeights(Protocol):
    """Makes copies of weights for the served graph, in the dtype that they are stored in there."""

    def variable(self, value: Any, name: str) -> "tf.Variable": ...

    def dense(self, layer: "keras.layers.Dense") -> "Callable[[tf.Tensor], tf.Tensor]":
        """The layer on [n, in], with its activation."""
        ...


class Pooling(Protocol):
    """A pooling on one backbone.

    Args:
        backbone: whose states are pooled.
        seed: of new weights.
        dtype: Keras dtype policy of new layers; None: the current one.
    """

    first_only: ClassVar[bool]
    """Whether only the first token's vector is read: the served graph computes the last layer for it alone."""
    uses_pooler: ClassVar[bool]
    """Whether the checkpoint's own pooler is trained; else it is frozen."""
    layers: "list[keras.Layer]"
    """Layers with weights that are not the backbone's."""

    def __init__(self, backbone: "keras_nlp.models.BertBackbone", seed: int, dtype: str | None): ...

    @classmethod
    def check(cls, loaded: "LoadedBackbone") -> None:
        """Refuse a checkpoint that lacks what the pooling needs.

        Raises:
            UserError: naming the checkpoint.
        """
        ...

    def __call__(self, outputs: dict[str, Any], padding_mask: Any) -> Any:
        """The trained form: [batch, hidden] of a backbone's outputs and padding_mask, int32 [batch, length]."""
        ...

    def served(self, weights: ServedWeights) -> "Callable[[tf.Tensor, tf.Tensor], tf.Tensor]":
        """The served form.

        Returns:
            A tf.Module or function from the states of the last layer, [batch, length, hidden] ([batch, hidden] with
            first_only), and padding_mask to [batch, hidden], in the dtype of the states.
        """
        ...


def pooling_class(name: str) -> type[Pooling]:
    """The class of a pooling.

    Raises:
        UserError: there is none of this name.
    """
    if name not in NAMES:
        raise UserError(f"model.pooling {name!r} is not one of {', '.join(NAMES)}.")
    return importlib.import_module(f"{__name__}.{name}").Pooling
