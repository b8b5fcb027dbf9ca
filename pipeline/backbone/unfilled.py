"""Backbones whose weights are about to be read or copied: random ones would be drawn for nothing, seconds for a large
model."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def unfilled(hidden_dim: int) -> Iterator[None]:
    """Within it BERT's initializer gives zeros, but for the kernel of a pooler, which a checkpoint may lack.

    Initializers have seeds of their own: what is drawn elsewhere does not change.

    Args:
        hidden_dim: of the backbone that is built.
    """
    initializer = keras.initializers.TruncatedNormal
    drawn = initializer.__call__

    def zeros(self, shape, dtype=None):
        return drawn(self, shape, dtype) if tuple(shape) == (hidden_dim, hidden_dim) else keras.ops.zeros(shape, dtype)

    initializer.__call__ = zeros
    try:
        yield
    finally:
        initializer.__call__ = drawn
