"""Few labels: the vectors of a class-balanced batch are pulled to those of their class and away from all others, then
a head is fitted.

The loss is supervised contrastive (Khosla et al., 2020, arXiv:2004.11362): each row picks those of its label among all
rows of the batch, by the softmax of cosines. Unlike with pairs drawn beforehand, as SetFit draws them (Tunstall et
al., 2022, arXiv:2209.11055), memory does not grow with their number, and a batch of n texts compares n (n - 1) / 2.
"""

import tensorflow as tf

from pipeline.assemble import Assembly
from pipeline.classifier import Parts
from pipeline.data.split import Split
from pipeline.methods.balanced import LEAST_ROWS, balanced_batches
from pipeline.methods.head import fit_head
from pipeline.tasks.task import Task
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.fit import Lesson, fit
from pipeline.training.model import ExactModel
from pipeline.training.plan import Plan

# Of the softmax over cosines, where a batch has room for every class, and where classes are more; measured in
# benchmarks/README.md, few labels.
TEMPERATURE, TEMPERATURE_OF_MANY = 0.3, 0.1


class ContrastiveModel(ExactModel):
    """From texts to their pooled vectors, [batch, hidden]; a part of a classifier, whose variables it shares.

    Attributes:
        task: says how alike two rows are.
        temperature: what cosines are divided by.
    """

    task: Task
    temperature: float = TEMPERATURE
    # Pairs are of all texts of a batch.
    chunks_at_once = None

    def weight_sums(self, data):
        return [tf.reduce_sum(data[2])]

    def losses_of(self, data, totals):
        inputs, targets, weights = data
        own = tf.math.l2_normalize(tf.cast(self(inputs, training=True), tf.float32), axis=1)
        vectors, targets, weights = self._everybody(own, targets, weights)
        losses = pair_losses(vectors, self.task.likeness(targets, targets), weights, self.temperature)
        loss = tf.reduce_sum(losses * weights) / totals[0]
        # Each device has the loss of all rows, but a gradient by its own alone: gradients add up, the loss is shared.
        share = 1.0 / self.distribute_strategy.num_replicas_in_sync
        return {"loss": loss - (1.0 - share) * tf.stop_gradient(loss)}

    def _everybody(self, own, targets, weights):
        """The same of all devices, one after the other; vectors of other devices have no gradient here."""
        device = tf.distribute.get_replica_context()
        if device is None or device.num_replicas_in_sync == 1:
            return own, targets, weights
        fixed = tf.stop_gradient(own)
        all_fixed, targets, weights = (device.all_gather(tensor, axis=0) for tensor in (fixed, targets, weights))
        size = tf.shape(own)[0]
        places = size * device.replica_id_in_sync_group + tf.range(size)
        return tf.tensor_scatter_nd_add(all_fixed, places[:, None], own - fixed), targets, weights


def pair_losses(vectors: tf.Tensor, likeness: tf.Tensor, weights: tf.Tensor, temperature: float) -> tf.Tensor:
    """float32 [n]: how badly each row picks those that it is like among all others.

    Args:
        vectors: float32 [n, hidden], of length 1.
        likeness: float32 [n, n], from 0 to 1; the more, the more a row counts among those to be picked.
        weights: float32 [n], how much a row counts for others.
        temperature: what cosines are divided by; the less, the more those count that are nearly alike.

    Returns:
        The cross-entropy; 0 for a row that is like no other.
    """
    others = weights[None] * (1.0 - tf.eye(tf.shape(vectors)[0]))
    cosines = tf.matmul(vectors, vectors, transpose_b=True) / temperature
    chances = tf.where(others > 0, cosines + tf.math.log(tf.maximum(others, 1e-30)), -1e9)
    wanted = likeness * others
    missed = tf.reduce_logsumexp(chances, axis=1, keepdims=True) - cosines
    return tf.math.divide_no_nan(tf.reduce_sum(wanted * missed, 1), tf.reduce_sum(wanted, 1))


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
    many = LEAST_ROWS * run.data.task.outputs > run.config.training.batch_size
    with run.strategy.scope():
        model = ContrastiveModel(run.model.input, parts.pooled, name="contrastive")
        # Devices exchange vectors inside the losses, for which XLA has no place.
        model.task, model.temperature = run.data.task, TEMPERATURE_OF_MANY if many else TEMPERATURE
        model.xla = run.model.xla and run.strategy.num_replicas_in_sync == 1
        model.compile(
            optimizer=run.model.optimizer,
            jit_compile=False,
            steps_per_execution=run.config.training.steps_per_execution,
        )
    return model
