"""Rules on what a server answers."""

import numpy as np

from export.recorded import FILE as RECORDED
from export.recorded import read_recorded
from export.server.rules.subject import Broken, NotChecked, Subject, signature_of, task_of
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
    return _compare(subject, "serving_default")


def answers_of_examples(subject: Subject) -> str:
    """The signature for tf.Examples answers as the evaluated model did, in one batch and one by one."""
    return _compare(subject, task_of(subject).example_signature)


def answers_of_warmup(subject: Subject) -> str:
    """All requests of the warm-up are answered; a server refuses a model that fails one."""
    answers = subject.answers("warm-up")
    if not answers:
        raise NotChecked("there is nothing to ask")
    for number, answer in enumerate(answers, 1):
        if isinstance(answer, str):
            raise Broken(f"request {number} failed: {answer[:300]}")
    return f"{len(answers)} requests"


def _compare(subject: Subject, name: str) -> str:
    recorded = read_recorded(subject.folder)
    if recorded is None:
        raise NotChecked(f"there is no {RECORDED} to compare with")
    answers = subject.answers(name)
    failed = next((answer for answer in answers if isinstance(answer, str)), None if answers else "it was not asked")
    if failed:
        raise Broken(failed[:500])
    keys = sorted(signature_of(subject, name).outputs)
    together, single = answers[0], [np.concatenate(parts) for parts in zip(*answers[1:], strict=True)]
    ways = {
        f"{name}, {way}": (name, {key: _strings(value) for key, value in zip(keys, found, strict=True)})
        for way, found in (("in one batch", together), ("one by one", single))
    }
    predictions = np.array(recorded.predictions, np.float32)
    try:
        worst = compare(ways, recorded.texts, predictions, recorded.tolerance, task_of(subject))
    except ExportDiffers as error:
        raise Broken(str(error)) from error
    return f"{len(predictions)} texts, largest difference {worst:.1e}"


def _strings(values: np.ndarray) -> np.ndarray | list:
    """Strings as str in nested lists; numbers as they are."""
    if values.dtype != object:
        return values
    return [[part.decode() for part in row] if isinstance(row, np.ndarray) else row.decode() for row in values]
