"""What a model gives for all rows of a split: predictions, or the features below its head."""

from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline.data.batching import prediction_batches
from pipeline.data.documents import take, within
from pipeline.data.split import Split
from pipeline.long_texts import CHUNKS, CHUNKS_AT_ONCE
from pipeline.tasks.task import Task
from pipeline.text import TextEncoder
from pipeline.training.workers import Workers


class BatchForward:
    """Asks a model with its current weights; compiled once, called as often as one likes.

    Args:
        model: of token_ids, segment_ids and padding_mask, giving [batch, width].
        encoder: strings to token ids.
        batch_size: rows a forward pass.
        fixed_length: pad to the encoder's sequence_length.
        workers: who divide the batches among them, and all get the outcome; None: this process is alone.

    Attributes:
        twin: another of the same model and outcome, whose graph is taken instead of tracing one more.
    """

    twin: "BatchForward | None" = None

    def __init__(
        self,
        model: keras.Model,
        encoder: TextEncoder,
        batch_size: int,
        fixed_length: bool = False,
        workers: Workers | None = None,
    ):
        self.model, self.encoder = model, encoder
        self.batch_size, self.fixed_length = batch_size, fixed_length
        self.workers = workers or Workers()

    def outcome(self, outputs: tf.Tensor) -> tf.Tensor:
        """float32 [batch, K] of the model's outputs, float32 [batch, width]."""
        return outputs

    @cached_property
    def _forward(self) -> Any:
        """One graph for batches of all sizes: what rounds otherwise in another does not depend on which came first."""
        if self.twin:
            return self.twin._forward

        @tf.function(autograph=False)
        def forward(inputs):
            return self.outcome(tf.cast(self.model(inputs, training=False), tf.float32))

        # Called as it is: TensorFlow would count the traces of all predictors of a process together, and warn.
        return forward.get_concrete_function(self.encoder.specs)

    def __call__(self, split: Split) -> np.ndarray:
        """float32 [n, K] for all rows of a split, in their order."""
        results = np.zeros((len(split), self._forward.output_shapes[-1]), np.float32)
        for rows, inputs in prediction_batches(
            split,
            self.encoder,
            batch_size=self.batch_size,
            fixed_length=self.fixed_length,
            shard=self.workers.shard,
        ):
            results[rows] = self._forward(inputs).numpy()
        # Each row is of one worker, and 0 at the others.
        return self.workers.sum(results)

    def texts(self, columns: tuple[list[str], ...]) -> np.ndarray:
        """float32 [n, K] for texts given as lists, in one batch, or as many as their chunks ask for."""
        inputs = self.encoder(*(tf.constant(column, tf.string) for column in columns), fixed_length=self.fixed_length)
        if CHUNKS not in inputs:
            return self._forward(inputs).numpy()
        parts = within(inputs[CHUNKS].numpy(), CHUNKS_AT_ONCE)
        texts = np.arange(len(columns[0]))
        return np.concatenate([self._forward(take(inputs, texts[part])).numpy() for part in parts])


class BatchPredictor(BatchForward):
    """A BatchForward of a model that gives logits, whose meaning a task knows: predictions, float32 [n, K]."""

    def __init__(self, model: keras.Model, encoder: TextEncoder, task: Task, *arguments, **settings):
        super().__init__(model, encoder, *arguments, **settings)
        self.task = task

    def outcome(self, outputs: tf.Tensor) -> tf.Tensor:
        """See BatchForward."""
        return self.task.activation(outputs)
