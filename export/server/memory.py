"""How much memory a process that serves a model takes, measured signature by signature."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tensorflow.core.protobuf import meta_graph_pb2

from export.graph import read_graph, signatures
from export.server.ask import Call, Replies, ask, call_of
from export.server.inputs import Row, inputs_for, text_inputs
from export.server.releases import NEWEST
from export.server.safety import why_not_run
from export.server.sandbox import Limits
from export.versions import ModelError, read_metadata
from export.warmup import COSTLY
from pipeline.long_texts import CHUNKS_AT_ONCE

LOADED = "loaded"
# Tokens of a text where the model does not say how many it takes.
USUAL_LENGTH = 128
ROWS = 32


@dataclass(frozen=True)
class Memory:
    """Most resident memory of the process, in bytes."""

    rows: int
    tokens: int
    """Of each row."""
    loaded: int
    """Once the model was loaded."""
    signatures: dict[str, int] = field(default_factory=dict)
    """While each answered."""
    unfinished: str | None = None
    """The signature that was ended at the time limit: what is said of it is what it had taken by then."""


def peaks(folder: Path, rows: int = ROWS, seconds: float = 60.0) -> dict[str, int]:
    """Most resident memory of a process that serves a model, in bytes.

    Args:
        folder: the SavedModel.
        rows: of the request, each of a text that fills the model's sequence length.
        seconds: that a request may take.

    Returns:
        By signature, what the whole process had while it answered; and for "loaded", what it had when the model was
        loaded. `explain`, which may take longer than `seconds`, is ended then: it counts with what it had by that time.

    Raises:
        ModelError: there is no model, it does not load, or a signature does not answer.
        FileNotFoundError: TensorFlow's libraries cannot be called here as on Linux.
    """
    memory = measure(folder, rows, limits=Limits(seconds))
    return {LOADED: memory.loaded, **memory.signatures}


def measure(
    folder: Path, rows: int = ROWS, serving: str = NEWEST, site: Path | None = None, limits: Limits | None = None
) -> Memory:
    """As `peaks`, with what it takes to judge them.

    Args:
        folder, rows: as in `peaks`.
        serving, site, limits: as in `export.server.ask.ask`.

    Raises:
        As `peaks`.
    """
    graph = read_graph(folder)
    calls = calls_for(folder, graph, rows)
    replies = ask(folder, list(calls.values()), serving, site, limits, lambda registry: why_not_run(graph, registry))
    return memory_from(folder, list(calls), replies, rows)


def calls_for(folder: Path, graph: meta_graph_pb2.MetaGraphDef, rows: int = ROWS) -> dict[str, Call]:
    """What is asked to measure it, by signature: `rows` texts of full length."""
    wanted = signatures(graph)
    # A signature that takes long may be ended, and the process with it: it comes last.
    names = sorted(wanted, key=lambda name: (name in COSTLY, name != "serving_default", name))
    # Each word is one token at least, and what is too much is cut.
    text = b" ".join([b"a"] * sequence_length(folder))
    calls = {}
    for name in names:
        arrays = inputs_for(wanted[name], [Row("", text, text)] * rows, text_inputs(wanted))
        calls[name] = call_of(wanted[name], arrays)
    return calls


def memory_from(folder: Path, names: Sequence[str], replies: Replies, rows: int = ROWS) -> Memory:
    """What the replies say of it.

    Args:
        folder: the SavedModel.
        names: of the signatures that were asked what `calls_for` gave, in the order of the replies.
        replies: to these calls alone.
        rows: of each call.

    Raises:
        ModelError: the model does not load, or a signature does not answer.
    """
    failed = replies.error or next((answer for answer in replies.answers if isinstance(answer, str)), None)
    if failed:
        raise ModelError(f"{folder}: {failed}")
    tokens = sequence_length(folder)
    unfinished = names[len(replies.answers)] if replies.ended else None
    if replies.ended and not replies.timed_out:
        raise ModelError(f"{folder}: {rows} texts of {tokens} tokens for {unfinished}: this {replies.ended}")
    return Memory(rows, tokens, replies.loaded_bytes, dict(zip(names, replies.peaks, strict=False)), unfinished)


def sequence_length(folder: Path) -> int:
    """Tokens of the longest text that a model takes; of one of chunks, of one of the ROWS that fill its memory."""
    try:
        metadata = read_metadata(folder)
    except ModelError:
        metadata = {}
    found = metadata.get("sequence_length")
    length = found if isinstance(found, int) and found > 0 else USUAL_LENGTH
    # It works on so many chunks at a time, however many there are.
    return length * min(metadata.get("long", {}).get("max_chunks", 1), -(-CHUNKS_AT_ONCE // ROWS))
