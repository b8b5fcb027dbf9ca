"""export.server.batching for requests that are inputs by name, whose shapes a server compares before it joins them."""

from collections.abc import Callable, Sequence

import numpy as np

from export.server.batching import BatchFails, batches, joined

Tensors = dict[str, np.ndarray]


def serve(run: Callable[[Tensors], Tensors], requests: Sequence[Tensors], most: int) -> list[Tensors]:
    """Answer requests of one signature that came in one after the other, in batches as full as they can be.

    Args:
        run: the model's signature.
        requests: inputs by name, of one or more rows each.
        most: rows of a batch.

    Raises:
        BatchFails: the shapes of a batch's inputs differ, or an output does not have a row for each of the inputs.
        ServerEnds: parts of an answer do not fit together.
    """
    parts: list[list[Tensors]] = [[] for _ in requests]
    for tasks in batches([_rows(request) for request in requests], most):
        inputs = [
            {name: values[start:end] for name, values in requests[number].items()} for number, start, end in tasks
        ]
        for answer, (number, _, _) in zip(_answer(run, inputs), tasks, strict=True):
            parts[number].append(answer)
    return [{name: joined([part[name] for part in own]) for name in own[0]} for own in parts]


def _answer(run: Callable[[Tensors], Tensors], tasks: Sequence[Tensors]) -> list[Tensors]:
    for name in tasks[0]:
        if len({task[name].shape[1:] for task in tasks}) > 1:
            raise BatchFails(f"Tensors with name '{name}' from different tasks have different shapes")
    outputs = run({name: joined([task[name] for task in tasks]) for name in tasks[0]})
    sizes = [_rows(task) for task in tasks]
    if any(values.ndim == 0 or len(values) != sum(sizes) for values in outputs.values()):
        raise BatchFails("Batched output tensor's 0th dimension does not equal the sum of the input tensors'")
    cuts = np.cumsum(sizes)[:-1]
    pieces = {name: np.split(values, cuts) for name, values in outputs.items()}
    return [{name: parts[number] for name, parts in pieces.items()} for number in range(len(tasks))]


def _rows(tensors: Tensors) -> int:
    return len(next(iter(tensors.values())))
