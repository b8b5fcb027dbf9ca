"""Gradients of single examples, by their norms and by their weighted sum, without ever making one of them.

Both follow from what a layer has read and from the gradient of what it gave: the norms of a sequence's by products of
pairs of rows (Goodfellow, 2015, arXiv:1510.01799; Li et al., 2022, arXiv:2110.05679), the sum by the product that an
ordinary gradient is, of rows that are weighted first, so that one backward pass does for both (Bu et al., 2022,
arXiv:2210.00038).
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from pipeline.backbone.notes import DenseNote, NormNote, Note, RowsNote


def squared_norms(notes: Sequence[Note], gradients: Sequence[tf.Tensor | None], examples: tf.Tensor) -> tf.Tensor:
    """float32 [batch], of each example's gradient with respect to all trainable variables that were noted.

    Args:
        notes: of a call of the model.
        gradients: of the sum of the examples' losses, with respect to the outputs of each note; None: there is none.
        examples: int32 scalar, batch.
    """
    total = tf.zeros([examples], tf.float32)
    for made, gradient in zip(notes, gradients, strict=True):
        if gradient is not None:
            total += _NORMS[type(made)](made, _by_example(gradient, examples))
    return total


def weighted_sum(
    notes: Sequence[Note], gradients: Sequence[tf.Tensor | None], weights: tf.Tensor, variables: list[keras.Variable]
) -> list[tf.Tensor]:
    """The sum of the examples' gradients with respect to each variable, each example's times its weight.

    Args:
        notes, gradients: as for squared_norms.
        weights: float32 [batch], of the examples.
        variables: each noted once.
    """
    found = {id(variable): tf.zeros(variable.shape) for variable in variables}
    for made, gradient in zip(notes, gradients, strict=True):
        if gradient is not None:
            weighted = _by_example(gradient, tf.size(weights)) * weights[:, None, None]
            for variable, value in _SUMS[type(made)](made, weighted):
                found[id(variable)] = tf.reshape(value, variable.shape)
    return [found[id(variable)] for variable in variables]


def _by_example(tensor: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
    """[batch, rows, width], float32."""
    return tf.cast(tf.reshape(tensor, [examples, -1, tensor.shape[-1]]), tf.float32)


def _like(tensor: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """What a layer has read, [batch, rows, in], beside the gradient of what it gave, [batch, rows, out]."""
    return _by_example(tensor, tf.shape(gradient)[0])


def _squares(tensor: tf.Tensor) -> tf.Tensor:
    """[batch], the sum of the squares of an example."""
    return tf.reduce_sum(tf.square(tensor), list(range(1, tensor.shape.rank)))


def _dense_norm(made: DenseNote, gradient: tf.Tensor) -> tf.Tensor:
    total = tf.zeros([], tf.float32)
    if made.kernels[0].trainable:
        total += _kernel_norm(_like(made.inputs, gradient), gradient)
    if made.biases and made.biases[0].trainable:
        total += _squares(tf.reduce_sum(gradient, 1))
    return total


def _kernel_norm(inputs: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    rows, size, width = tf.shape(inputs)[1], inputs.shape[-1], gradient.shape[-1]

    def of_pairs():
        pairs = tf.matmul(inputs, inputs, transpose_b=True) * tf.matmul(gradient, gradient, transpose_b=True)
        return tf.reduce_sum(pairs, [1, 2])

    def of_products():
        return _squares(tf.matmul(inputs, gradient, transpose_a=True))

    # By whichever takes fewer multiplications; the gradients of examples take less memory than their rows then.
    return tf.cond(rows * (size + width) <= size * width, of_pairs, of_products)


def _dense_sum(made: DenseNote, gradient: tf.Tensor):
    if made.kernels[0].trainable:
        inputs, rows = (tf.reshape(tensor, [-1, tensor.shape[-1]]) for tensor in (made.inputs, gradient))
        product = tf.matmul(tf.cast(inputs, tf.float32), rows, transpose_a=True)
        yield from zip(made.kernels, tf.split(product, len(made.kernels), axis=1), strict=True)
    if made.biases and made.biases[0].trainable:
        yield from zip(made.biases, tf.split(tf.reduce_sum(gradient, [0, 1]), len(made.biases)), strict=True)


def _norm_norm(made: NormNote, gradient: tf.Tensor) -> tf.Tensor:
    total = tf.zeros([], tf.float32)
    if made.gamma.trainable:
        total += _squares(tf.reduce_sum(gradient * _like(made.normal, gradient), 1))
    if made.beta.trainable:
        total += _squares(tf.reduce_sum(gradient, 1))
    return total


def _norm_sum(made: NormNote, gradient: tf.Tensor):
    if made.gamma.trainable:
        yield made.gamma, tf.reduce_sum(gradient * _like(made.normal, gradient), [0, 1])
    if made.beta.trainable:
        yield made.beta, tf.reduce_sum(gradient, [0, 1])


def _rows_norm(made: RowsNote, gradient: tf.Tensor) -> tf.Tensor:
    if not made.table.trainable:
        return tf.zeros([], tf.float32)
    if made.numbers is None:
        return _squares(gradient)
    numbers = tf.reshape(made.numbers, tf.shape(gradient)[:2])
    same = tf.cast(numbers[:, :, None] == numbers[:, None], tf.float32)
    return tf.reduce_sum(same * tf.matmul(gradient, gradient, transpose_b=True), [1, 2])


def _rows_sum(made: RowsNote, gradient: tf.Tensor):
    if not made.table.trainable:
        return
    count = made.table.shape[0]
    if made.numbers is None:
        summed = tf.reduce_sum(gradient, 0)
        yield made.table, tf.pad(summed, [[0, count - tf.shape(summed)[0]], [0, 0]])
    else:
        rows = tf.reshape(gradient, [-1, gradient.shape[-1]])
        yield made.table, tf.math.unsorted_segment_sum(rows, tf.reshape(made.numbers, [-1]), count)


_NORMS = {DenseNote: _dense_norm, NormNote: _norm_norm, RowsNote: _rows_norm}
_SUMS = {DenseNote: _dense_sum, NormNote: _norm_sum, RowsNote: _rows_sum}
