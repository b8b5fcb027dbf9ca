"""What the processes of a run exchange besides gradients. With one process all of it is free."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from pipeline.errors import Stopped, UserError, WorkerLost
from pipeline.training.cluster import Cluster
from pipeline.training.rendezvous import missing


class Workers:
    """The workers of a run.

    Args:
        strategy: of all their devices; None: the current one.
        cluster: None: this process is alone.

    Attributes:
        index, count: which of how many this one is.
        chief: whether it is the one that writes files.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None, cluster: Cluster | None = None):
        self.strategy, self.cluster = strategy or tf.distribute.get_strategy(), cluster
        self.index, self.count = (cluster.index, len(cluster.addresses)) if cluster else (0, 1)
        self.chief = self.index == 0

    @property
    def shard(self) -> tuple[int, int]:
        """(index, count)"""
        return self.index, self.count

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum of all workers' arrays, which have one shape and dtype; all must call it. Adding zeros is exact."""
        if self.count == 1:
            return values
        return self._sum_of(values.shape, values.dtype.name)(tf.constant(values)).numpy()

    @functools.cache  # noqa: B019  One a process.
    def _sum_of(self, shape: tuple[int, ...], dtype: str):
        devices = self.strategy.num_replicas_in_sync // self.count

        def replica(values):
            context = tf.distribute.get_replica_context()
            first = context.replica_id_in_sync_group % devices == 0
            own = tf.where(first, values, tf.zeros_like(values))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, own)

        @tf.function(input_signature=[tf.TensorSpec(shape, dtype)], autograph=False)
        def total(values):
            return self.strategy.experimental_local_results(self.strategy.run(replica, args=(values,)))[0]

        return total

    def barrier(self) -> None:
        """Wait until all workers have called it."""
        self.sum(np.zeros(1, np.float32))

    @contextmanager
    def chief_first(self) -> Iterator[None]:
        """A body that the chief runs first and the others after it, so that they can read what it has written."""
        if not self.chief:
            self.barrier()
        yield
        if self.chief:
            self.barrier()


@contextmanager
def lost_workers_named(cluster: Cluster | None) -> Iterator[None]:
    """Turn TensorFlow's errors about a broken connection into a sentence that names the lost worker."""
    try:
        yield
    except (UserError, Stopped, WorkerLost):
        raise
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError,
            tf.errors.DeadlineExceededError) as error:  # fmt: skip
        if cluster is None:
            raise
        gone = missing(cluster)
        if not gone and isinstance(error, tf.errors.InternalError):
            raise
        names = " and ".join(gone) or "another worker"
        raise WorkerLost(f"{names} is gone; the saved state is kept: start all workers again to resume.") from error
