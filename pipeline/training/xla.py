"""XLA: whether it compiles the updates of a run, and where its programs are kept for the next one."""

import os
import re
from importlib.metadata import version
from pathlib import Path

from pipeline.wheel import cache_folder

# From so many updates on, compiling pays on a GPU: it takes minutes, and saves milliseconds an update.
UPDATES = 50_000
# Where Linux names the GPUs that the driver sees.
GPUS = Path("/proc/driver/nvidia/gpus")
FLAG = "tf_xla_persistent_cache_directory"


def choose_xla(wanted: bool | str, updates: int) -> bool:
    """Resolve `training.xla`: whether XLA compiles the updates.

    Args:
        wanted: true, false or "auto".
        updates: of the whole training.
    """
    import tensorflow as tf

    if wanted != "auto":
        return bool(wanted)
    # TPUs compile anyway, CPUs are slower with it.
    return updates >= UPDATES and bool(tf.config.list_logical_devices("GPU"))


def keep_programs(gpus: Path = GPUS) -> Path | None:
    """Let XLA keep what it compiles for GPUs in the user's cache folder; before TensorFlow is imported.

    The folder is of this TensorFlow and these GPUs: what is in it is machine code.

    Returns:
        The folder, None where no GPU is named or the user has named a folder.
    """
    names = {_model(path.read_text()) for path in sorted(gpus.glob("*/information"))} - {None}
    if len(names) != 1:
        return None
    folder = cache_folder() / "xla" / f"tensorflow-{version('tensorflow')}-{names.pop()}"
    given = os.environ.get("TF_XLA_FLAGS", "")
    if FLAG in given:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TF_XLA_FLAGS"] = f"{given} --{FLAG}={folder}".strip()
    return folder


def _model(information: str) -> str | None:
    found = re.search(r"^Model:\s*(.+)$", information, re.MULTILINE)
    return re.sub(r"\W+", "-", found[1].strip()) if found else None
