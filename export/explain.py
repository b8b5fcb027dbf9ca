"""Integrated gradients of a served classifier, computed in its graph (Sundararajan, Taly, Yan 2017, arXiv:1703.01365).

Explained is what the task says (Task.contribution): of a label its log-odds, log p / (1 - p), p being its probability.
Unlike p they go on changing where p is nearly 0 or 1, and unlike a logit they do not change when all logits do.

The path is a straight line between the word embeddings of the text and a baseline: the same with the vector of [MASK]
in place of each token's. [CLS], [SEP], positions and segments stay as they are. [PAD]'s vector or zeros would do as
well (measured: benchmarks/README.md); [MASK]'s is the one that the model has learned to take for a missing piece.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from export.fused import FusedClassifier
from pipeline.cutting import source_places
from pipeline.features.columns import COLUMNS
from pipeline.long_texts import HEAD, LongTexts

# Where on the way from baseline to text the log-odds change most, and over which stretch.
CENTRE, WIDTH = 0.3, 0.1
LEAST_DIFFERENCE = 1e-2
# Tokens that go through the model at a time (measured: benchmarks/README.md).
TOKENS = 512
# Of a text, and of one that is read to its end; whoever writes more in so few tokens does it to fill a server's memory.
MOST_BYTES, MOST_BYTES_TO_THE_END = 100_000, 1_000_000


def most_bytes(long: LongTexts) -> int:
    """How many bytes of a text are looked at."""
    return MOST_BYTES if long == HEAD else MOST_BYTES_TO_THE_END


def integrated_gradients(
    model: FusedClassifier,
    inputs: dict[str, tf.Tensor],
    pieces: tf.Tensor,
    explained: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    mask_id: int,
    steps: int,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What each piece adds to a quantity that the logits give.

    The integral is a sum over `steps` points. One text is worked on after the other, without padding, and as many of
    its points at a time as have TOKENS tokens together: memory is that of one step of training on so many, however
    large the batch, and no text's explanation follows from its company. All is in float32, whatever the model computes
    in.

    Args:
        inputs: token_ids, segment_ids and padding_mask, int32 [batch, length]; padding comes last. And columns, float32
            [batch, width], where the model reads any: their baseline is 0, numbers at their mean and no category.
        pieces: bool [batch, length], the tokens that the baseline replaces; the length is static.
        explained: from logits, float32 [n, C], and the row that each is of, int32 [n], to the quantity, float32 [n];
            each follows from its own logits.
        mask_id: of the token that the baseline has in their place.
        steps: points of the integral.

    Returns:
        attributions, float32 [batch, length], 0 where `pieces` is false; those of the columns' numbers, float32 [batch,
        width], 0 wide without columns; and the completeness gap, float32 [batch]: by how much their sum misses the
        difference of the quantity at text and baseline, relative to that difference, or to LEAST_DIFFERENCE where that
        is more, as for a text without pieces.
    """
    tokens = {name: values for name, values in inputs.items() if name != COLUMNS}
    columns = inputs.get(COLUMNS, tf.zeros([tf.shape(pieces)[0], 0]))

    def of_row(row):
        size = tf.reduce_sum(tokens["padding_mask"][row])
        own = {name: values[row, :size] for name, values in tokens.items()}
        words = model.words(own["token_ids"])
        baseline = tf.where(pieces[row, :size, tf.newaxis], model.words(tf.constant(mask_id)), words)
        line = _Line(own, baseline, words - baseline, columns[row])
        attributions, of_columns, difference = _integral(
            line, lambda rows, at: explained(model(rows, at), tf.fill([tf.shape(at)[0]], row)), steps
        )
        gap = completeness_gap(tf.concat([attributions, of_columns], axis=0), difference)
        length = pieces.shape[1]
        return tf.ensure_shape(tf.pad(attributions, [[0, length - size]]), [length]), of_columns, gap

    specs = tf.TensorSpec([pieces.shape[1]]), tf.TensorSpec([columns.shape[1]]), tf.TensorSpec([])
    return tf.map_fn(of_row, tf.range(tf.shape(pieces)[0]), fn_output_signature=specs, parallel_iterations=1)


class _Line(NamedTuple):
    """The way of one row from its baseline: tokens [length], words [length, E], and the columns' numbers [width]."""

    tokens: dict[str, tf.Tensor]
    baseline: tf.Tensor
    way: tf.Tensor
    columns: tf.Tensor


