"""Few labels: the vectors of all pairs of a class-balanced batch are pulled together or apart, then a head is fitted.

The loss is the squared error of the cosine of two vectors to 1, where their rows have the same label, or to 0. Unlike
with pairs drawn beforehand, as SetFit draws them (Tunstall et al., 2022, arXiv:2209.11055), memory does not grow with
their number, and a batch of n texts gives n (n - 1) / 2 pairs.
"""

import tensorflow as tf

from pipeline.assemble import Assembly
from pipeline.classifier import Parts
from pipeline.data.split import Split
from pipeline.methods.balanced import balanced_batches
from pipeline.methods.head import fit_head
from pipeline.tasks.task import Task
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.fit import Lesson, fit
from pipeline.training.model import ExactModel
from pipeline.training.plan import Plan


class ContrastiveModel(ExactModel):
    """From texts to their pooled vectors, [batch, hidden]; a part of a classifier, whose variables it shares.

    Attributes:
        task: says how alike two rows are.
    """

    task: Task
    # Pairs are of all texts of a batch.
    chunks_at_once = None

    def weight_sums(self, data):
        weights = data[2]
        return [tf.reduce_sum(weights), tf.reduce_sum(weights**2)]

    def losses_of(self, data, totals):
        inputs, targets, weights = data
        own = tf.math.l2_normalize(tf.cast(self(inputs, training=True), tf.float32), axis=1)
        # Pairs with the rows of all devices. Each is looked at from both ends, of which only one has a gradient here;
        # the other's is the same.
        others, their_targets, their_weights, places = self._everybody(own, targets, weights)
        wanted = self.task.likeness(targets, their_targets)
        errors = tf.square(tf.matmul(own, tf.stop_gradient(others), transpose_b=True) - wanted)
        mine = tf.range(tf.shape(weights)[0]) + places
        apart = 1.0 - tf.one_hot(mine, tf.shape(their_weights)[0])
        pairs = totals[0] ** 2 - totals[1]
        loss = tf.reduce_sum(errors * apart * weights[:, None] * their_weights[None]) / tf.maximum(pairs, 1.0)
        return {"loss": 2.0 * loss - tf.stop_gradient(loss)}

    def _everybody(self, *tensors):
        """The same of all devices, one after the other, and the place of this device's first row."""
        device = tf.distribute.get_replica_context()
        if device is None or device.num_replicas_in_sync == 1:
            return *tensors, 0
        place = tf.shape(tensors[0])[0] * device.replica_id_in_sync_group
        return *(device.all_gather(tf.stop_gradient(tensor), axis=0) for tensor in tensors), place


def train(run: Assembly, rows: Split, checkpoints: Checkpoints, score=None) -> Progress:
    """See pipeline.methods.Train."""
    if "contrastive" not in run.trainers:
        run.trainers["contrastive"] = _model(run)
    model = run.trainers["contrastive"]
    lesson = Lesson(
        rows,
        run.encoder,
        run.data.task,
        run.config.training,
        run.config.text,
        # Its batches have passes of their own, class by class, and nothing is looked at between them.
        Plan(1, run.updates, run.updates),
        None,
        run.pause,
        balanced_batches,
        lambda: fit_head(run, rows, checkpoints.workers),
    )
    return fit(model, lesson, checkpoints)


def _model(run: Assembly) -> ContrastiveModel:
    parts: Parts = run.model.classifier_parts
    with run.strategy.scope():
        model = ContrastiveModel(run.model.input, parts.pooled, name="contrastive")
        # Devices exchange vectors inside the losses, for which XLA has no place.
        model.task, model.xla = run.data.task, run.model.xla and run.strategy.num_replicas_in_sync == 1
        model.compile(
            optimizer=run.model.optimizer,
            jit_compile=False,
            steps_per_execution=run.config.training.steps_per_execution,
        )
    return model
