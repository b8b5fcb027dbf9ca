"""An exported model as the rules see it, and the exceptions that they raise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from export import graph as graphs
from export.server.ask import Replies
from export.server.memory import Memory
from export.server.questions import Question, Questions
from export.server.releases import NEWEST
from export.versions import METADATA, read_metadata
from pipeline import tasks
from pipeline.errors import UserError
from pipeline.tasks.task import Task

ENDED = "a request had ended the process before"


class Broken(Exception):
    """A rule is broken; the message says what was found."""


class NotChecked(Exception):
    """A rule cannot be checked; the message says why."""


@dataclass(frozen=True)
class Subject:
    """An exported model and what is known of it."""

    folder: Path
    graph: meta_graph_pb2.MetaGraphDef
    replies: Replies
    """Of a server."""
    questions: Questions = field(default_factory=Questions)
    """That it was asked."""
    memory: Memory | str = "it was not measured"
    """What it took, or why that is not known."""
    published: bool = True
    """The folder is called by its version already."""
    serving: str = NEWEST
    """The release that is to serve it."""
    bytes_outputs: frozenset[str] = frozenset()
    """Outputs that REST clients shall get in base64."""

    @cached_property
    def signatures(self) -> dict:
        return graphs.signatures(self.graph)

    @cached_property
    def metadata(self) -> dict:
        return read_metadata(self.folder)

    @cached_property
    def _places(self) -> dict[tuple, int]:
        asked = self.questions.asked
        return {(question.purpose, question.signature, question.rows): i for i, question in enumerate(asked)}

    def answered(self) -> Iterator[tuple[Question, list | str]]:
        """The questions that were answered or failed, in their order; raises NotChecked where none was asked."""
        if self.replies.error:
            raise NotChecked("it was not run" if self.replies.refused else "it did not load")
        yield from zip(self.questions.asked, self.replies.answers, strict=False)

    def answers(self, purpose: str, signature: str | None = None) -> list[list | str]:
        """To the questions with one purpose, of one signature or all; raises NotChecked where one was not asked."""
        answers = [
            answer
            for question, answer in self.answered()
            if question.purpose == purpose and signature in (None, question.signature)
        ]
        wanted = [q for q in self.questions.asked if q.purpose == purpose and signature in (None, q.signature)]
        if len(answers) < len(wanted):
            raise NotChecked(ENDED)
        return answers

    def answer_to(self, purpose: str, signature: str, rows: tuple[int, ...]) -> list | str:
        """Tensors, or why there are none; raises NotChecked where it was not asked."""
        if self.replies.error:
            raise NotChecked("it was not run" if self.replies.refused else "it did not load")
        place = self._places.get((purpose, signature, rows))
        if place is None:
            raise NotChecked(f"{signature} could not be asked")
        if place >= len(self.replies.answers):
            raise NotChecked(ENDED)
        return self.replies.answers[place]


def shape_of(spec) -> list[int] | None:
    """Of a tensor of a signature: -1 for what varies; None where not even the rank is known."""
    return None if spec.tensor_shape.unknown_rank else [dim.size for dim in spec.tensor_shape.dim]


def dtype_of(spec) -> tf.DType:
    """Of a tensor of a signature."""
    return tf.as_dtype(spec.dtype)


def shown(spec) -> str:
    """A tensor of a signature, for messages."""
    return f"{dtype_of(spec).name} {shape_of(spec)}"


def _is(spec, dtype: tf.DType, shape: Sequence[int | None]) -> bool:
    """Whether a tensor has a data type and a shape; None stands for any fixed size."""
    found = shape_of(spec)
    return (
        dtype_of(spec) == dtype
        and found is not None
        and len(found) == len(shape)
        and all(got > 0 if want is None else got == want for got, want in zip(found, shape, strict=True))
    )


def listed(names) -> str:
    """Names, for messages."""
    return ", ".join(sorted(names)) or "none"


def signature_of(subject: Subject, name: str):
    """Raises Broken where there is none of this name."""
    if name not in subject.signatures:
        raise Broken(f"there is none; the signatures are {listed(subject.signatures)}")
    return subject.signatures[name]


def require(specs, wanted: Mapping[str, tuple[tf.DType, Sequence[int | None]]]) -> None:
    """Raises Broken where a tensor is missing or has another data type or shape; None stands for any fixed size."""
    for key, (dtype, shape) in wanted.items():
        if key not in specs:
            raise Broken(f"there is no {key} but {listed(specs)}")
        if not _is(specs[key], dtype, shape):
            raise Broken(f"{key} is {shown(specs[key])}, not {dtype.name} {['C' if n is None else n for n in shape]}")


def metadata_of(subject: Subject) -> dict:
    """Raises Broken where one of the keys that every export has is missing."""
    wanted = ("task", "inputs", "tokenization", "operations", "minimum_serving", "versions", "run")
    missing = [key for key in wanted if key not in subject.metadata]
    if missing:
        raise Broken(f"{METADATA} has no {', '.join(missing)}")
    return subject.metadata


def task_of(subject: Subject) -> Task:
    """Raises Broken where the metadata does not describe a task."""
    try:
        return tasks.from_metadata(metadata_of(subject))
    except UserError as error:
        raise Broken(str(error)) from error


def registry_of(subject: Subject) -> dict[str, bool]:
    """Whether an operation has state, by the names of all that the server has; raises NotChecked where it has none."""
    if subject.replies.operations is None:
        raise NotChecked("the libraries did not load")
    return subject.replies.operations
