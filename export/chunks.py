"""A served classifier of texts in chunks: so many chunks at a time, then one vector a text."""

import tensorflow as tf

from export.fused import FusedClassifier
from pipeline.data.documents import OF_TEXTS
from pipeline.long_texts import CHUNKS, CHUNKS_AT_ONCE


class ChunkedClassifier(tf.Module):
    """A FusedClassifier of single sequences on all chunks of texts.

    Args:
        sequences: of a model from pipeline.classifier.over_chunks.
    """

    def __init__(self, sequences: FusedClassifier):
        super().__init__(name="chunked_classifier")
        self.sequences = sequences
        self.num_segments, self.logits = sequences.num_segments, sequences.logits

    def pooled(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """What the classification layer sees, [texts, H], of what TextEncoder gives."""
        return self.of_texts(self.vectors(inputs), inputs)

    def of_texts(self, vectors: tf.Tensor, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """[texts, H] of `vectors`."""
        over_chunks = self.sequences.over_chunks
        assert over_chunks is not None, "a model from pipeline.classifier.over_chunks has it"
        pooled = over_chunks(vectors, inputs["padding_mask"], inputs[CHUNKS])
        return self.sequences.with_columns(pooled, inputs)

    def vectors(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """A vector a chunk, [rows, H]; long ones go first and together, so that short ones are not padded to them."""
        tokens = {name: values for name, values in inputs.items() if name not in OF_TEXTS}
        sizes = tf.reduce_sum(tokens["padding_mask"], axis=1)
        order = tf.argsort(sizes, direction="DESCENDING", stable=True)
        count = tf.size(order)

        def step(number, found):
            rows = order[number * CHUNKS_AT_ONCE : (number + 1) * CHUNKS_AT_ONCE]
            length = tf.gather(sizes, rows[0])
            own = {name: tf.gather(values, rows)[:, :length] for name, values in tokens.items()}
            return number + 1, found.write(number, self.sequences.sequences(own))

        found = tf.TensorArray(
            self.sequences.dtype, 0, dynamic_size=True, infer_shape=False, element_shape=[None, self.hidden_dim]
        )
        _, found = tf.while_loop(
            lambda number, _: number * CHUNKS_AT_ONCE < count, step, (0, found), parallel_iterations=1
        )
        vectors = tf.reshape(found.concat(), [-1, self.hidden_dim])
        return tf.gather(vectors, tf.math.invert_permutation(order))

    @property
    def hidden_dim(self) -> int:
        """H."""
        return self.sequences.hidden_dim
