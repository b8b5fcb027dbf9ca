"""A SavedModel asked as a model server would: by c_api.py, in a bounded process of its own."""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.framework import op_def_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from export.server.releases import NEWEST, libraries
from export.server.sandbox import Child, Ended, Limits, TimedOut, array_of

Call = tuple[dict[str, np.ndarray], list[str]]
"""What to feed, by the name of the tensor, and the names of the tensors to fetch."""
PROGRAM = Path(__file__).parent / "c_api.py"


def call_of(signature: SignatureDef, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None) -> Call:
    """What asks a signature.

    Args:
        signature: of the model.
        inputs: by the names of its inputs.
        outputs: names of its outputs; None: all, sorted.
    """
    names = sorted(signature.outputs) if outputs is None else outputs
    feeds = {signature.inputs[key].name: value for key, value in inputs.items()}
    return feeds, [signature.outputs[key].name for key in names]


@dataclass
class Replies:
    """What came back."""

    error: str | None = None
    """Why there are no answers: the model was not run, did not load, or ended the process as it loaded."""
    refused: bool = False
    """It was not run, for the reason in `error`."""
    answers: list[list[np.ndarray] | str] = field(default_factory=list)
    """For each call its tensors (strings as bytes in arrays of dtype object), or why it failed. Where `ended` is set,
    the first call without one ended the process, and the following were not asked."""
    ended: str | None = None
    """How a call ended the process, if one did."""
    timed_out: bool = False
    """It was ended since that call, or loading, took longer than allowed."""
    operations: dict[str, bool] | None = None
    """All operations that were registered, and whether each has state; None where the process broke down."""
    tensorflow: str = "unknown"
    """Version of the libraries."""
    loaded_bytes: int = 0
    """The most memory that the process had until the model was loaded."""
    peaks: list[int] = field(default_factory=list)
    """The most memory that the process had while it answered each call, of those before `measured_from`: until then;
    where one ended it, the last is that call's as far as it got."""

    @property
    def peak_bytes(self) -> int:
        """The most memory that the process had."""
        return max([self.loaded_bytes, *self.peaks])


def ask(
    folder: Path,
    calls: Sequence[Call],
    serving: str = NEWEST,
    site: Path | None = None,
    limits: Limits | None = None,
    refusal: Callable[[dict[str, bool]], str | None] = lambda registry: None,
    last_seconds: float | None = None,
    measured_from: int = 0,
) -> Replies:
    """Load a SavedModel through TensorFlow's C API and run it.

    With the operations that a release of TensorFlow Serving links and no others, and with XLA off, as it is there.

    Args:
        folder: the SavedModel.
        calls: one after the other.
        serving: the release.
        site: as in `export.server.releases.libraries`.
        limits: of the process; None: `Limits()`.
        refusal: given Replies.operations, says why the model is not to be run, or None; asked before it is loaded.
        last_seconds: that the last call may take, where `limits` allows it more.
        measured_from: number of the first call whose memory is measured by itself, which takes time.

    Raises:
        FileNotFoundError: a library is missing.
    """
    tensorflow, objects = libraries(serving, site)
    replies = Replies()
    with Child(PROGRAM, limits or Limits()) as child:
        try:
            found = _exchange(
                child, tensorflow=str(tensorflow.resolve()), op_libraries=[str(p.resolve()) for p in objects]
            )
            replies.tensorflow = found["tensorflow_version"]
            registry = op_def_pb2.OpList.FromString(base64.b64decode(found["operations"]))
            replies.operations = {operation.name: operation.is_stateful for operation in registry.op}
            replies.error = refusal(replies.operations)
            replies.refused = replies.error is not None
            if replies.refused:
                return replies
            loaded = _exchange(child, model=str(folder.resolve()), calls=list(calls), measured_from=measured_from)
            replies.error, replies.loaded_bytes = loaded["error"], loaded["peak_bytes"]
        except Ended as how:
            replies.error, replies.timed_out = f"loading it {how}", isinstance(how, TimedOut)
        if replies.error is None:
            seconds = [*[None] * (len(calls) - 1), last_seconds][: len(calls)]
            replies.answers.extend(_answers(child, seconds, replies))
    return replies


def _exchange(child: Child, **content: Any) -> dict[str, Any]:
    child.send(content)
    return child.receive()


def _answers(child: Child, limits: Sequence[float | None], replies: Replies) -> Iterator[list[np.ndarray] | str]:
    for seconds in limits:
        try:
            line = child.receive(seconds)
        except Ended as how:
            replies.ended, replies.timed_out = str(how), isinstance(how, TimedOut)
            replies.peaks.append(child.peak_bytes)
            return
        replies.peaks.append(line["peak_bytes"])
        yield line["error"] if "error" in line else [array_of(tensor) for tensor in line["tensors"]]
