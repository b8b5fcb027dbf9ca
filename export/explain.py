"""Integrated gradients of a served classifier, computed in its graph (Sundararajan, Taly, Yan 2017, arXiv:1703.01365).

Explained is what the task says (Task.contribution): of a label its log-odds, log p / (1 - p), p being its probability.
Unlike p they go on changing where p is nearly 0 or 1, and unlike a logit they do not change when all logits do.

The path is a straight line between the word embeddings of the text and a baseline: the same with the vector of [MASK]
in place of each token's. [CLS], [SEP], positions and segments stay as they are. [PAD]'s vector or zeros would do as
well (measured: benchmarks/README.md); [MASK]'s is the one that the model has learned to take for a missing piece.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from export.fused import FusedClassifier

# Where on the way from baseline to text the log-odds change most, and over which stretch.
CENTRE, WIDTH = 0.3, 0.1
LEAST_DIFFERENCE = 1e-2


def integrated_gradients(
    model: FusedClassifier,
    inputs: dict[str, tf.Tensor],
    pieces: tf.Tensor,
    explained: Callable[[tf.Tensor], tf.Tensor],
    mask_id: int,
    steps: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """What each piece adds to a quantity that the logits give.

    The integral is a sum over `steps` points, one forward and one backward pass after the other, in float32 whatever
    the model computes in: memory is that of one step of training.

    Args:
        inputs: token_ids, segment_ids and padding_mask, int32 [batch, length].
        pieces: bool [batch, length], the tokens that the baseline replaces.
        explained: from logits, float32 [batch, C], to the quantity, float32 [batch]; each row's follows from its own
            logits.
        mask_id: of the token that the baseline has in their place.
        steps: points of the integral.

    Returns:
        attributions, float32 [batch, length], 0 where `pieces` is false; and the completeness gap, float32 [batch]: by
        how much their sum misses the difference of the quantity at text and baseline, relative to that difference, or
        to LEAST_DIFFERENCE where that is more, as for a text without pieces.
    """
    words = model.words(inputs["token_ids"])
    baseline = tf.where(pieces[..., tf.newaxis], model.words(tf.constant(mask_id)), words)
    way = words - baseline

    points, weights = (tf.constant(values, tf.float32) for values in quadrature(steps))

    def step(number, total):
        at = baseline + points[number] * way
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(at)
            value = explained(model(inputs, at))
        return number + 1, total + weights[number] * tape.gradient(value, at)

    _, total = tf.while_loop(
        lambda number, total: number < steps, step, (0, tf.zeros_like(words)), parallel_iterations=1
    )
    attributions = tf.reduce_sum(way * total, axis=-1)
    # Both in one pass: a second one would be as large a part of the graph again.
    twice = {name: tf.tile(values, [2, 1]) for name, values in inputs.items()}
    logits = model(twice, tf.concat([words, baseline], axis=0))
    count = tf.shape(words)[0]
    difference = explained(logits[:count]) - explained(logits[count:])
    gap = tf.abs(tf.reduce_sum(attributions, axis=1) - difference)
    return attributions, gap / tf.maximum(tf.abs(difference), LEAST_DIFFERENCE)


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

    Args:
        encoder: the TextEncoder that gave `inputs` for `texts`.

    Returns:
        pieces, string [batch, length], "[CLS]" and "[SEP]" with them and "" for padding; begin and end, int32 [batch,
        length]: bytes of the text that the piece is of, 0 and 0 for what is in no text.
    """
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
        dense = [
            # One column more, so that there is something to gather from an empty text.
            tf.pad(row[:, : encoder.sequence_length].to_tensor(), [[0, 0], [0, 1]])
            for row in encoder.tokenize_with_offsets(text)
        ]
        place = tf.where(here, place, 0)
        own, first, last = (tf.gather(column, place, batch_dims=1) for column in dense)
        pieces = tf.where(here, own, pieces)
        begin, end = (tf.where(here, tf.cast(new, tf.int32), old) for new, old in ((first, begin), (last, end)))
        start += count + 1
    return pieces, begin, end
