"""Does an exported model answer as the evaluated one did? Asked in a fresh process, as a server would load it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from export.cells import fed
from export.expected import Expected
from export.graph import read_graph, signatures
from export.server.ask import ask, call_of
from export.server.sandbox import AT_EXPORT
from export.versions import ModelError
from export.warmup import serialized_examples
from pipeline.errors import UserError
from pipeline.tasks.outside import FIT
from pipeline.tasks.task import Outputs, Task

# All at once, an odd number, and each alone: no answer may depend on its neighbours.
BATCH_SIZES = {"all in one batch": None, "batches of 7": 7, "one by one": 1}
# Texts to explain, which takes about ninety times as long as to answer.
EXPLAINED = 2


class ExportDiffers(UserError):
    """The export was refused."""


Answers = dict[str, tuple[str, Outputs]]
"""By the way they were got: the signature and its outputs for the texts from the first on."""


def verify(
    folder: Path,
    cells: Mapping[str, Sequence[str]],
    expected: Expected,
    task: Task,
    encoder: Callable | None = None,
) -> float:
    """Compare an export with recorded predictions.

    A process of TensorFlow's C library alone loads the SavedModel, as a server does, and answers the texts through
    every signature, serving_default in batches of all, of seven and of one. The predictions must be the recorded ones;
    labels, scores and the like must follow from the export's own, so that a near tie does no harm. Embeddings and
    attributions must be finite, and the bytes of a token within its text.

    Args:
        folder: the SavedModel.
        cells: n strings for each input of the model, by its name: texts, or cells of columns as a run keeps them.
        expected: of the n rows, recorded.
        task: what the predictions are.
        encoder: the TextEncoder, for predict_tokens; None: that signature is not asked.

    Returns:
        The largest difference found.

    Raises:
        ExportDiffers: a difference above the tolerance, another label, or the process failed.
    """
    if not len(expected.predictions):
        raise ExportDiffers("the export cannot be verified without texts: give at least one.")
    return compare(_answers(folder, cells, encoder), list(cells.values()), expected, task)


def rounding_tolerance(rounded: np.ndarray, exact: np.ndarray, scale: float = 1.0) -> float:
    """Largest difference of a prediction by which two ways to compute one model in bfloat16 may differ.

    Each is off by its own rounding, and how much depends on the model: near a tie, a sure one turns a rounded logit
    into several hundredths. So three times what one way is off, at least 0.02; above 0.1 the model is not one to be
    served in bfloat16.

    Args:
        rounded: float32 [n, K], in bfloat16.
        exact: float32 [n, K], by the same weights in float32.
        scale: Task.scale, in which the bounds are meant.
    """
    return float(np.clip(3 * np.abs(rounded - exact).max(), 0.02 * scale, 0.1 * scale))


def compare(answers: Answers, texts: Sequence[Sequence[str]], expected: Expected, task: Task) -> float:
    """Compare answers with recorded predictions.

    Args:
        answers: serving_default's first.
        texts, expected, task: as in `verify`.

    Returns:
        The largest difference found.

    Raises:
        ExportDiffers: a difference above the tolerance, or outputs that do not follow from the predictions.
    """
    predictions, tolerance = np.asarray(expected.predictions, np.float32), expected.tolerance
    wanted = (len(texts[0]), predictions.shape[-1])
    worst, own = 0.0, predictions
    for number, (way, (signature, outputs)) in enumerate(answers.items()):
        found = task.predictions_of(signature, outputs)
        if found is not None and signature not in ("top_k", "explain", "embed"):
            if found.shape != wanted or predictions.shape != wanted or predictions.shape[-1] != task.outputs:
                shapes = f"{found.shape} ({way}), the model {predictions.shape}; {(wanted[0], task.outputs)}"
                raise ExportDiffers(f"the export gives predictions of shape {shapes} was expected.")
            worst = max(worst, _largest_difference(way, found, texts, predictions, tolerance))
            own = found if number == 0 else own
        fault = task.inconsistency(signature, outputs, own, tolerance)
        if fault is not None:
            row, what = fault
            raise ExportDiffers(f"the export {what}, for {_shown(texts, row)} ({way}).")
        if FIT in outputs and expected.fit is not None:
            _compare_fit(way, np.asarray(outputs[FIT]), texts, expected)
        for name in ("embedding", "attributions", "column_attributions"):
            if name in outputs and not np.isfinite(outputs[name]).all():
                raise ExportDiffers(f"the export's {name} are not all finite ({way}).")
        if "begin" in outputs:
            _check_spans(outputs, [outputs["read"]] if "read" in outputs else texts)
    return worst


def _largest_difference(
    way: str, found: np.ndarray, texts: Sequence[Sequence[str]], predictions: np.ndarray, tolerance: float
) -> float:
    differences = np.abs(found - predictions).max(axis=1)
    # A comparison with NaN is false: it must not pass.
    if not (differences <= tolerance).all():
        row = int(np.argmax(np.where(np.isnan(differences), np.inf, differences)))
        raise ExportDiffers(
            f"the export answers otherwise than the evaluated model ({way}): for {_shown(texts, row)} it gives "
            f"{_listed(found[row])}, the model {_listed(predictions[row])}, a difference of "
            f"{differences[row]:.2g} where {tolerance:g} is allowed."
        )
    return float(differences.max())


def _compare_fit(way: str, found: np.ndarray, texts: Sequence[Sequence[str]], expected: Expected) -> None:
    wanted = np.asarray(expected.fit)[: len(found)]
    differing = ~(np.abs(found - wanted) <= expected.fit_tolerance)
    if differing.any():
        row = int(np.argmax(differing))
        raise ExportDiffers(
            f"the export has another fit than the evaluated model ({way}): {found[row]:.5f} for {_shown(texts, row)}, "
            f"the model {wanted[row]:.5f}, where a difference of {expected.fit_tolerance:g} is allowed."
        )


def _check_spans(found: Outputs, texts: Sequence[Sequence[str]]) -> None:
    for row, (begins, ends) in enumerate(zip(found["begin"], found["end"], strict=True)):
        segments = found["segment_ids"][row] if "segment_ids" in found else [0] * len(begins)
        sizes = [len(column[row].encode("utf-8", "replace")) for column in texts]
        for begin, end, segment in zip(begins, ends, segments, strict=True):
            if not 0 <= begin <= end <= sizes[segment]:
                raise ExportDiffers(f"the export names bytes {begin} to {end} of {_shown(texts, row)} (explain).")


def _answers(folder: Path, cells: Mapping[str, Sequence[str]], encoder: Callable | None = None) -> Answers:
    """What a fresh process gets out of the model, by way of asking."""
    try:
        wanted = signatures(read_graph(folder))
    except ModelError as error:
        raise ExportDiffers(f"a fresh process could not answer with the export: {error}") from error
    asked = list(_requests(wanted, fed(cells, wanted["serving_default"].inputs), encoder))
    found = _asked(folder, wanted, [(name, inputs) for _, name, inputs in asked])
    parts: dict[str, tuple[str, list]] = {}
    for (way, name, _), outputs in zip(asked, found, strict=True):
        parts.setdefault(way, (name, []))[1].append(outputs)
    return {way: (name, _joined(sorted(wanted[name].outputs), found)) for way, (name, found) in parts.items()}


Request = tuple[str, dict[str, np.ndarray]]
"""A signature, and its inputs by name."""


def _asked(folder: Path, wanted: Mapping[str, SignatureDef], requests: Sequence[Request]) -> list[list[np.ndarray]]:
    """For each request the signature's outputs, sorted by name."""
    try:
        replies = ask(folder, [call_of(wanted[name], inputs) for name, inputs in requests], limits=AT_EXPORT)
    except FileNotFoundError:
        # A system whose TensorFlow has its library under other names: loaded here, which is less like a server.
        model = tf.saved_model.load(str(folder))
        answers = [
            model.signatures[name](**{k: tf.constant(v) for k, v in inputs.items()}) for name, inputs in requests
        ]
        return [[answer[key].numpy() for key in sorted(answer)] for answer in answers]
    failures = [found for found in replies.answers if isinstance(found, str)]
    failed = replies.error or replies.ended or next(iter(failures), None)
    if failed:
        raise ExportDiffers(f"a fresh process could not answer with the export: {failed}")
    return [found for found in replies.answers if not isinstance(found, str)]