def _integral(
    line: _Line, quantity: Callable[[dict[str, tf.Tensor], tf.Tensor], tf.Tensor], steps: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What pieces, float32 [length], and columns' numbers, float32 [width], add to a quantity; and the difference of it
    at the ends of the line.

    Args:
        quantity: of inputs and words at points of the line, float32 [points].
    """
    points, weights, signs = path(steps)
    at_a_time = share_of(steps + 2, TOKENS // tf.maximum(tf.shape(line.way)[0], 1))

    def step(start, total, of_columns, difference):
        part = slice(start, start + at_a_time)
        at = line.baseline + points[part, tf.newaxis, tf.newaxis] * line.way
        beside = points[part, tf.newaxis] * line.columns
        count = tf.shape(at)[0]
        tiled = {name: tf.tile(values[tf.newaxis], [count, 1]) for name, values in line.tokens.items()}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([at, beside])
            value = quantity(tiled | {COLUMNS: beside}, at)
        slopes = tape.gradient(value, [at, beside], unconnected_gradients=tf.UnconnectedGradients.ZERO)
        slope, of_beside = (tf.tensordot(weights[part], found, 1) for found in slopes)
        difference += tf.tensordot(signs[part], value, 1)
        return start + at_a_time, total + slope, of_columns + of_beside, difference

    start = 0, tf.zeros_like(line.way), tf.zeros_like(line.columns), 0.0
    _, total, of_columns, difference = tf.while_loop(
        lambda start, *_: start < steps + 2, step, start, parallel_iterations=1
    )
    return tf.reduce_sum(line.way * total, axis=-1), line.columns * of_columns, difference


def completeness_gap(attributions: tf.Tensor, difference: tf.Tensor) -> tf.Tensor:
    """float32 scalar, by how much the attributions of a text miss the difference that they explain; see
    `integrated_gradients`."""
    return tf.abs(tf.reduce_sum(attributions) - difference) / tf.maximum(tf.abs(difference), LEAST_DIFFERENCE)


def explanation(
    pieces: tuple[tf.Tensor, tf.Tensor, tf.Tensor], attributions: tf.Tensor, gap: tf.Tensor, shown: dict[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """The outputs of the signature explain.

    Args:
        pieces: as `pieces_of` gives them.
        attributions, gap: as `integrated_gradients` gives them.
        shown: of the answer that is explained, as Task.explained gives it.
    """
    names, begin, end = pieces
    return {
        "pieces": names,
        "begin": begin,
        "end": end,
        "attributions": attributions,
        **shown,
        "completeness_gap": gap,
    }


def path(steps: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Points, their weights in the integral and in the difference of the ends, float32 [steps + 2] each.

    The two ends are points of no weight, whose quantities the difference is of.
    """
    points, weights = quadrature(steps)
    columns = ((0, points, 1), (0, weights, 0), (-1, 0 * points, 1))
    points, weights, signs = (tf.constant([first, *between, last], tf.float32) for first, between, last in columns)
    return points, weights, signs


def share_of(number: int, most: tf.Tensor) -> tf.Tensor:
    """Into what parts to cut `number` things, at most `most` in each but at least 1, so that they are nearly equal."""
    parts = -(-number // tf.clip_by_value(most, 1, number))
    return -(-number // parts)


def quadrature(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights, float64 [steps], of a sum that stands for an integral from 0 to 1.

    Gauss-Legendre after a sinh transformation (Johnston and Elliott 2005), which puts most points about CENTRE: the
    log-odds of a text change most on a short stretch there, and Gauss-Legendre's own points are closest at the ends.
    """
    nodes, shares = np.polynomial.legendre.leggauss(steps)
    start, end = np.arcsinh((np.array([0.0, 1.0]) - CENTRE) / WIDTH)
    stretched = start + (end - start) * (nodes + 1) / 2
    return CENTRE + WIDTH * np.sinh(stretched), shares / 2 * (end - start) * WIDTH * np.cosh(stretched)


def pieces_of(encoder, texts: list[tf.Tensor], inputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What stands at each place of encoded texts.

    One row after the other: to find the bytes of a text takes more than a hundred times their number.

    Args:
        encoder: the TextEncoder that gave `inputs` for `texts`.
        inputs: their length is static.

    Returns:
        pieces, string [batch, length], "[CLS]" and "[SEP]" with them and "" for padding; begin and end, int32 [batch,
        length]: bytes of the text that the piece is of, 0 and 0 for what is in no text.
    """
    length = inputs["padding_mask"].shape[1]

    def of_row(row):
        own = _pieces_of(
            encoder, [text[row : row + 1] for text in texts], {n: v[row : row + 1] for n, v in inputs.items()}
        )
        return tuple(tf.ensure_shape(values[0], [length]) for values in own)

    specs = tuple(tf.TensorSpec([length], dtype) for dtype in (tf.string, tf.int32, tf.int32))
    rows = tf.range(tf.shape(inputs["padding_mask"])[0])
    return tf.map_fn(of_row, rows, fn_output_signature=specs, parallel_iterations=1)


def _pieces_of(encoder, texts: list[tf.Tensor], inputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    mask, segment_ids = inputs["padding_mask"], inputs["segment_ids"]
    position = tf.range(tf.shape(mask)[1])[tf.newaxis]
    pieces = tf.where(position == 0, "[CLS]", tf.where(mask == 1, "[SEP]", ""))
    begin, end = tf.zeros_like(mask), tf.zeros_like(mask)
    start = tf.ones_like(mask[:, :1])  # place of the text's first piece
    for number, text in enumerate(texts):
        framing = 2 if number == 0 else 1  # [CLS] and [SEP], or only [SEP]
        count = tf.reduce_sum(mask * tf.cast(segment_ids == number, tf.int32), axis=1, keepdims=True) - framing
        place = position - start
        here = (place >= 0) & (place < count)
        tokens = encoder.tokenize_with_offsets(text)
        if encoder.long == HEAD:
            tokens = [row[:, : encoder.sequence_length] for row in tokens]
        else:
            lengths = tf.cast(tokens[0].row_lengths(), tf.int32)[:, tf.newaxis]
            place = source_places(place, count, lengths, encoder.long.head_share)
        # One column more, so that there is something to gather from an empty text.
        dense = [tf.pad(row.to_tensor(), [[0, 0], [0, 1]]) for row in tokens]
        place = tf.where(here, place, 0)
        own, first, last = (tf.gather(column, place, batch_dims=1) for column in dense)
        pieces = tf.where(here, own, pieces)
        begin, end = (tf.where(here, tf.cast(new, tf.int32), old) for new, old in ((first, begin), (last, end)))
        start += count + 1
    return pieces, begin, end
