"""How TensorFlow Serving puts requests together, cuts them and puts their answers together again.

Its batching session (tensorflow_serving/batching/batching_session.cc) fills batches up to their largest size, cuts a
request where a batch is full, asks the inputs of a batch along dimension 0, cuts the outputs along it, and joins the
pieces of a request. It compares no other dimension than that (tensorflow/serving#530, #1934).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class ServerEnds(Exception):
    """A check in the server's code fails, which ends the process; the message says which."""


class BatchFails(Exception):
    """All requests of a batch get an error; the message says why."""


class Piece(NamedTuple):
    """Rows of one request."""

    request: int
    begin: int
    end: int


def batches(sizes: Sequence[int], most: int) -> list[list[Piece]]:
    """The pieces that are asked together, where requests of these sizes come in and a batch holds `most` rows."""
    found: list[list[Piece]] = []
    room = 0
    for request, size in enumerate(sizes):
        begin = 0
        while begin < size:
            if not room:
                found.append([])
                room = most
            end = min(size, begin + room)
            found[-1].append(Piece(request, begin, end))
            room -= end - begin
            begin = end
    return found


def serve(
    requests: Sequence[Sequence[int]], most: int, run: Callable[[list[int]], Sequence[np.ndarray]]
) -> list[list[np.ndarray]]:
    """The outputs that each request gets.

    Args:
        requests: rows, by any numbers.
        most: rows of a batch.
        run: gives the outputs of the model for the rows of one batch.

    Raises:
        BatchFails, ServerEnds: what it says.
    """
    parts: list[list[Sequence[np.ndarray]]] = [[] for _ in requests]
    for batch in batches([len(rows) for rows in requests], most):
        rows = [row for piece in batch for row in requests[piece.request][piece.begin : piece.end]]
        outputs = run(rows)
        for output in outputs:
            if not output.ndim or len(output) != len(rows):
                raise BatchFails(f"an output has shape {list(output.shape)} for {len(rows)} rows")
        begin = 0
        for piece in batch:
            end = begin + piece.end - piece.begin
            parts[piece.request].append([output[begin:end] for output in outputs])
            begin = end
    return [[joined(pieces) for pieces in zip(*found, strict=True)] for found in parts]


def joined(pieces: Sequence[np.ndarray]) -> np.ndarray:
    """As tensorflow::tensor::Concat does: the first says how wide all are, and the contents follow each other.

    Raises:
        ServerEnds: they do not fit.
    """
    shape = (sum(len(piece) for piece in pieces), *pieces[0].shape[1:])
    content = np.concatenate([piece.ravel() for piece in pieces])
    room = int(np.prod(shape))
    if len(content) > room:
        raise ServerEnds(f"joining {' and '.join(str(list(piece.shape)) for piece in pieces)}: Check failed: offset")
    result = np.full(room, b"" if content.dtype == object else 0, content.dtype)
    result[: len(content)] = content
    return result.reshape(shape)
