"""Cells of rows, as texts, to what the inputs of a signature take: strings, numbers, or vectors of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.data.cell_values import is_missing


def fed(columns: Mapping[str, Sequence[Any]], inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays by the names of a signature's inputs.

    Args:
        columns: by these names, n cells each.
        inputs: TensorInfos, or tf.TensorSpecs.
    """
    return {name: array_of(cells, inputs[name]) for name, cells in columns.items()}


def array_of(cells: Sequence[Any], info: Any) -> np.ndarray:
    """What an input takes for n cells: object [n] of bytes, or float32 [n] or [n, size].

    Args:
        cells: str, bytes, numbers or lists of these; None and "" are missing: "" for an input of strings, else NaN.
        info: the input's TensorInfo, or tf.TensorSpec.

    Raises:
        ValueError: a cell is none of what the input takes.
    """
    if tf.as_dtype(info.dtype) == tf.string:
        values = np.empty(len(cells), object)
        values[:] = [_bytes(cell) for cell in cells]
        return values
    size = _sizes(info)
    if not size:
        return np.array([_number(cell) for cell in cells], np.float32)
    return np.array([_vector(cell, size[0]) for cell in cells], np.float32).reshape(len(cells), size[0])


def _sizes(info: Any) -> list[int]:
    """Of an input, the dimensions behind the batch's."""
    shape = info.shape if isinstance(info, tf.TensorSpec) else [dim.size for dim in info.tensor_shape.dim]
    return [int(size) for size in list(shape)[1:]]


def _bytes(cell: Any) -> bytes:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return b""
    return cell if isinstance(cell, bytes) else str(cell).encode("utf-8", "replace")


def _number(cell: Any) -> float:
    if is_missing(cell):
        return math.nan
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise ValueError(f"{cell!r:.60} is no number") from None


def _vector(cell: Any, size: int) -> list[float]:
    if is_missing(cell):
        return [math.nan] * size
    parts = cell.split() if isinstance(cell, str | bytes) else list(cell)
    if len(parts) != size:
        raise ValueError(f"{cell!r:.60} has {len(parts)} numbers in place of {size}")
    return [_number(part) for part in parts]
