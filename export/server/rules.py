"""What TensorFlow Serving, its REST interface and this project's clients ask of an exported model: one function a rule.

A rule takes a Subject and returns what it found. It raises Broken where the rule is broken, and NotChecked where there
is nothing to check.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import Message

from export import graph as graphs
from export.labels import LabelRule
from export.loading import METADATA, read_metadata
from export.recorded import FILE as RECORDED
from export.recorded import read_recorded
from export.server.ask import Replies
from export.server.releases import NEWEST, minimum_version, parse_version
from export.verify import ExportDiffers, compare
from export.warmup import FILE as WARMUP
from export.warmup import MAX_RECORDS, inputs_of, read_warmup

# What the REST interface writes as JSON (tensorflow_serving/util/json_tensor.cc).
JSON_TYPES = {
    tf.float32, tf.float64, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64, tf.bool,
    tf.string,
}  # fmt: skip
# They read variables, or call a function, whose own operations are looked at, or stop a request.
HARMLESS_STATE = {
    "VarHandleOp", "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "DisableCopyOnRead",
    "StatefulPartitionedCall", "If", "While", "Case", "Assert",
}  # fmt: skip
# Folders at the root of a machine, as far as this one does not have them.
ROOTS = {
    "bin", "boot", "dev", "etc", "home", "lib", "media", "mnt", "opt", "private", "proc", "root", "run", "srv", "sys",
    "tmp", "usr", "var", "Users", "content", "workspace",
}  # fmt: skip


class Broken(Exception):
    """A rule is broken; the message says what was found."""


class NotChecked(Exception):
    """A rule cannot be checked; the message says why."""


@dataclass(frozen=True)
class Subject:
    """An exported model and what is known of it."""

    folder: Path
    graph: object
    """Its tensorflow.MetaGraphDef."""
    replies: Replies
    """Of a server."""
    purposes: Sequence[str]
    """Of each call that it answered: serving_default or classify (all recorded texts, then one by one), or warm-up."""
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

    def answers(self, purpose: str) -> list:
        """Of the calls with one purpose, in their order."""
        if self.replies.error:
            raise NotChecked("it did not load")
        calls = zip(self.purposes, self.replies.answers, strict=True)
        return [answer for name, answer in calls if name == purpose]


def shape_of(spec) -> list[int] | None:
    """Of a tensor of a signature: -1 for what varies; None where not even the rank is known."""
    return None if spec.tensor_shape.unknown_rank else [dim.size for dim in spec.tensor_shape.dim]


def dtype_of(spec) -> tf.DType:
    return tf.as_dtype(spec.dtype)


def _shown(spec) -> str:
    return f"{dtype_of(spec).name} {shape_of(spec)}"


def _is(spec, dtype: tf.DType, shape: list[int | None]) -> bool:
    """Whether a tensor has a data type and a shape; None stands for any fixed size."""
    found = shape_of(spec)
    return (
        dtype_of(spec) == dtype
        and found is not None
        and len(found) == len(shape)
        and all(got > 0 if want is None else got == want for got, want in zip(found, shape, strict=True))
    )


def version_folder(subject: Subject) -> str:
    """The folder is called by an integer: servers ignore others."""
    name = subject.folder.resolve().name
    if not re.fullmatch("[0-9]+", name):
        raise Broken(f"it is called {name}")
    return name


def serving_default(subject: Subject) -> str:
    """serving_default takes text, or text_a and text_b, and gives label, score and probabilities."""
    signature = _signature(subject, "serving_default")
    if sorted(signature.inputs) not in (["text"], ["text_a", "text_b"]):
        raise Broken(f"its inputs are {_listed(signature.inputs)}")
    wanted = {name: (tf.string, [-1]) for name in signature.inputs}
    _require(signature.inputs, wanted)
    _require(
        signature.outputs,
        {"label": (tf.string, [-1]), "score": (tf.float32, [-1]), "probabilities": (tf.float32, [-1, None])},
    )
    return f"{_listed(signature.inputs)} to {_listed(signature.outputs)}"


def classify(subject: Subject) -> str:
    """classify takes tf.Examples as `inputs` and gives classes and scores, a column a label, and nothing else."""
    signature = _signature(subject, "classify")
    if list(signature.inputs) != ["inputs"]:
        raise Broken(f"its inputs are {_listed(signature.inputs)}")
    if sorted(signature.outputs) != ["classes", "scores"]:
        raise Broken(f"its outputs are {_listed(signature.outputs)}")
    _require(signature.inputs, {"inputs": (tf.string, [-1])})
    _require(signature.outputs, {"classes": (tf.string, [-1, None]), "scores": (tf.float32, [-1, None])})
    widths = {name: shape_of(spec)[1] for name, spec in signature.outputs.items()}
    if len(set(widths.values())) > 1:
        raise Broken(f"classes has {widths['classes']} columns, scores {widths['scores']}")
    return f"{widths['scores']} labels"


def batch_dimension(subject: Subject) -> str:
    """Dimension 0 of every output is the batch, and of every input that has dimensions."""
    count = 0
    for name, signature in subject.signatures.items():
        for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
            for key, spec in specs.items():
                shape = shape_of(spec)
                if shape == [] and kind == "input":
                    continue
                if not shape or shape[0] != -1:
                    raise Broken(f"{name}'s {kind} {key} is {_shown(spec)}")
                count += 1
    return f"{count} inputs and outputs of {len(subject.signatures)} signatures"


def output_types(subject: Subject) -> str:
    """Every output has a data type that JSON can hold; bfloat16 and half have not."""
    found = set()
    for name, signature in subject.signatures.items():
        for key, spec in signature.outputs.items():
            if dtype_of(spec) not in JSON_TYPES:
                raise Broken(f"{name}'s output {key} is {dtype_of(spec).name}")
            found.add(dtype_of(spec).name)
    return ", ".join(sorted(found))


def rest_names(subject: Subject) -> str:
    """No string output is called *_bytes, which REST would answer in base64, unless that is meant."""
    for name, signature in subject.signatures.items():
        for key, spec in signature.outputs.items():
            if key.endswith("_bytes") and dtype_of(spec) == tf.string and key not in subject.bytes_outputs:
                raise Broken(f"{name}'s output {key}; if it is meant, say --bytes-output {key}")
    return "none"


def no_absolute_path(subject: Subject) -> str:
    """saved_model.pb names no file of the machine that exported."""
    here = [entry.name for entry in os.scandir("/") if entry.is_dir()]
    roots = b"|".join(re.escape(name.encode()) for name in sorted({*ROOTS, *here}))
    pattern = re.compile(rb"(?<![\w./-])/(?:" + roots + rb")/[\w.@+-][\w./@+-]*")
    # Not in the file as it is, where the length of a string, a byte like any other, stands before it.
    for text in _texts(subject.graph):
        path = pattern.search(text)
        if path:
            raise Broken(path[0].decode()[:100])
    return "none"


def _texts(value) -> Iterator[bytes]:
    """All strings and bytes in a protocol buffer."""
    if isinstance(value, str | bytes):
        yield value.encode() if isinstance(value, str) else value
    elif isinstance(value, Message):
        for _, part in value.ListFields():
            yield from _texts(part)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _texts(key)
            yield from _texts(part)
    elif isinstance(value, Sequence):
        for part in value:
            yield from _texts(part)


def no_xla(subject: Subject) -> str:
    """Nothing has to be compiled by XLA, which servers turn off."""
    for node in graphs.all_nodes(subject.graph):
        if "_XlaMustCompile" in node.attr and node.attr["_XlaMustCompile"].b:
            raise Broken(f"_XlaMustCompile is set in node {node.name}")
    for function in subject.graph.graph_def.library.function:
        if "_XlaMustCompile" in function.attr and function.attr["_XlaMustCompile"].b:
            raise Broken(f"_XlaMustCompile is set in function {function.signature.name}")
    return "none"


def no_randomness(subject: Subject) -> str:
    """The same request gets the same answer: no random operation is run."""
    names = {node.op for node in graphs.served_nodes(subject.graph)}
    found = sorted(name for name in names if "Random" in name or name in ("Multinomial", "TruncatedNormal"))
    if found:
        raise Broken(", ".join(found))
    return f"none of {len(names)} operations"


def no_state(subject: Subject) -> str:
    """A request changes nothing for the next: no operation with state is run but those that read variables."""
    registry = _registry(subject)
    names = {node.op for node in graphs.served_nodes(subject.graph)}
    found = sorted(name for name in names - HARMLESS_STATE if registry.get(name))
    if found:
        raise Broken(", ".join(found))
    return f"{', '.join(sorted(names & HARMLESS_STATE)) or 'none'}"


def weights_once(subject: Subject) -> str:
    """Every saved weight is read by a signature, and none is saved twice."""
    needed = sum(
        tf.as_dtype(node.attr["dtype"].type).size * int(np.prod([dim.size for dim in node.attr["shape"].shape.dim]))
        for node in graphs.served_variables(subject.graph)
        if tf.as_dtype(node.attr["dtype"].type).is_floating
    )
    saved = 0
    if (subject.folder / "variables" / "variables.index").is_file():
        reader = tf.train.load_checkpoint(str(subject.folder / "variables" / "variables"))
        shapes = reader.get_variable_to_shape_map()
        for name, dtype in reader.get_variable_to_dtype_map().items():
            saved += dtype.size * int(np.prod(shapes[name])) if dtype.is_floating else 0
    if saved != needed:
        raise Broken(f"{saved:,} bytes are saved, {needed:,} bytes are read by the signatures")
    return f"{saved:,} bytes"


def metadata(subject: Subject) -> str:
    """assets.extra/metadata.json is readable and tells of this graph."""
    stored = _described(subject)
    for name, output in (("serving_default", "probabilities"), ("classify", "scores")):
        outputs = _signature(subject, name).outputs
        columns = shape_of(outputs[output])[-1] if output in outputs and shape_of(outputs[output]) else None
        if len(stored["label_names"]) != columns:
            raise Broken(f"it names {len(stored['label_names'])} labels; {name}'s {output} have {columns} columns")
    other = set(stored["operations"]) ^ set(graphs.operations(subject.graph))
    if other:
        raise Broken(f"its list of operations is another graph's: {', '.join(sorted(other)[:5])}")
    return f"{len(stored['label_names'])} labels, {len(stored['operations'])} operations"


def warmup(subject: Subject) -> str:
    """The warm-up can be read, has at most 1000 requests, and these are for signatures that there are."""
    logs = read_warmup(subject.folder)
    if not logs:
        raise NotChecked(f"there is no {WARMUP}")
    if len(logs) > MAX_RECORDS:
        raise Broken(f"it has {len(logs)} requests")
    asked = set()
    for log in logs:
        name, arrays = inputs_of(log)
        if name not in subject.signatures:
            raise Broken(f"it asks for the signature {name}")
        inputs = subject.signatures[name].inputs
        if sorted(arrays) != sorted(inputs):
            raise Broken(f"it gives {name} {_listed(arrays)} where {_listed(inputs)} is asked")
        for key, array in arrays.items():
            dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
            if dtype != dtype_of(inputs[key]):
                raise Broken(f"it gives {name} {key} as {dtype.name} where {_shown(inputs[key])} is asked")
        asked.add(name)
    return f"{len(logs)} requests for {', '.join(sorted(asked))}"


def serving_version(subject: Subject) -> str:
    """The release of TensorFlow Serving is not older than the operations of the graph."""
    needed = minimum_version(graphs.operations(subject.graph))
    if parse_version(subject.serving) < parse_version(needed):
        raise Broken(f"the graph needs {needed}, and {subject.serving} is to serve it")
    return f"needs {needed} or later"


def known_operations(subject: Subject) -> str:
    """All operations of the graph are in a server's registry."""
    registry = _registry(subject)
    names = graphs.operations(subject.graph)
    unknown = [name for name in names if name not in registry]
    if unknown:
        raise Broken(
            f"{', '.join(unknown)}: not in TensorFlow {subject.replies.tensorflow} as {subject.serving} has it"
        )
    return f"{len(names)} operations, all in TensorFlow {subject.replies.tensorflow}"


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


