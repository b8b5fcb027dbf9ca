"""Norms of the gradients of single examples, without these gradients (Goodfellow, 2015, arXiv:1510.01799; for
sequences Li et al., 2022, arXiv:2110.05679): from what layers have read and the gradients of what they gave."""

from collections.abc import Sequence

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
            total += _OF_KIND[type(made)](made, _by_example(gradient, examples))
    return total


def _by_example(tensor: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
    """[batch, rows, width], float32."""
    width = tensor.shape[-1]
    return tf.cast(tf.reshape(tensor, [examples, -1, width]), tf.float32)


def _of_dense(made: DenseNote, gradient: tf.Tensor) -> tf.Tensor:
    total = tf.zeros([], tf.float32)
    if made.kernels[0].trainable:
        total += _of_kernel(_by_example(made.inputs, tf.shape(gradient)[0]), gradient)
    if made.biases[0].trainable:
        total += _squares(tf.reduce_sum(gradient, 1))
    return total


def _of_kernel(inputs: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """[batch] of inputs [batch, rows, in] and the gradient of the products, [batch, rows, out]."""
    rows, size, width = tf.shape(inputs)[1], inputs.shape[-1], gradient.shape[-1]

    def of_pairs():
        pairs = tf.matmul(inputs, inputs, transpose_b=True) * tf.matmul(gradient, gradient, transpose_b=True)
        return tf.reduce_sum(pairs, [1, 2])

    def of_products():
        return _squares(tf.matmul(inputs, gradient, transpose_a=True))

    # By whichever takes fewer multiplications; the gradients of examples take less memory than their rows then.
    return tf.cond(rows * (size + width) <= size * width, of_pairs, of_products)


def _of_norm(made: NormNote, gradient: tf.Tensor) -> tf.Tensor:
    total = tf.zeros([], tf.float32)
    if made.gamma.trainable:
        total += _squares(tf.reduce_sum(gradient * _by_example(made.normal, tf.shape(gradient)[0]), 1))
    if made.beta.trainable:
        total += _squares(tf.reduce_sum(gradient, 1))
    return total


def _of_rows(made: RowsNote, gradient: tf.Tensor) -> tf.Tensor:
    if not made.table.trainable:
        return tf.zeros([], tf.float32)
    if made.numbers is None:
        return _squares(gradient)
    numbers = tf.reshape(made.numbers, tf.shape(gradient)[:2])
    same = tf.cast(numbers[:, :, None] == numbers[:, None], tf.float32)
    return tf.reduce_sum(same * tf.matmul(gradient, gradient, transpose_b=True), [1, 2])


def _squares(tensor: tf.Tensor) -> tf.Tensor:
    """[batch], the sum of the squares of an example."""
    return tf.reduce_sum(tf.square(tensor), list(range(1, tensor.shape.rank)))


_OF_KIND = {DenseNote: _of_dense, NormNote: _of_norm, RowsNote: _of_rows}
