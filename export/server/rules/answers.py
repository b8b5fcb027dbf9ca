"""Rules on what a server answers."""

import numpy as np

from export.recorded import FILE, read_recorded
from export.server.questions import MEMORY, MEMORY_SECONDS, RECORDED, WARMUP
from export.server.rules.subject import Broken, NotChecked, Subject, signature_of, task_of
from export.verify import ExportDiffers, compare
from export.warmup import COSTLY

# Times the memory of serving_default, of the whole process.
MOST_MEMORY = 2.0


def loads(subject: Subject) -> str:
    """It loads through TensorFlow's C API, without Python's TensorFlow, XLA off."""
    if subject.replies.refused:
        raise NotChecked(f"it is not safe to run: {subject.replies.error}")
    if subject.replies.error:
        raise Broken(subject.replies.error[:500])
    return (
        f"in TensorFlow {subject.replies.tensorflow}, using at most {subject.replies.peak_bytes / 1e6:.0f} MB of memory"
    )


def every_request_ends(subject: Subject) -> str:
    """No request ends the server's process or takes longer than the time limit."""
    count = len(list(subject.answered()))
    if subject.replies.ended:
        question = subject.questions.asked[count]
        rows = question.rows
        if subject.replies.timed_out and question.purpose == MEMORY and question.signature in COSTLY:
            return f"{count} requests"
        what = subject.questions.named(rows) if rows else f"a {question.purpose} request"
        raise Broken(f"{question.signature}, asked for {what}, {subject.replies.ended}")
    return f"{count} requests"


def memory(subject: Subject) -> str:
    """At its largest, the process of an optional signature has at most twice the memory of serving_default's."""
    found = subject.memory
    if isinstance(found, str):
        raise NotChecked(found)
    limit = MOST_MEMORY * found.signatures.get("serving_default", 0)
    shown = ", ".join(f"{name} {_megabytes(size)}" for name, size in found.signatures.items())
    text = f"{found.rows} texts of {found.tokens} tokens: {_megabytes(found.loaded)} loaded, {shown}"
    for name, size in found.signatures.items():
        if limit and size > limit:
            raise Broken(f"{name} takes {size / limit * MOST_MEMORY:.1f} times as much; {text}")
    if found.unfinished:
        if found.unfinished not in COSTLY:
            raise NotChecked(f"{found.unfinished} was ended at the time limit; {text}, as far as it got")
        text += f", as far as it got in {MEMORY_SECONDS:g} s"
    return text


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def answers_of_serving_default(subject: Subject) -> str:
    """serving_default answers as the evaluated model did, in one batch and one by one."""
    return _compare(subject, "serving_default")


def answers_of_examples(subject: Subject) -> str:
    """The signature for tf.Examples answers as the evaluated model did, in one batch and one by one."""
    return _compare(subject, task_of(subject).example_signature)


def answers_of_warmup(subject: Subject) -> str:
    """All requests of the warm-up are answered; a server refuses a model that fails one."""
    answers = subject.answers(WARMUP)
    if not answers:
        raise NotChecked("there is nothing to ask")
    for number, answer in enumerate(answers, 1):
        if isinstance(answer, str):
            raise Broken(f"request {number} failed: {answer[:300]}")
    return f"{len(answers)} requests"


def _compare(subject: Subject, name: str) -> str:
    recorded = read_recorded(subject.folder)
    if recorded is None:
        raise NotChecked(f"there is no {FILE} to compare with")
    answers = subject.answers(RECORDED, name)
    if not answers:
        raise Broken("it was not asked")
    tensors = []
    for answer in answers:
        if isinstance(answer, str):
            raise Broken(answer[:500])
        tensors.append(answer)
    keys = sorted(signature_of(subject, name).outputs)
    try:
        together, single = tensors[0], [np.concatenate(parts) for parts in zip(*tensors[1:], strict=True)]
    except ValueError as error:
        raise Broken(f"its answers to one text each do not fit together: {error}") from error
    ways = {
        f"{name}, {way}": (name, {key: _strings(value) for key, value in zip(keys, found, strict=True)})
        for way, found in (("in one batch", together), ("one by one", single))
    }
    try:
        worst = compare(ways, recorded.texts, recorded.expected, task_of(subject))
    except ExportDiffers as error:
        raise Broken(str(error)) from error
    return f"{len(recorded.predictions)} texts, largest difference {worst:.1e}"


def _strings(values: np.ndarray) -> np.ndarray | list:
    """Strings as str in nested lists; numbers as they are."""
    if values.dtype != object:
        return values
    return [_strings(row) if isinstance(row, np.ndarray) else row.decode("utf-8", "replace") for row in values]
