"""Rules on what a server answers."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np

from export.labels import LabelRule
from export.recorded import FILE as RECORDED
from export.recorded import read_recorded
from export.server.rules.subject import Broken, NotChecked, Subject, metadata_of
from export.verify import ExportDiffers, compare


def loads(subject: Subject) -> str:
    """It loads through TensorFlow's C API, without Python's TensorFlow, XLA off."""
    if subject.replies.error:
        raise Broken(subject.replies.error[:500])
    return (
        f"in TensorFlow {subject.replies.tensorflow}, using at most {subject.replies.peak_bytes / 1e6:.0f} MB of memory"
    )


def answers_of_serving_default(subject: Subject) -> str:
    """serving_default answers as the evaluated model did, in one batch and one by one."""
    return _compare(
        subject,
        "serving_default",
        lambda label, score, probabilities: {
            "labels": [name.decode() for name in label],
            "scores": score,
            "probabilities": probabilities,
        },
    )


def answers_of_classify(subject: Subject) -> str:
    """classify answers as the evaluated model did, in one batch and one by one."""
    return _compare(
        subject,
        "classify",
        lambda classes, scores: {
            "classes": [[name.decode() for name in row] for row in classes],
            "probabilities": scores,
        },
    )


def answers_of_warmup(subject: Subject) -> str:
    """All requests of the warm-up are answered; a server refuses a model that fails one."""
    answers = subject.answers("warm-up")
    if not answers:
        raise NotChecked("there is nothing to ask")
    for number, answer in enumerate(answers, 1):
        if isinstance(answer, str):
            raise Broken(f"request {number} failed: {answer[:300]}")
    return f"{len(answers)} requests"


def _compare(subject: Subject, name: str, columns: Callable[..., dict]) -> str:
    recorded = read_recorded(subject.folder)
    if recorded is None:
        raise NotChecked(f"there is no {RECORDED} to compare with")
    answers = subject.answers(name)
    failed = next((answer for answer in answers if isinstance(answer, str)), None if answers else "it was not asked")
    if failed:
        raise Broken(failed[:500])
    together, single = answers[0], [np.concatenate(parts) for parts in zip(*answers[1:], strict=True)]
    ways = {f"{name}, {way}": columns(*found) for way, found in (("in one batch", together), ("one by one", single))}
    stored = metadata_of(subject)
    options = {item.name: stored[item.name] for item in fields(LabelRule) if item.name in stored}
    rule = LabelRule(tuple(stored["label_names"]), stored["task"] == "multi_label", **options)
    try:
        worst = compare(ways, recorded.texts, np.array(recorded.probabilities), recorded.tolerance, rule)
    except ExportDiffers as error:
        raise Broken(str(error)) from error
    return f"{len(recorded.labels)} texts, largest difference {worst:.1e}"
