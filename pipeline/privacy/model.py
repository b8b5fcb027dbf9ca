"""The private update: each example's gradient clipped, their sum, and noise that hides any one of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from pipeline.backbone.notes import Note, noting
from pipeline.data.batching import trim
from pipeline.data.documents import token_counts
from pipeline.errors import UserError
from pipeline.privacy.gradients import squared_norms, weighted_sum
from pipeline.privacy.optimizer import PrivateAdamW
from pipeline.training.model import TrainableClassifier

# Variables of a model at most, so that no two draws of noise have the same seed.
MOST_VARIABLES = 2**20


@dataclass(frozen=True)
class Mechanism:
    """The Gaussian mechanism of each update.

    Attributes:
        clip_norm: largest norm of an example's gradient.
        noise: standard deviation in units of clip_norm.
        batch_size: expected, which the noisy sum is divided by.
        seed: two int64, secret, of all noise.
    """

    clip_norm: float
    noise: float
    batch_size: float
    seed: tuple[int, int]

    @property
    def deviation(self) -> float:
        """Of the noise in each number of the mean gradient."""
        return self.noise * self.clip_norm / self.batch_size

    def draw(self, shape: Sequence[int], update: tf.Tensor, number: int) -> tf.Tensor:
        """Noise of the mean gradient, float32.

        Args:
            shape: of a variable.
            update: int64 scalar, from 0; the same update has the same noise, whenever it is made.
            number: of the variable.
        """
        first, second = self.seed
        seed = tf.stack([first + update * MOST_VARIABLES + number, tf.constant(second, tf.int64)])
        return normal(shape, seed) * self.deviation


def normal(shape: Sequence[int], seed: tf.Tensor) -> tf.Tensor:
    """float32, standard normal numbers that the seed decides, int64 [2], by Box and Muller's transform.

    TensorFlow's own does the same number by number, which takes 1.85 times as long on a CPU: an update draws one for
    each weight.
    """
    count = math.prod(shape)
    uniform = tf.random.stateless_uniform([2, -(-count // 2)], seed)
    # From (0, 1], whose logarithm is finite.
    radius, angle = tf.sqrt(-2.0 * tf.math.log(1.0 - uniform[0])), 2.0 * math.pi * uniform[1]
    return tf.reshape(tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], 0)[:count], shape)


class PrivateClassifier(TrainableClassifier):
    """A classifier whose layers note their calls (layers.py), with a mechanism. No loss is told: it is of private rows.

    Each example's gradient is that of its loss times its weight; those of weight 0 only fill up a batch.
    """

    mechanism: Mechanism | None = None

    def use(self, mechanism: Mechanism) -> None:
        """In all updates from now on, of which the optimizer takes out the variance; after compile."""
        assert isinstance(self.optimizer, PrivateAdamW)
        self.mechanism, self.optimizer.noise_variance = mechanism, mechanism.deviation**2

    def weight_sums(self, data):
        """The expected number of examples: the true one would tell who is among them."""
        assert self.mechanism is not None
        return [tf.constant(self.mechanism.batch_size / self.distribute_strategy.num_replicas_in_sync)]

    def _all_gradients(self, data, totals):
        if self.accumulation > 1:
            # A batch is of rows at random, most of them much shorter than the longest: parts of like length are worked
            # through in a fraction of the time, and their sum is that of any other parts.
            order = tf.argsort(token_counts(data[0]), stable=True)
            data = tf.nest.map_structure(lambda tensor: tf.gather(tensor, order), data)
        return super()._all_gradients(data, totals)

    def _part(self, parts, i):
        inputs, targets, weights = super()._part(parts, i)
        # Of one length where that is asked for (text.fixed_length).
        return trim(inputs) if inputs["token_ids"].shape[1] is None else inputs, targets, weights

    def _gradients(self, data, totals):
        assert self.mechanism is not None
        inputs, targets, weights = data
        with tf.GradientTape() as tape:
            with noting() as notes:
                logits = self(inputs, training=True)
            losses = self.loss(targets, logits) * weights
        self._require_all(notes)
        of_outputs = tape.gradient(losses, [made.outputs for made in notes])
        squares = squared_norms(notes, of_outputs, tf.size(weights))
        factors = self.mechanism.clip_norm / tf.maximum(tf.sqrt(squares), self.mechanism.clip_norm)
        # Dense, of tables too: all their rows have noise, also those that no example names.
        return {}, weighted_sum(notes, of_outputs, factors / totals[0], self.trainable_variables)

    def finished(self, gradients):
        """With noise, drawn once for all devices."""
        assert self.mechanism is not None
        device = tf.distribute.get_replica_context().replica_id_in_sync_group
        once = tf.cast(tf.equal(device, 0), tf.float32)
        update = tf.cast(self.optimizer.iterations.value, tf.int64)
        return [
            gradient + once * self.mechanism.draw(variable.shape, update, number)
            for number, (gradient, variable) in enumerate(zip(gradients, self.trainable_variables, strict=True))
        ]

    def _require_all(self, notes: Sequence[Note]) -> None:
        """Refuse a model of which some weights' gradients would not be bounded.

        Raises:
            UserError: naming them.
        """
        noted = [id(variable) for made in notes for variable in made.variables]
        unknown = [variable.path for variable in self.trainable_variables if noted.count(id(variable)) != 1]
        if unknown:
            raise UserError(
                f"training.privacy: the gradient of one row is not known of {', '.join(unknown[:3])}: use another "
                "model.pooling or model.backbone."
            )
