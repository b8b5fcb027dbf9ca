"""What TensorFlow Serving's batching does to requests, without its threads and clocks.

As in tensorflow_serving/batching/batching_session.cc, and in tensorflow/core: kernels/batching_util/ (which cuts
requests over batches, with enable_large_batch_splitting) and framework/tensor_util.cc (Concat and Split).
"""

from collections.abc import Callable, Sequence

import numpy as np

Tensors = dict[str, np.ndarray]


class Refused(Exception):
    """The status of a batch that failed: all who have a part in it get it."""


class Aborted(Exception):
    """The server's process has ended."""


def serve(run: Callable[[Tensors], Tensors], requests: Sequence[Tensors], most: int) -> list[Tensors]:
    """Answer requests of one signature that came in one after the other, in batches as full as they can be.

    Args:
        run: the model's signature.
        requests: inputs by name, of one or more rows each.
        most: rows of a batch.

    Raises:
        Refused: the shapes of a batch's inputs differ, or an output does not have a row for each of the inputs.
        Aborted: parts of an answer do not fit together.
    """
    parts: list[list[Tensors]] = [[] for _ in requests]
    for tasks in _batches([_rows(request) for request in requests], most):
        inputs = [
            {name: values[start:end] for name, values in requests[number].items()} for number, start, end in tasks
        ]
        for answer, (number, _, _) in zip(_answer(run, inputs), tasks, strict=True):
            parts[number].append(answer)
    return [{name: concatenated([part[name] for part in own]) for name in own[0]} for own in parts]


def concatenated(tensors: Sequence[np.ndarray]) -> np.ndarray:
    """tensor::Concat: the shape of the first, with all rows, and the content of each copied behind the last's.

    Raises:
        Aborted: it does not fit (CHECK_LE(offset + size, total size)).
    """
    rows = sum(len(tensor) for tensor in tensors)
    whole = np.zeros((rows, *tensors[0].shape[1:]), tensors[0].dtype)
    flat, offset = whole.reshape(-1), 0
    for tensor in tensors:
        if offset + tensor.size > flat.size:
            raise Aborted("Check failed: offset + from_data.size() <= to_data.size()")
        flat[offset : offset + tensor.size] = tensor.reshape(-1)
        offset += tensor.size
    return whole


def _batches(sizes: Sequence[int], most: int) -> list[list[tuple[int, int, int]]]:
    """Batches of (request, first row, the one behind the last): a request that does not fit goes on in the next."""
    batches: list[list[tuple[int, int, int]]] = []
    room = 0
    for number, size in enumerate(sizes):
        start = 0
        while start < size:
            if room == 0:
                batches.append([])
                room = most
            end = min(size, start + room)
            batches[-1].append((number, start, end))
            room -= end - start
            start = end
    return batches


def _answer(run: Callable[[Tensors], Tensors], tasks: Sequence[Tensors]) -> list[Tensors]:
    for name in tasks[0]:
        if len({task[name].shape[1:] for task in tasks}) > 1:
            raise Refused(f"Tensors with name '{name}' from different tasks have different shapes")
    outputs = run({name: concatenated([task[name] for task in tasks]) for name in tasks[0]})
    sizes = [_rows(task) for task in tasks]
    if any(values.ndim == 0 or len(values) != sum(sizes) for values in outputs.values()):
        raise Refused("Batched output tensor's 0th dimension does not equal the sum of the input tensors'")
    cuts = np.cumsum(sizes)[:-1]
    pieces = {name: np.split(values, cuts) for name, values in outputs.items()}
    return [{name: parts[number] for name, parts in pieces.items()} for number in range(len(tasks))]


def _rows(tensors: Tensors) -> int:
    return len(next(iter(tensors.values())))
