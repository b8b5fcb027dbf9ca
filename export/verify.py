"""Does an exported model answer as the evaluated one did? Asked in a fresh process, as a server would load it."""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from export.labels import LabelRule
from export.process import run_program
from pipeline.errors import UserError


class ExportDiffers(UserError):
    """The export was refused."""


def verify(
    folder: Path,
    texts: Sequence[Sequence[str]],
    probabilities: np.ndarray,
    tolerance: float,
    rule: LabelRule,
    encoder: Callable | None = None,
) -> float:
    """Compare an export with recorded answers.

    A new Python process that imports only tensorflow and tensorflow_text loads the SavedModel and answers the texts
    through every signature, serving_default in batches of all, of seven and of one. The probabilities must be the
    recorded ones; labels, scores and classes must follow from the export's own probabilities, so that a near tie does
    no harm. Embeddings and attributions must be finite, and the bytes of a piece within its text.

    Args:
        folder: the SavedModel.
        texts: one or two lists of n strings.
        probabilities: float32 [n, C], recorded.
        tolerance: largest difference of a probability.
        rule: what the labels are.
        encoder: the TextEncoder, for predict_tokens; None: that signature is not asked.

    Returns:
        The largest difference found.

    Raises:
        ExportDiffers: a difference above the tolerance, another label, or the process failed.
    """
    if not len(probabilities):
        raise ExportDiffers("the export cannot be verified without texts: give at least one.")
    return compare(_answers(folder, texts, encoder), texts, probabilities, tolerance, rule)


def rounding_tolerance(rounded: np.ndarray, exact: np.ndarray) -> float:
    """Largest difference of a probability by which two ways to compute one model in bfloat16 may differ.

    Each is off by its own rounding, and how much depends on the model: near a tie, a sure one turns a rounded logit
    into several hundredths. So three times what one way is off, at least 0.02; above 0.1 the model is not one to be
    served in bfloat16.

    Args:
        rounded: float32 [n, C], in bfloat16.
        exact: float32 [n, C], by the same weights in float32.
    """
    return float(np.clip(3 * np.abs(rounded - exact).max(), 0.02, 0.1))


def compare(
    answers: dict[str, dict],
    texts: Sequence[Sequence[str]],
    probabilities: np.ndarray,
    tolerance: float,
    rule: LabelRule,
) -> float:
    """Compare answers with recorded ones.

    Args:
        answers: by the way they were got: probabilities, float32 [n, C], with labels and scores, or with classes.
        texts, probabilities, tolerance, rule: as in `verify`.

    Returns:
        The largest difference found.

    Raises:
        ExportDiffers: a difference above the tolerance, or another label.
    """
    probabilities = np.asarray(probabilities, np.float32)
    worst = 0.0
    for way, found in answers.items():
        if "probabilities" not in found:
            continue
        wanted = (len(texts[0]), len(rule.names))
        if found["probabilities"].shape != wanted or probabilities.shape != wanted:
            shapes = f"{found['probabilities'].shape} ({way}), the model {probabilities.shape}; {wanted} was expected"
            raise ExportDiffers(f"the export gives probabilities of shape {shapes}.")
        differences = np.abs(found["probabilities"] - probabilities).max(axis=1)
        # A comparison with NaN is false: it must not pass.
        if not (differences <= tolerance).all():
            row = int(np.argmax(np.where(np.isnan(differences), np.inf, differences)))
            raise ExportDiffers(
                f"the export answers otherwise than the evaluated model ({way}): for {_shown(texts, row)} it gives "
                f"{_listed(found['probabilities'][row])}, the model {_listed(probabilities[row])}, a difference of "
                f"{differences[row]:.2g} where {tolerance:g} is allowed."
            )
        worst = max(worst, float(differences.max()))
        _check_labels(way, found, rule, texts)
    own = next(iter(answers.values()))["probabilities"]
    for name in ("top_k", "explain"):
        if name in answers:
            _check_best(name, answers[name], own, tolerance, rule, texts)
    for name, key in (("embed", "embedding"), ("explain", "attributions")):
        if name in answers and not np.isfinite(answers[name][key]).all():
            raise ExportDiffers(f"the export's {key} are not all finite ({name}).")
    if "explain" in answers:
        _check_spans(answers["explain"], texts)
    return worst


