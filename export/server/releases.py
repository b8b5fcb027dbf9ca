"""What releases of TensorFlow Serving have: their operations, and the libraries of tensorflow-text that they link.

From the sources at their tags: Serving's model_servers/BUILD (SUPPORTED_TENSORFLOW_OPS) and workspace.bzl, and
tensorflow_text/BUILD (ops_lib). TensorFlow's own operations: its registry (TF_GetAllOpList) in 2.12.1 and 2.20.0.

| Serving | its tensorflow-text |
| 2.12.0 to 2.19.1 | 2.12.1 |
| 2.20.0 | 2.20.0 |

Releases before 2.12 lack FastBertNormalize, without which no model of this project works.
"""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

OLDEST, NEWEST = "2.12.0", "2.20.0"

# The shared objects of tensorflow-text's wheel whose code 2.20.0 links and earlier releases do not.
_NEW_LIBRARIES = ("_trimmer_ops.so", "_utf8_binarize_op.so")
# Of tensorflow-text, then of TensorFlow; there without those for training, for TPUs and for input pipelines.
_NEW_OPERATIONS = {
    "TFText>RoundRobinGenerateMasks", "TFText>RoundRobinTrim", "TFText>Utf8Binarize",
    "CheckPinned", "Conv", "DecodeWebP", "FFTND", "IFFTND", "IRFFTND", "RFFTND", "RaggedFillEmptyRows", "SegmentMaxV2",
    "SegmentMinV2", "StochasticCastToInt",
}  # fmt: skip


def minimum_version(operations: Iterable[str]) -> str:
    """The oldest release from 2.12.0 on whose registry has the operations, if any has them."""
    return NEWEST if _NEW_OPERATIONS.intersection(operations) else OLDEST


def parse_version(version: str) -> tuple[int, ...]:
    """2.19.1 as (2, 19, 1), to be compared.

    Raises:
        ValueError: not three numbers.
    """
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        raise ValueError(f"{version} is no release of TensorFlow Serving, such as {NEWEST}.")
    return tuple(map(int, parts))


def libraries(serving: str, site: Path | None = None) -> tuple[Path, list[Path]]:
    """The files that stand in for a server.

    Args:
        serving: its version.
        site: a folder with TensorFlow and tensorflow-text, as `pip install --target` makes it; None: the installed.

    Returns:
        The folder of libtensorflow_cc.so.2, and the shared objects with the operations of tensorflow-text.

    Raises:
        FileNotFoundError: naming what is missing.
    """
    folders = []
    for package in ("tensorflow", "tensorflow_text"):
        # Finds a package without importing it.
        found = importlib.util.find_spec(package) if site is None else None
        places = found.submodule_search_locations if found else None
        folders.append(Path(places[0]) if places else Path(site or "") / package)
    tensorflow, text = folders
    objects = sorted(text.glob("python/*/_*.so"))
    if parse_version(serving) < parse_version(NEWEST):
        objects = [path for path in objects if path.name not in _NEW_LIBRARIES]
    for path in (tensorflow / "libtensorflow_cc.so.2", tensorflow / "libtensorflow_framework.so.2", *objects[:1]):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: is that a Linux wheel of TensorFlow?")
    if not objects:
        raise FileNotFoundError(f"{text}/python holds no shared objects: is that a Linux wheel of tensorflow-text?")
    return tensorflow, objects
