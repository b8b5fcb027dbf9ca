"""Rules on the graph and its weights: what a server has, may run, and need not hold twice."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from google.protobuf.message import Message

from export import graph as graphs
from export.server.releases import minimum_version, parse_version
from export.server.rules.subject import Broken, Subject, registry_of
from export.server.safety import HARMLESS_STATE, is_random, why_not_run

# Folders at the root of a machine, as far as this one does not have them.
ROOTS = {
    "bin", "boot", "dev", "etc", "home", "lib", "media", "mnt", "opt", "private", "proc", "root", "run", "srv", "sys",
    "tmp", "usr", "var", "Users", "content", "workspace",
}  # fmt: skip


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
    found = sorted(filter(is_random, names))
    if found:
        raise Broken(", ".join(found))
    return f"none of {len(names)} operations"


def no_state(subject: Subject) -> str:
    """A request changes nothing for the next: no operation with state is run but those that read variables."""
    registry = registry_of(subject)
    names = {node.op for node in graphs.served_nodes(subject.graph)}
    found = sorted(name for name in names - HARMLESS_STATE if registry.get(name))
    if found:
        raise Broken(", ".join(found))
    return f"{', '.join(sorted(names & HARMLESS_STATE)) or 'none'}"


def no_side_effects(subject: Subject) -> str:
    """Nothing in the graph, its functions and its initialisation reads or writes files, prints, or changes a state."""
    found = why_not_run(subject.graph, registry_of(subject))
    if found:
        raise Broken(found)
    return f"none of {len(graphs.operations(subject.graph))} operations"


def no_pinned_devices(subject: Subject) -> str:
    """No node asks for a device but the CPU that every server has."""
    for node in graphs.all_nodes(subject.graph):
        if not re.fullmatch(r"(/device:CPU:[0*]|/CPU:[0*])?", node.device, re.IGNORECASE):
            raise Broken(f"node {node.name} asks for {node.device}")
    return "none"


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


def known_operations(subject: Subject) -> str:
    """All operations of the graph are in a server's registry."""
    registry = registry_of(subject)
    names = graphs.operations(subject.graph)
    unknown = [name for name in names if name not in registry]
    if unknown:
        raise Broken(
            f"{', '.join(unknown)}: not in TensorFlow {subject.replies.tensorflow} as {subject.serving} has it"
        )
    return f"{len(names)} operations, all in TensorFlow {subject.replies.tensorflow}"


def serving_version(subject: Subject) -> str:
    """The release of TensorFlow Serving is not older than the operations of the graph."""
    needed = minimum_version(graphs.operations(subject.graph))
    if parse_version(subject.serving) < parse_version(needed):
        raise Broken(f"the graph needs {needed}, and {subject.serving} is to serve it")
    return f"needs {needed} or later"
