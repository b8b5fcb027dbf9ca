"""What is sent to a served model and what comes back, held against its signature."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from export.failures import BadAnswer, RequestFailed, quoted
from export.request_schema import RequestSchema
from export.transport import Columns, Model, Reply, Signature, Spec
from pipeline.data.cell_values import is_missing


def rows_of(inputs: Mapping[str, Any]) -> dict[str, list]:
    """Inputs as lists.

    Raises:
        RequestFailed: one is no list, or they differ in length.
    """
    for name, values in inputs.items():
        if isinstance(values, str | bytes) or not isinstance(values, Iterable):
            raise RequestFailed(f"the input {name!r} takes a list, not {values!r:.50}.")
    lists = {name: list(values) for name, values in inputs.items()}
    if len(set(map(len, lists.values()))) > 1:
        raise RequestFailed(f"the inputs differ in length: {', '.join(str(len(rows)) for rows in lists.values())}.")
    return lists


def columns_of(
    inputs: Mapping[str, list], signature: Signature, model: Model, schema: RequestSchema | None = None
) -> dict[str, np.ndarray]:
    """Inputs as arrays of the signature's types; texts as bytes objects, whatever they hold.

    Args:
        inputs: lists of one length.
        signature: of the model.
        model: for messages.
        schema: that rows must fit, if any.

    Raises:
        RequestFailed: inputs that the signature does not have, a value of another type, or a row that does not fit; the
            message names the row.
    """
    if sorted(inputs) != sorted(signature.inputs):
        given = " and ".join(map(repr, inputs)) or "nothing"
        raise RequestFailed(f"{model} takes {quoted(' and '.join(signature.inputs))}, not {given}.")
    sent = {
        name: _numbers(inputs[name], spec) if _is_float(spec) else inputs[name]
        for name, spec in signature.inputs.items()
    }
    if schema is not None:
        schema.check(sent)
    return {name: _column(name, sent[name], spec) for name, spec in signature.inputs.items()}


def checked(outputs: Columns, signature: Signature, rows: int, place: str) -> dict[str, np.ndarray]:
    """An answer's outputs, with strings as str objects.

    Args:
        outputs: as they came.
        signature: of the model that was asked.
        rows: how many were sent.
        place: who answered what, for messages.

    Raises:
        BadAnswer: names, types, sizes or rows are not the signature's, or numbers are not finite.
    """
    if outputs.keys() != signature.outputs.keys():
        names = (quoted(", ".join(sorted(found))) or "nothing" for found in (outputs, signature.outputs))
        raise BadAnswer("{} with the outputs {} in place of {}.".format(place, *names))
    return {name: _checked(outputs[name], spec, rows, f"{place}: {name!r}") for name, spec in signature.outputs.items()}


def merged(parts: Sequence[Reply], order: np.ndarray, place: str) -> dict[str, np.ndarray]:
    """Outputs of checked answers as one, of which row i goes to order[i].

    Raises:
        BadAnswer: the parts differ in width or type, or in the version that answered.
    """
    versions = sorted({part.version for part in parts if part.version is not None})
    if len(versions) > 1:
        raise BadAnswer(f"{place} in one call by the versions {' and '.join(map(str, versions))}.")
    outputs = {}
    for name in parts[0].outputs:
        arrays = [part.outputs[name] for part in parts]
        forms = sorted({f"{array.dtype.name}{list(array.shape[1:])}" for array in arrays})
        if len(forms) > 1:
            raise BadAnswer(
                f"{place}: {name!r} has rows of {' and '.join(forms)} in different parts, of different models or of a "
                "width that follows the batch."
            )
        rows = np.concatenate(arrays)
        outputs[name] = np.empty_like(rows)
        outputs[name][order] = rows
    return outputs


def nothing(signature: Signature) -> dict[str, np.ndarray]:
    """The outputs of no rows."""
    return {
        name: np.empty((0, *(size or 0 for size in (spec.shape or ())[1:])), spec.dtype or np.float32)
        for name, spec in signature.outputs.items()
    }


def _column(name: str, values: list, spec: Spec) -> np.ndarray:
    if spec.dtype is None or spec.dtype.kind == "O":
        return _texts(values)
    try:
        given = np.array(values)
    except ValueError:  # rows of several lengths
        given = np.array(None)
    array = given.astype(spec.dtype) if given.dtype.kind in "biuf" else None
    # Only floats may lose something.
    if array is None or not (array.dtype.kind == "f" or np.array_equal(array, given)):
        raise RequestFailed(f"the input {name!r} takes {spec.dtype} numbers, in rows of one length.")
    return array


def _is_float(spec: Spec) -> bool:
    return spec.dtype is not None and spec.dtype.kind == "f"


def _numbers(values: list[Any], spec: Spec) -> list[Any]:
    """With NaN for what is missing, None or "", and numbers for their texts."""
    size = spec.shape[1] if spec.shape is not None and len(spec.shape) == 2 else None

    def number(value: Any) -> Any:
        if is_missing(value) and not isinstance(value, bytes):
            return math.nan if size is None else [math.nan] * size
        if not isinstance(value, str):
            return value
        try:
            return float(value) if size is None else [float(part) for part in value.split()]
        except ValueError:  # A text that is no number, which is said as of any.
            return value

    return [number(value) for value in values]


def _texts(values: list[Any]) -> np.ndarray:
    column = np.empty(len(values), object)
    for row, text in enumerate(values):
        if not isinstance(text, str | bytes):
            raise RequestFailed(f"row {row + 1}: {text!r:.50} is no text but {type(text).__name__}.")
        column[row] = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    return column


def _checked(array: np.ndarray, spec: Spec, rows: int, place: str) -> np.ndarray:
    array = _decoded(array) if array.dtype.kind in "OSU" else array
    if array.ndim == 0 or len(array) != rows:
        found = f"{len(array)} rows" if array.ndim else "a single value"
        raise BadAnswer(f"{place} has {found} for {rows} texts.")
    if spec.dtype is not None and array.dtype != spec.dtype:
        wanted, found = ("string" if dtype.kind == "O" else dtype.name for dtype in (spec.dtype, array.dtype))
        raise BadAnswer(f"{place} has the type {found} in place of {wanted}.")
    if spec.shape is not None and not _fits(array.shape[1:], spec.shape[1:]):
        raise BadAnswer(f"{place} has rows of {list(array.shape[1:])} in place of {list(spec.shape[1:])}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadAnswer(f"{place} has numbers that are not finite.")
    return array


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(size in (None, found) for found, size in zip(shape, wanted, strict=True))


def _decoded(array: np.ndarray) -> np.ndarray:
    """Strings as str objects; what no encoding has becomes a question mark."""
    decoded = np.empty(array.size, object)
    decoded[:] = [
        text.decode("utf-8", "replace") if isinstance(text, bytes) else text.encode("utf-8", "replace").decode()
        for text in array.ravel().tolist()
    ]
    return decoded.reshape(array.shape)
