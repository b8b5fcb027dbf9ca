"""Integrated gradients (see export.explain) of a text in chunks, added up over all of them.

The path is that of the whole text: all chunks are at the same point of it. What is explained follows from the vectors
of the chunks, and each vector from its own chunk. So its gradient is taken in two steps: first by the vectors, at all
points, then, chunk by chunk, on to the words. Memory is that of one step of training on a few chunks, and the vectors.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from export.chunks import ChunkedClassifier
from export.explain import TOKENS, completeness_gap, explanation, path, share_of
from pipeline.data.documents import OF_TEXTS
from pipeline.features.columns import COLUMNS
from pipeline.long_texts import CHUNKS


def explain_in_chunks(served, cells: list[tf.Tensor], steps: int) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """The outputs of the signature explain, whose width is that of all chunks that a text may have; and what the
    numbers of the columns beside it add, float32 [batch, width].

    Args:
        served: a savedmodel.ServedModel of texts in chunks.
        cells: [batch] each, as its encoder takes them.
        steps: points of the integral.
    """
    encoder, task = served.encoder, served.task
    about, shown = task.explained(served.predictions_of_tokens(encoder(*cells)))
    width = encoder.long.room(encoder.sequence_length - 2) + 2

    def of_text(row):
        read = _read(encoder, [cell[row : row + 1] for cell in cells])

        def explained(logits):
            return task.contribution(logits, tf.gather(about, tf.fill([tf.shape(logits)[0]], row)))

        found, of_columns, gap = gradients(
            served.forward, read.inputs, read.is_piece, explained, encoder.mask_id, steps
        )
        # A token that is in several chunks has what it adds in all of them.
        attributions = tf.math.unsorted_segment_sum(found[read.is_piece], read.places, tf.size(read.pieces))
        pieces = _widened(tf.concat([["[CLS]"], read.pieces, ["[SEP]"]], axis=0), width)
        numbers = (tf.pad(column, [[1, 1]]) for column in (read.begin, read.end, attributions))
        return pieces, *(_widened(column, width) for column in numbers), of_columns, gap

    dtypes = (tf.string, tf.int32, tf.int32, tf.float32)
    columns = encoder.specs[COLUMNS].shape[1] if COLUMNS in encoder.specs else 0
    specs = *(tf.TensorSpec([width], dtype) for dtype in dtypes), tf.TensorSpec([columns]), tf.TensorSpec([])
    rows = tf.range(tf.size(cells[0]))
    *places, attributions, of_columns, gap = tf.map_fn(of_text, rows, fn_output_signature=specs, parallel_iterations=1)
    return explanation(tuple(places), attributions, gap, shown), of_columns


def _widened(column: tf.Tensor, width: int) -> tf.Tensor:
    """[n] with "" or zeros at the end up to [width], which is static."""
    column = tf.concat([column, tf.zeros([width - tf.size(column)], column.dtype)], axis=0)
    return tf.ensure_shape(column, [width])


class _Read(NamedTuple):
    """A text as it is read, of t tokens in n chunks.

    Attributes:
        inputs: of the model, of n rows.
        pieces, begin, end: string and int32 [t], the tokens and their bytes.
        is_piece: bool [n, length], where a row has one of them that has bytes.
        places: int64 [m], which it is, row by row.
    """

    inputs: dict[str, tf.Tensor]
    pieces: tf.Tensor
    begin: tf.Tensor
    end: tf.Tensor
    is_piece: tf.Tensor
    places: tf.Tensor


def _read(encoder, cells: list[tf.Tensor]) -> _Read:
    """One row, of cells [1]."""
    inputs = encoder(*cells)
    (text,) = encoder.texts(*cells)
    chunks = encoder.chunks(encoder.tokenize(text))
    # A text without a token has a chunk without one.
    count = chunks.ends[-1]
    pieces, begin, end = (row.values[:count] for row in encoder.tokenize_with_offsets(text))
    places = chunks.begins[:, tf.newaxis] + tf.range(tf.shape(inputs["token_ids"])[1], dtype=tf.int64) - 1
    inside = (places >= chunks.begins[:, tf.newaxis]) & (places < chunks.ends[:, tf.newaxis])
    places = tf.where(inside, places, count)
    is_piece = tf.gather(tf.concat([end > begin, [False]], axis=0), places)
    return _Read(inputs, pieces, tf.cast(begin, tf.int32), tf.cast(end, tf.int32), is_piece, places[is_piece])


def gradients(
    model: ChunkedClassifier,
    inputs: dict[str, tf.Tensor],
    pieces: tf.Tensor,
    explained: Callable[[tf.Tensor], tf.Tensor],
    mask_id: int,
    steps: int,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What each piece of one text adds to a quantity that the logits give.

    Args:
        model: of texts in chunks.
        inputs: of one text, of n chunks: token_ids, segment_ids and padding_mask, int32 [n, length], and chunks; with
            columns, float32 [1, width], where the model reads any.
        pieces: bool [n, length], the tokens that the baseline replaces.
        explained: from logits, float32 [p, C], to the quantity, float32 [p].
        mask_id: of the token that the baseline has in their place.
        steps: points of the integral.

    Returns:
        attributions, float32 [n, length], 0 where `pieces` is false; those of the columns' numbers and the completeness
        gap, as export.explain.integrated_gradients gives them.
    """
    points, weights, signs = path(steps)
    mask = inputs["padding_mask"]
    count, number = steps + 2, tf.shape(mask)[0]
    tokens = {name: values for name, values in inputs.items() if name not in OF_TEXTS}
    line = _Line(model, tokens, pieces, mask_id, points)
    of_chunks = tf.map_fn(
        line.vectors,
        tf.range(number),
        fn_output_signature=tf.TensorSpec([count, model.hidden_dim], tf.float32),
        parallel_iterations=1,
    )
    # A text at each point.
    vectors = tf.reshape(tf.transpose(of_chunks, [1, 0, 2]), [-1, model.hidden_dim])
    texts = {"padding_mask": tf.tile(mask, [count, 1]), CHUNKS: tf.fill([count], number)}
    columns = inputs.get(COLUMNS, tf.zeros([1, 0]))
    texts[COLUMNS] = points[:, tf.newaxis] * columns
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([vectors, texts[COLUMNS]])
        value = explained(model.logits(model.of_texts(vectors, texts)))
    zero = tf.UnconnectedGradients.ZERO
    slopes, of_columns = tape.gradient(value, [vectors, texts[COLUMNS]], unconnected_gradients=zero)
    of_columns = columns[0] * tf.tensordot(weights, of_columns, 1)
    slopes = tf.reshape(slopes, [count, number, model.hidden_dim])
    slopes = tf.transpose(slopes * weights[:, tf.newaxis, tf.newaxis], [1, 0, 2])
    attributions = tf.map_fn(
        lambda row: line.attributions(row, slopes[row]),
        tf.range(number),
        fn_output_signature=tf.TensorSpec([None], tf.float32),
        parallel_iterations=1,
    )
    found = tf.concat([tf.reshape(attributions, [-1]), of_columns], axis=0)
    return attributions, of_columns, completeness_gap(found, tf.tensordot(signs, value, 1))