def _requests(
    wanted: Mapping[str, SignatureDef], columns: dict[str, np.ndarray], encoder: Callable | None
) -> Iterator[tuple[str, str, dict[str, np.ndarray]]]:
    """(way of asking, signature, inputs by name); a way may have several requests."""
    count = len(next(iter(columns.values())))
    for way, size in BATCH_SIZES.items():
        for start in range(0, count, size or count):
            part = slice(start, start + (size or count))
            yield f"serving_default, {way}", "serving_default", {key: rows[part] for key, rows in columns.items()}
    for name in sorted(set(wanted) - {"serving_default"}):
        inputs = sorted(wanted[name].inputs)
        if inputs == sorted(columns):
            most = EXPLAINED if name == "explain" else count
            yield name, name, {key: rows[:most] for key, rows in columns.items()}
        elif inputs == ["inputs"]:
            yield name, name, {"inputs": serialized_examples(columns)}
        elif encoder is not None and "token_ids" in inputs:
            tokens = encoder(*(tf.constant(rows) for rows in columns.values()), fixed_length=True)
            yield name, name, {key: tokens[key].numpy().astype(np.int32) for key in inputs}


def _joined(names: Sequence[str], answers: Sequence[Sequence[np.ndarray]]) -> Outputs:
    """Outputs by name, as nested lists with strings in place of bytes."""
    return {name: [_plain(row) for answer in answers for row in answer[i].tolist()] for i, name in enumerate(names)}


def _plain(value):
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def _shown(texts: Sequence[Sequence[str]], row: int) -> str:
    return repr(" / ".join(column[row] for column in texts)[:80])


def _listed(row: np.ndarray) -> str:
    best = ", ".join(f"{i}: {row[i]:.5f}" for i in np.argsort(-row)[:3])
    return f"({best}{', ...' if len(row) > 3 else ''})"
