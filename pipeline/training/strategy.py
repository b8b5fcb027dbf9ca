"""On which devices a run trains."""

import functools

import tensorflow as tf

from pipeline.errors import UserError


def choose_strategy(wanted: str, batch_size: int, accumulation: int) -> tf.distribute.Strategy:
    """Resolve `training.strategy`.

    Args:
        wanted: "auto", "one" or "mirrored".
        batch_size: examples an update, over all devices.
        accumulation: parts of a batch.

    Returns:
        The default strategy for one device, or MirroredStrategy over all GPUs (else all logical CPUs).

    Raises:
        UserError: a batch that does not divide among the devices.
    """
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if wanted == "one" or (wanted == "auto" and len(devices) == 1):
        return tf.distribute.get_strategy()
    count = len(devices)
    if batch_size % (count * accumulation):
        raise UserError(
            f"training.batch_size {batch_size} does not divide into {count} devices"
            + (f" times {accumulation} accumulation steps" if accumulation > 1 else "")
            + f": use a multiple of {count * accumulation}."
        )
    return _mirrored(tuple(device.name for device in devices))


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """One for the whole process: a second one would number its collective operations from the start again, and
    TensorFlow refuses a number that comes back with another shape (as when pre-training precedes fine-tuning)."""
    return tf.distribute.MirroredStrategy(list(devices))


def describe(strategy: tf.distribute.Strategy, batch_size: int, dtype: str) -> str:
    """One line on devices, batch and numerics."""
    count = strategy.num_replicas_in_sync
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    each = f", {batch_size // count} a device" if count > 1 else ""
    return f"{count} {kind} device{'s' if count > 1 else ''}, batch of {batch_size}{each}, {dtype}"
