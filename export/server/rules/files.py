"""Rules on the folder and on what is kept beside the graph."""

import os
from pathlib import Path

import tensorflow as tf

from export import graph as graphs
from export.server.rules.subject import (
    Broken,
    NotChecked,
    Subject,
    dtype_of,
    listed,
    metadata_of,
    shape_of,
    shown,
    signature_of,
    task_of,
)
from export.versions import version_number, versions_in
from export.warmup import FILE as WARMUP
from export.warmup import MAX_RECORDS, inputs_of, read_warmup


def version_folder(subject: Subject) -> str:
    """The folder, or the link to it, is called by a number of its own up to 2^63 - 1: servers ignore others."""
    if not subject.published:
        raise NotChecked("it gets its number when all else is found right")
    folder = Path(os.path.abspath(subject.folder))
    number = version_number(folder)
    if number is None:
        raise Broken(f"it is called {folder.name}")
    same = [other.name for other in versions_in(folder.parent) if version_number(other) == number]
    if len(same) > 1:
        raise Broken(f"{listed(same)} are one version")
    return folder.name


def metadata(subject: Subject) -> str:
    """assets.extra/metadata.json is readable and tells of this graph."""
    stored, task = metadata_of(subject), task_of(subject)
    for name, specs in task.output_specs.items():
        outputs = signature_of(subject, name).outputs
        for key, (_, shape) in specs.items():
            columns = (shape_of(outputs[key]) or [])[1:] if key in outputs else None
            if columns != list(shape):
                raise Broken(f"its task has {task.outputs} outputs; {name}'s {key} has {columns} behind the batch")
    other = set(stored["operations"]) ^ set(graphs.operations(subject.graph))
    if other:
        raise Broken(f"its list of operations is another graph's: {', '.join(sorted(other)[:5])}")
    return f"{task.outputs} outputs, {len(stored['operations'])} operations"


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
            raise Broken(f"it gives {name} {listed(arrays)} where {listed(inputs)} is asked")
        for key, array in arrays.items():
            dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
            if dtype != dtype_of(inputs[key]):
                raise Broken(f"it gives {name} {key} as {dtype.name} where {shown(inputs[key])} is asked")
        asked.add(name)
    return f"{len(logs)} requests for {', '.join(sorted(asked))}"
