"""A SavedModel asked as a model server would: by c_api.py, in a process of its own."""

import pickle
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tensorflow.core.framework import op_def_pb2

from export.process import run_program
from export.server.releases import NEWEST, libraries

Call = tuple[dict[str, np.ndarray], list[str]]
"""What to feed, by the name of the tensor, and the names of the tensors to fetch."""


@dataclass(frozen=True)
class Replies:
    """What came back."""

    error: str | None = None
    """Why the model did not load, if it did not."""
    answers: Sequence[list[np.ndarray] | str] = ()
    """For each call its tensors (strings as bytes in arrays of dtype object), or why it failed."""
    operations: dict[str, bool] | None = None
    """All operations that were registered, and whether each has state; None where the process broke down."""
    tensorflow: str = "unknown"
    """Version of the libraries."""
    peak_bytes: int = 0
    """The most memory that the process had."""


def ask(folder: Path, calls: Sequence[Call], serving: str = NEWEST, site: Path | None = None) -> Replies:
    """Load a SavedModel through TensorFlow's C API and run it.

    With the operations that a release of TensorFlow Serving links and no others, and with XLA off, as it is there.

    Args:
        folder: the SavedModel.
        calls: one after the other.
        serving: the release.
        site: as in `export.server.releases.libraries`.

    Raises:
        FileNotFoundError: a library is missing.
    """
    tensorflow, objects = libraries(serving, site)
    with tempfile.TemporaryDirectory() as temporary:
        request, answer = Path(temporary) / "request.pickle", Path(temporary) / "answer.pickle"
        content = {
            "tensorflow": str(tensorflow.resolve()),
            "op_libraries": [str(path.resolve()) for path in objects],
            "model": str(folder.resolve()),
            "calls": list(calls),
        }
        request.write_bytes(pickle.dumps(content))
        status, message = run_program("server/c_api.py", str(request), str(answer), folder=Path(temporary))
        if status or not answer.exists():
            return Replies(f"the process ended with status {status}: {message}")
        found = pickle.loads(answer.read_bytes())
    registry = op_def_pb2.OpList.FromString(found["operations"])
    return Replies(
        found["error"],
        found["answers"],
        {operation.name: operation.is_stateful for operation in registry.op},
        found["tensorflow_version"],
        found["peak_bytes"],
    )