class _Line:
    """The chunks of one text on the way from the baseline to it; what `gradients` takes, and the points."""

    def __init__(self, model, inputs, pieces, mask_id, points):
        self.model, self.inputs, self.points = model.sequences, inputs, points
        words = self.model.words(inputs["token_ids"])
        self.baseline = tf.where(pieces[..., tf.newaxis], self.model.words(tf.constant(mask_id)), words)
        self.way = words - self.baseline
        self.sizes = tf.reduce_sum(inputs["padding_mask"], axis=1)

    def vectors(self, row: tf.Tensor) -> tf.Tensor:
        """float32 [points, H], of a chunk."""

        def step(start, found):
            tokens, at = self._at(row, start)
            return start + tf.shape(at)[0], found.write(found.size(), self.model.sequences(tokens, at))

        shape = [None, self.model.hidden_dim]
        found = tf.TensorArray(tf.float32, 0, dynamic_size=True, infer_shape=False, element_shape=shape)
        return self._over_points(step, found).concat()

    def attributions(self, row: tf.Tensor, slopes: tf.Tensor) -> tf.Tensor:
        """float32 [length], of a chunk and what is explained by its vector at each point, [points, H]."""

        def step(start, total):
            tokens, at = self._at(row, start)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(at)
                vectors = self.model.sequences(tokens, at)
            end = start + tf.shape(at)[0]
            return end, total + tf.reduce_sum(tape.gradient(vectors, at, slopes[start:end]), axis=0)

        size = self.sizes[row]
        total = self._over_points(step, tf.zeros_like(self.way[row, :size]))
        found = tf.reduce_sum(self.way[row, :size] * total, axis=-1)
        return tf.pad(found, [[0, tf.shape(self.way)[1] - size]])

    def _over_points(self, step: Callable, state):
        return tf.while_loop(lambda start, _: start < tf.size(self.points), step, (0, state), parallel_iterations=1)[1]

    def _at(self, row: tf.Tensor, start: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """A chunk at as many points, from one on, as have TOKENS tokens together: its tokens and its words."""
        size = self.sizes[row]
        points = self.points[start : start + share_of(self.points.shape[0], TOKENS // size)]
        at = self.baseline[row, :size] + points[:, tf.newaxis, tf.newaxis] * self.way[row, :size]
        count = tf.size(points)
        return {name: tf.tile(values[row : row + 1, :size], [count, 1]) for name, values in self.inputs.items()}, at
