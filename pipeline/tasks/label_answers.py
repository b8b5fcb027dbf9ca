"""Answers of models with named classes: outputs of their signatures, and whether these agree with each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.markdown import code_span
from pipeline.tasks.outside import FIT
from pipeline.tasks.task import Outputs


def same_labels(task: Any, teacher: Any) -> str | None:
    """Why a teacher of another kind or with other labels cannot teach; None: it can."""
    if not isinstance(teacher, type(task)):
        return f"is of another task ({teacher.name}): give both runs the same data.task and data.label_separator."
    if list(teacher.names) != list(task.names):
        theirs, ours = (", ".join(names[:5]) + (" ..." if names[5:] else "") for names in (teacher.names, task.names))
        return (
            f"has the {len(teacher.names)} labels {theirs}, but this run {len(task.names)}, {ours}: give both the same "
            "data.labels, in one order."
        )
    return None


def label_specs(count: int) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
    """Task.output_specs of a task with so many classes."""
    return {
        "serving_default": {"label": ("string", ()), "score": ("float32", ()), "probabilities": ("float32", (count,))},
        "classify": {"classes": ("string", (count,)), "scores": ("float32", (count,))},
    }


def label_notes(names: Sequence[str]) -> str:
    """Task.answer_notes of a task with these classes."""
    if len(names) <= 30:
        return f"The {len(names)} labels, in the order of `probabilities`: {', '.join(map(code_span, names))}."
    return f"`probabilities` has {len(names)} labels, in the order of `label_names` in `assets.extra/metadata.json`."


def surest(sureness: np.ndarray, limit: int) -> list[int]:
    """The rows of the largest values from 0 on; equal ones stay in order."""
    return np.argsort(-sureness, kind="stable")[: min(limit, int((sureness >= 0).sum()))].tolist()


def all_classes(names: Sequence[str], predictions) -> dict[str, Any]:
    """The outputs of the signature classify: every class of every row, in one order."""
    import tensorflow as tf

    classes = tf.repeat(tf.constant([names]), tf.shape(predictions)[0], axis=0)
    return {"classes": classes, "scores": predictions}


def best_classes(names: Sequence[str], predictions, count: int) -> dict[str, Any]:
    """The outputs of the signature top_k, best first."""
    import tensorflow as tf

    scores, classes = tf.math.top_k(predictions, min(count, len(names)))
    return {"top_labels": tf.gather(tf.constant(names), classes), "top_scores": scores}


def best_class(names: Sequence[str], predictions) -> tuple[Any, dict[str, Any]]:
    """int32 [batch], the most probable class, which is explained; and its name and score."""
    import tensorflow as tf

    label = tf.argmax(predictions, axis=1, output_type=tf.int32)
    return label, {"label": tf.gather(tf.constant(names), label), "score": tf.reduce_max(predictions, axis=1)}


def probabilities_of(outputs: Outputs) -> np.ndarray | None:
    """float32 [n, C] out of the outputs of serving_default, predict_tokens or classify."""
    found = outputs.get("probabilities", outputs.get("scores") if "classes" in outputs else None)
    return None if found is None else np.asarray(found, np.float32)


def label_inconsistency(
    task: Any, outputs: Outputs, predictions: np.ndarray, tolerance: float
) -> tuple[int, str] | None:
    """Names and scores in the outputs of any signature that do not follow from the model's own probabilities.

    They are compared with the model's own, not with recorded ones, so that a near tie does no harm.
    """
    if "classes" in outputs:
        for row, names in enumerate(outputs["classes"]):
            if list(names) != list(task.names):
                return row, f"names {list(names)!r} where it should be {list(task.names)!r}"
        return None
    if "probabilities" in outputs:
        wanted = task.answer_of(outputs["probabilities"])
        labels = task.fit.labels_of(wanted["label"], outputs[FIT]) if task.fit else wanted["label"]
        for row, (got, label) in enumerate(zip(outputs["label"], labels, strict=True)):
            if got != label:
                return row, f"names {got!r} where it should be {label!r}"
        differing = np.asarray(outputs["score"], np.float32) != wanted["score"]
        return (
            (int(np.argmax(differing)), "has a score that is not the probability of its answer")
            if any(differing)
            else None
        )
    names_of_rows = outputs.get("top_labels", outputs.get("label", []))
    scores_of_rows = outputs.get("top_scores", outputs.get("score", []))
    for row, (names, scores, known) in enumerate(zip(names_of_rows, scores_of_rows, predictions, strict=False)):
        names, scores = np.atleast_1d(names), np.atleast_1d(scores)
        strays = set(names) - set(task.names)
        own = [] if strays else [known[task.names.index(name)] for name in names]
        best = -np.sort(-known)[: len(scores)]
        if strays or not all(np.allclose(scores, wanted, rtol=0, atol=tolerance) for wanted in (best, own)):
            shown = ", ".join(f"{name}: {score:.5f}" for name, score in zip(names, scores, strict=True))
            return row, f"gives {shown}, and as probabilities {listed_probabilities(known)}"
    return None


def decision_inconsistency(
    names: Sequence[str],
    decision: tuple[int, float],
    outputs: Outputs,
    predictions: np.ndarray,
    tolerance: float,
) -> tuple[int, str] | None:
    """Labels and scores, without probabilities, that do not follow from the threshold of one of two classes."""
    rare, threshold = decision
    for row, (label, score, known) in enumerate(zip(outputs["label"], outputs["score"], predictions, strict=False)):
        wanted = rare if known[rare] >= np.float32(threshold) else 1 - rare
        near = abs(float(known[rare]) - threshold) <= tolerance
        allowed = [names[wanted], *([names[1 - wanted]] if near else [])]
        if label not in allowed or abs(float(score) - float(known[list(names).index(label)])) > tolerance:
            return row, f"gives {label}: {score:.5f}, and as probabilities {listed_probabilities(known)}"
    return None


def listed_probabilities(row: np.ndarray) -> str:
    """The largest of one row, by the number of the class."""
    best = ", ".join(f"{i}: {row[i]:.5f}" for i in np.argsort(-row)[:3])
    return f"({best}{', ...' if len(row) > 3 else ''})"
