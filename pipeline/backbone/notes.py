"""What layers with weights read and give, noted while a model is called, for the gradients of single examples.

A layer's gradient for one example follows from what the layer has read of it and from the gradient of what it gave.
Outside of `noting` nothing is noted.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import keras
import tensorflow as tf


@dataclass(frozen=True)
class Note:
    """One use of a layer's weights.

    Attributes:
        outputs: what the weights gave, [batch, ..., width]; an example's rows are next to each other, so that it may be
            [batch * rows, width] too.
    """

    outputs: tf.Tensor

    @property
    def variables(self) -> list[keras.Variable]:
        """Those that were used."""
        raise NotImplementedError


@dataclass(frozen=True)
class DenseNote(Note):
    """outputs = inputs @ kernel + bias, where kernel and bias are those of several layers side by side."""

    inputs: tf.Tensor
    """As many rows as outputs, [..., in]."""
    kernels: Sequence[keras.Variable]
    biases: Sequence[keras.Variable]
    """None, or as many as kernels."""

    @property
    def variables(self):
        return [*self.kernels, *self.biases]


@dataclass(frozen=True)
class NormNote(Note):
    """outputs = normal * gamma + beta."""

    normal: tf.Tensor
    """Like outputs."""
    gamma: keras.Variable
    beta: keras.Variable

    @property
    def variables(self):
        return [self.gamma, self.beta]


@dataclass(frozen=True)
class RowsNote(Note):
    """outputs are the rows of a table that the numbers say."""

    numbers: tf.Tensor | None
    """int, like outputs without the last dimension; None: no example has a row twice."""
    table: keras.Variable

    @property
    def variables(self):
        return [self.table]


_notes: ContextVar[list[Note] | None] = ContextVar("notes", default=None)


@contextmanager
def noting() -> Iterator[list[Note]]:
    """A list that fills with the notes of the layers that are called inside of the context, by this thread."""
    notes: list[Note] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def note(made: Note) -> None:
    """Add a note, where anyone wants it."""
    notes = _notes.get()
    if notes is not None:
        notes.append(made)
