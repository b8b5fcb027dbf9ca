"""Which number format this machine trains fastest in without losing accuracy."""

from pathlib import Path

import tensorflow as tf


def choose_dtype(wanted: str) -> str:
    """Resolve `training.dtype`: the Keras dtype policy, "float32" or "mixed_bfloat16"."""
    if wanted != "auto":
        return wanted
    return "mixed_bfloat16" if _multiplies_bfloat16() else "float32"


def serving_dtype(wanted: str, training: str) -> str:
    """Resolve `export.dtype` after training in the dtype policy `training`: the policy of the served model."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if training == "mixed_bfloat16" else "float32"


def _multiplies_bfloat16() -> bool:
    if tf.config.list_physical_devices("TPU"):
        return True
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        # Ampere (compute capability 8.0) was the first with bfloat16 matrix units.
        capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in gpus]
        return all(capability and capability >= (8, 0) for capability in capabilities)
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "amx_bf16" in flags or "avx512_bf16" in flags