RULES: tuple[Callable[[Subject], str], ...] = (
    version_folder,
    serving_default,
    classify,
    batch_dimension,
    output_types,
    rest_names,
    no_absolute_path,
    no_xla,
    no_randomness,
    no_state,
    weights_once,
    metadata,
    warmup,
    serving_version,
    known_operations,
    loads,
    answers_of_serving_default,
    answers_of_classify,
    answers_of_warmup,
)


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
    stored = _described(subject)
    options = {item.name: stored[item.name] for item in fields(LabelRule) if item.name in stored}
    rule = LabelRule(tuple(stored["label_names"]), stored["task"] == "multi_label", **options)
    try:
        worst = compare(ways, recorded.texts, np.array(recorded.probabilities), recorded.tolerance, rule)
    except ExportDiffers as error:
        raise Broken(str(error)) from error
    return f"{len(recorded.labels)} texts, largest difference {worst:.1e}"


def _described(subject: Subject) -> dict:
    wanted = ("label_names", "task", "inputs", "tokenization", "operations", "minimum_serving", "versions", "run")
    missing = [key for key in wanted if key not in subject.metadata]
    if missing:
        raise Broken(f"{METADATA} has no {', '.join(missing)}")
    return subject.metadata


def _registry(subject: Subject) -> dict[str, bool]:
    if subject.replies.operations is None:
        raise NotChecked("the libraries did not load")
    return subject.replies.operations


def _listed(names) -> str:
    return ", ".join(sorted(names)) or "none"


def _signature(subject: Subject, name: str):
    if name not in subject.signatures:
        raise Broken(f"there is none; the signatures are {_listed(subject.signatures)}")
    return subject.signatures[name]


def _require(specs, wanted: dict[str, tuple[tf.DType, list[int | None]]]) -> None:
    for key, (dtype, shape) in wanted.items():
        if key not in specs:
            raise Broken(f"there is no {key} but {_listed(specs)}")
        if not _is(specs[key], dtype, shape):
            raise Broken(f"{key} is {_shown(specs[key])}, not {dtype.name} {['C' if n is None else n for n in shape]}")
