"""The devices that a run trains on."""

import functools
import os
import signal
import threading

import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops

from pipeline.config import Config
from pipeline.data.documents import is_ragged, share
from pipeline.data.untuned import unconverted, untuned
from pipeline.errors import UserError
from pipeline.training.cluster import Cluster


def choose_strategy(wanted: str, cluster: Cluster | None = None, timeout: float = 0.0) -> tf.distribute.Strategy:
    """Resolve `training.strategy`. With a cluster, call it before anything else of TensorFlow.

    Args:
        wanted: "auto", "one", "mirrored", "multiworker" or "tpu".
        cluster: of which this process is a worker; None: it is alone.
        timeout: seconds in which the workers must have connected, or SIGALRM ends the process; 0: no limit.

    Returns:
        The default strategy for one device; MirroredStrategy over all GPUs (else all logical CPUs) of this machine;
        MultiWorkerMirroredStrategy over those of all workers; or TPUStrategy over all cores.

    Raises:
        UserError: no TPU where one is asked for.
    """
    if cluster is not None:
        return _multiworker(cluster, timeout)
    if wanted == "tpu" or (wanted == "auto" and (os.environ.get("TPU_NAME") or tf.config.list_physical_devices("TPU"))):
        return _tpu(os.environ.get("TPU_NAME") or "local")
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if wanted == "one" or (wanted == "auto" and len(devices) == 1):
        return tf.distribute.get_strategy()
    return _mirrored(tuple(device.name for device in devices))


# One of each for the whole process: a second one would number its collective operations from the start again, and
# TensorFlow refuses a number that comes back with another shape (as when pre-training precedes fine-tuning).


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    _untune_device_iterators()
    strategy = tf.distribute.MirroredStrategy(list(devices))
    strategy.extended.experimental_enable_get_next_as_optional = False
    return strategy


@functools.cache
def _multiworker(cluster: Cluster, timeout: float) -> tf.distribute.MultiWorkerMirroredStrategy:
    _untune_device_iterators()
    os.environ["TF_CONFIG"] = cluster.tf_config()
    listening = threading.current_thread() is threading.main_thread()
    # For a worker that died after the rendezvous, TensorFlow waits an hour or more, and lets no Python run meanwhile:
    # Ctrl-C and the alarm end the process without it.
    interrupt = signal.getsignal(signal.SIGINT)
    if listening and callable(interrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if listening and callable(interrupt):
            signal.signal(signal.SIGINT, interrupt)
    # TensorFlow's coordination service catches SIGTERM and does nothing about it.
    if listening:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # All workers have the same number of batches: no need to agree before each whether there is one.
    strategy.extended.experimental_enable_get_next_as_optional = False
    return strategy


@functools.cache
def _untune_device_iterators() -> None:
    """A distributed dataset ends in one dataset more for each device, whose options TensorFlow lets nobody set."""
    make = multi_device_iterator_ops._create_device_dataset
    multi_device_iterator_ops._create_device_dataset = lambda *arguments: untuned(make(*arguments))


@functools.cache
def _tpu(name: str) -> tf.distribute.TPUStrategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        if name != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise UserError(
            f"training.strategy tpu: there is no TPU at {name!r} ({str(error).splitlines()[0][:200]}); run it on a TPU "
            "machine, or set TPU_NAME."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def check(strategy: tf.distribute.Strategy, config: Config) -> None:
    """Refuse settings that do not go with the devices.

    Raises:
        UserError: a batch that does not divide among them; on a TPU, shapes that vary.
    """
    count = strategy.num_replicas_in_sync

    def divides(key: str, batch_size: int, accumulation: int) -> None:
        if batch_size % (count * accumulation):
            raise UserError(
                f"{key} {batch_size} does not divide into {count} devices"
                + (f" times {accumulation} accumulation steps" if accumulation > 1 else "")
                + f": use a multiple of {count * accumulation}."
            )

    if config.training.xla is True and isinstance(strategy, tf.distribute.TPUStrategy):
        raise UserError("A TPU compiles the whole update anyway: leave training.xla at auto.")
    if config.corpus.train and config.stage != "finetune":
        for number, phase in enumerate(config.pretraining.phases):
            divides(f"pretraining.phases[{number}].batch_size", phase.batch_size, config.pretraining.accumulation)
    if config.stage == "pretrain":
        return
    if config.training.tokens_per_batch is None:
        divides("training.batch_size", config.training.batch_size, config.training.accumulation)
    if isinstance(strategy, tf.distribute.TPUStrategy):
        if not config.text.fixed_length:
            raise UserError(
                "A TPU compiles the step for one shape: set text.fixed_length to true"
                + (" and unset training.tokens_per_batch." if config.training.tokens_per_batch else ".")
            )
        if config.training.embedding_update == "lazy":
            raise UserError("A TPU cannot update single rows of a table: set training.embedding_update to dense.")


def worker_count(strategy: tf.distribute.Strategy) -> int:
    """Processes; only MultiWorkerMirroredStrategy has several, and no public way to ask."""
    return getattr(strategy.extended, "_num_workers", 1)


def describe(
    strategy: tf.distribute.Strategy, batch_size: int, dtype: str, xla: bool, tokens: int | None = None
) -> str:
    """One line on strategy, devices, batch (of so many rows, or `tokens`) and numerics."""
    count, kind = strategy.num_replicas_in_sync, _device_kind(strategy)
    workers = worker_count(strategy)
    each = count // workers
    devices = f"{each} {kind} device{'s' if each > 1 else ''}"
    if workers > 1:
        devices = f"{workers} workers with {devices} each"
    share = f", {batch_size // count} a device" if count > 1 else ""
    batch = f"{batch_size}{share}" if tokens is None else f"{tokens} tokens"
    return f"{devices}, batch of {batch}, {dtype}, {'XLA' if xla or kind == 'TPU' else 'no XLA'}"


def _device_kind(strategy: tf.distribute.Strategy) -> str:
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return "TPU"
    return "GPU" if tf.config.list_logical_devices("GPU") else "CPU"


def distributed(strategy: tf.distribute.Strategy, batches: tf.data.Dataset) -> tf.data.Dataset:
    """This worker's share of each batch, divided among its own devices.

    Args:
        strategy: whose devices.
        batches: elements are nests of tensors whose rows, this worker's, divide among its devices.

    Returns:
        What model.fit takes: `batches`, or a distributed dataset.
    """
    if strategy.num_replicas_in_sync == 1:
        return batches

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = strategy.num_replicas_in_sync // context.num_input_pipelines
        if local == 1:
            return batches
        if is_ragged(batches.element_spec[0]):
            of_devices = tf.data.Dataset.range(local, output_type=tf.int32)
            shares = batches.flat_map(
                unconverted(lambda *batch: of_devices.map(lambda device: share(batch, device, local)))
            )
            return shares.prefetch(2 * local)

        @unconverted
        def parts(*batch):
            return tf.nest.map_structure(
                lambda t: tf.reshape(t, tf.concat([[local, _rows(t) // local], tf.shape(t)[1:]], axis=0)), batch
            )

        return batches.map(parts).unbatch().prefetch(2 * local)

    return strategy.distribute_datasets_from_function(of_worker)


def _rows(tensor: tf.Tensor) -> int | tf.Tensor:
    """As a number where it is known: a TPU needs it so."""
    return tensor.shape[0] or tf.shape(tensor)[0]