def _check_labels(way: str, found: dict, rule: LabelRule, texts: Sequence[Sequence[str]]) -> None:
    if "classes" in found:
        pairs = [(list(row), list(rule.names)) for row in found["classes"]]
    else:
        pairs = list(zip(found["labels"], rule(found["probabilities"]), strict=True))
        if not np.array_equal(found["scores"], found["probabilities"].max(axis=1)):
            raise ExportDiffers(f"the export's scores are not its highest probabilities ({way}).")
    for row, (got, wanted) in enumerate(pairs):
        if got != wanted:
            raise ExportDiffers(
                f"the export names {got!r} for {_shown(texts, row)} where it should be {wanted!r} ({way})."
            )


def _check_best(
    way: str, found: dict, own: np.ndarray, tolerance: float, rule: LabelRule, texts: Sequence[Sequence[str]]
) -> None:
    """Scores must be the highest of the export's own probabilities, in their order, and names must have them."""
    top = way == "top_k"
    rows = zip(found["top_labels" if top else "label"], found["top_scores" if top else "score"], own, strict=False)
    for row, (names, scores, known) in enumerate(rows):
        names, scores = np.atleast_1d(names), np.atleast_1d(scores)
        strays = set(names) - set(rule.names)
        mine = [] if strays else [known[rule.names.index(name)] for name in names]
        if strays or not all(
            np.allclose(scores, wanted, rtol=0, atol=tolerance) for wanted in (-np.sort(-known)[: len(scores)], mine)
        ):
            shown = ", ".join(f"{name}: {score:.5f}" for name, score in zip(names, scores, strict=True))
            raise ExportDiffers(
                f"the export gives {shown} for {_shown(texts, row)} ({way}), and as probabilities {_listed(known)}."
            )


def _check_spans(found: dict, texts: Sequence[Sequence[str]]) -> None:
    for row, (begins, ends) in enumerate(zip(found["begin"], found["end"], strict=True)):
        segments = found["segment_ids"][row] if "segment_ids" in found else [0] * len(begins)
        sizes = [len(column[row].encode("utf-8", "replace")) for column in texts]
        for begin, end, segment in zip(begins, ends, segments, strict=True):
            if not 0 <= begin <= end <= sizes[segment]:
                raise ExportDiffers(f"the export names bytes {begin} to {end} of {_shown(texts, row)} (explain).")


def _answers(folder: Path, texts: Sequence[Sequence[str]], encoder: Callable | None = None) -> dict[str, dict]:
    """What answer.py gets out of the model, by way of asking."""
    columns = [list(column) for column in texts]
    tokens = None
    if encoder is not None:
        encoded = encoder(*([text.encode("utf-8", "replace") for text in column] for column in columns))
        tokens = {name: values.numpy().tolist() for name, values in encoded.items()}
    with tempfile.TemporaryDirectory() as temporary:
        request, answer = Path(temporary) / "texts.json", Path(temporary) / "answers.json"
        request.write_text(json.dumps({"texts": columns, "tokens": tokens}))
        paths = (str(path) for path in (folder.resolve(), request, answer))
        status, message = run_program("answer.py", *paths, folder=Path(temporary))
        if status or not answer.exists():
            raise ExportDiffers(f"a fresh process could not answer with the export: {message}")
        found = json.loads(answer.read_text())
    for ways in found.values():
        for name in ("probabilities", "scores"):
            if name in ways:
                ways[name] = np.array(ways[name], np.float32)
    return found


def _shown(texts: Sequence[Sequence[str]], row: int) -> str:
    return repr(" / ".join(column[row] for column in texts)[:80])


def _listed(row: np.ndarray) -> str:
    best = ", ".join(f"{i}: {row[i]:.5f}" for i in np.argsort(-row)[:3])
    return f"({best}{', ...' if len(row) > 3 else ''})"
