"""A classifier that learns from a larger one's answers and hidden states, beside the labels."""

import keras
import tensorflow as tf

from pipeline.classifier import with_hidden_states
from pipeline.config import DistillationConfig
from pipeline.data.documents import sums_of_texts, token_counts
from pipeline.long_texts import CHUNKS
from pipeline.tasks.task import Task
from pipeline.training.model import TrainableClassifier


class DistilledClassifier(TrainableClassifier):
    """A classifier with a teacher. Before the optimizer is made, give it `learn_from`.

    The teacher is no part of the model: neither its weights nor its random states are saved or counted. The projection
    of hidden states is one, for it is trained, but the classifier's output does not depend on it.
    """

    projection: keras.layers.Dense | None = None
    """From the student's hidden states to the teacher's width, without bias; None where the widths are equal."""

    def learn_from(
        self, teacher: keras.Model, config: DistillationConfig, task: Task, seed: int, dtype: str | None = None
    ) -> None:
        """Set the teacher, in the current strategy scope.

        Args:
            teacher: from `build_classifier`, with the outputs of this model; is frozen.
            config: the distillation section.
            task: of both.
            seed: of the projection.
            dtype: Keras dtype policy of the projection; None: the current one.
        """
        teacher.trainable = False
        self._lesson = _Lesson(with_hidden_states(self), with_hidden_states(teacher), config, task)
        narrow, wide = (states[0].shape[-1] for states in (self._lesson.student_states, self._lesson.teacher_states))
        if config.hidden_weight and narrow != wide:
            initializer = keras.initializers.GlorotUniform(seed)
            projection = keras.layers.Dense(
                wide, use_bias=False, kernel_initializer=initializer, dtype=dtype, name="projection"
            )
            projection.build((None, None, narrow))
            self.projection = projection

    def losses_of(self, data, totals):
        inputs, targets, weights = data
        lesson = self._lesson
        theirs = lesson.teacher(inputs, training=False)
        ours = lesson.student(inputs, training=True)

        def mean(of_rows):
            return tf.reduce_sum(of_rows * weights) / totals[0]

        share = lesson.config.soft_share
        hard = mean(self.loss(targets, ours["logits"]))
        soft = mean(lesson.task.soft_loss(theirs["logits"], ours["logits"], lesson.config.temperature))
        losses = {"loss": (1.0 - share) * hard + share * soft, "hard_loss": hard, "soft_loss": soft}
        if lesson.config.hidden_weight:
            states = ours["states"]
            if self.projection is not None:
                states = [self.projection(state) for state in states]
            matched = [theirs["states"][i] for i in matched_layers(len(states) - 1, len(theirs["states"]) - 1)]
            losses["hidden_loss"] = mean(hidden_loss(matched, states, inputs))
            losses["loss"] += lesson.config.hidden_weight * losses["hidden_loss"]
        return losses


class _Lesson:
    """Not a keras object, so that a model which holds it does not take the models in it for layers of its own."""

    def __init__(self, student: keras.Model, teacher: keras.Model, config: DistillationConfig, task: Task):
        self.student, self.teacher, self.config, self.task = student, teacher, config, task
        self.student_states, self.teacher_states = student.output["states"], teacher.output["states"]


def hidden_loss(teacher: list[tf.Tensor], student: list[tf.Tensor], inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    """Mean squared error between hidden states (Jiao et al., 2020): over layers, tokens but padding, and width.

    Args:
        teacher, student: float [batch, length, hidden] of equal shapes, by layer; of texts in chunks [rows, ...].
        inputs: of both models.

    Returns:
        float32 [batch]
    """
    mask = tf.cast(inputs["padding_mask"], tf.float32)
    # A filler row may have no token.
    tokens = tf.maximum(tf.cast(token_counts(inputs), tf.float32), 1.0)
    total = 0.0
    for theirs, ours in zip(teacher, student, strict=True):
        error = tf.cast(ours, tf.float32) - tf.cast(tf.stop_gradient(theirs), tf.float32)
        of_rows = tf.reduce_sum(tf.reduce_mean(tf.square(error), axis=-1) * mask, axis=1)
        total += (sums_of_texts(of_rows, inputs[CHUNKS]) if CHUNKS in inputs else of_rows) / tokens
    return total / len(student)


def matched_layers(student: int, teacher: int) -> list[int]:
    """Of a student of so many layers: the teacher's layer for each, from 0, the embeddings, to the last, evenly."""
    return [(2 * i * teacher + student) // (2 * student) for i in range(student + 1)]
