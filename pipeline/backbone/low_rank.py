"""Low-rank updates of frozen kernels (LoRA; Hu et al., 2021, arXiv:2106.09685), trained beside them, merged at the end.

Keras' own enable_lora makes factors of each head where kernels have heads, and a gradient as large as the kernel.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import keras
import tensorflow as tf

from pipeline.backbone.notes import DenseNote, note

# As the authors' code: uniform in 1 / sqrt(inputs).
INITIAL = {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"}


class LowRank(keras.layers.Layer):
    """What an update adds to a dense layer's product: [rows, in] to [rows, out], 0 at first.

    Args:
        dense: whose kernel it is for; a kernel with heads counts as the matrix [in, out].
        rank: width between the two factors.
        alpha: the product of the factors is multiplied by alpha / rank.
        seed: of the first factor; the second is 0.
        name: of the layer.
    """

    def __init__(self, dense: keras.layers.Layer, rank: int, alpha: float, seed: int, name: str):
        super().__init__(dtype=dense.dtype_policy, name=name)
        self.kernel, self.scale = _Kernel(dense.kernel), alpha / rank
        outputs = math.prod(dense.bias.shape)
        initializer = keras.initializers.VarianceScaling(**INITIAL, seed=seed)
        self.down = self.add_weight((math.prod(dense.kernel.shape) // outputs, rank), initializer, name="down")
        self.up = self.add_weight((rank, outputs), "zeros", name="up")
        self.built = True

    def call(self, states):
        """As long as the factors are not merged; after that, 0."""
        narrow = tf.matmul(states, tf.convert_to_tensor(self.down))
        note(DenseNote(narrow, states, [self.down], []))
        wide = tf.matmul(narrow, tf.convert_to_tensor(self.up))
        note(DenseNote(wide, narrow, [self.up], []))
        return wide * self.scale

    def merge(self) -> None:
        """Add the update to the kernel and begin again at 0: what the two compute together stays."""
        kernel = self.kernel.variable
        update = tf.matmul(tf.convert_to_tensor(self.down), tf.convert_to_tensor(self.up)) * self.scale
        kernel.assign_add(tf.cast(tf.reshape(update, kernel.shape), kernel.dtype))
        self.up.assign(tf.zeros(self.up.shape, self.up.dtype))


@dataclass(frozen=True)
class LowRankUpdates:
    """Those of one transformer layer, by the names of TransformerParts. No Keras object: the layer that has it would
    count the factors among its own weights, and those of a run would be no checkpoint's any more."""

    of: Mapping[str, LowRank]


@dataclass(frozen=True)
class _Kernel:
    """A variable that a layer knows and does not own."""

    variable: keras.Variable


def merge(updates: Sequence[LowRank]) -> None:
    """Merge all updates of a model into its kernels."""
    for update in updates:
        update.merge()


@contextmanager
def merged(updates: Sequence[LowRank]) -> Iterator[None]:
    """Inside the block all updates of a model are merged; after it all is, to the bit, as before."""
    variables = [variable for update in updates for variable in (update.kernel.variable, update.up)]
    before = [tf.identity(tf.convert_to_tensor(variable)) for variable in variables]
    merge(updates)
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
