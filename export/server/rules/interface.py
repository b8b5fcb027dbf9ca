"""Rules on the signatures: names, data types and shapes of what goes in and comes out."""

import tensorflow as tf

from export.server.rules.subject import (
    Broken,
    Subject,
    dtype_of,
    listed,
    require,
    shape_of,
    shown,
    signature_of,
    task_of,
)

# What the REST interface writes as JSON (tensorflow_serving/util/json_tensor.cc).
JSON_TYPES = {
    tf.float32, tf.float64, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64, tf.bool,
    tf.string,
}  # fmt: skip


def serving_default(subject: Subject) -> str:
    """serving_default takes what the metadata names, text, or text_a and text_b, or texts and columns beside them, and
    gives what the model's task answers."""
    signature = signature_of(subject, "serving_default")
    beside = {column["name"]: column for column in subject.metadata.get("columns", ())}
    if not beside and len(subject.metadata.get("text_columns", ())) < 3:
        if sorted(signature.inputs) not in (["text"], ["text_a", "text_b"]):
            raise Broken(f"its inputs are {listed(signature.inputs)}")
    elif sorted(signature.inputs) != sorted(subject.metadata["inputs"]):
        raise Broken(f"its inputs are {listed(signature.inputs)}, and by the metadata others")
    require(signature.inputs, {name: _column_spec(spec) for name, spec in signature.inputs.items()})
    _require_outputs(subject, "serving_default")
    return f"{listed(signature.inputs)} to {listed(signature.outputs)}"


def _column_spec(spec) -> tuple:
    """string [batch], float32 [batch] or float32 [batch, any]."""
    if spec.dtype != tf.float32.as_datatype_enum:
        return tf.string, [-1]
    return tf.float32, [-1] if len(spec.tensor_shape.dim) == 1 else [-1, None]


def examples(subject: Subject) -> str:
    """The signature for tf.Examples takes them as `inputs`, and gives what TensorFlow Serving's APIs ask of it."""
    name = task_of(subject).example_signature
    signature = signature_of(subject, name)
    if list(signature.inputs) != ["inputs"]:
        raise Broken(f"the inputs of {name} are {listed(signature.inputs)}")
    wanted = task_of(subject).output_specs[name]
    if sorted(signature.outputs) != sorted(wanted):
        raise Broken(f"the outputs of {name} are {listed(signature.outputs)}")
    require(signature.inputs, {"inputs": (tf.string, [-1])})
    _require_outputs(subject, name)
    widths = {key: spec.tensor_shape.dim[1].size for key, spec in signature.outputs.items()}
    if len(set(widths.values())) > 1:
        raise Broken(" and ".join(f"{key} has {width} columns" for key, width in sorted(widths.items())))
    return f"{name}: {next(iter(widths.values()))} columns"


def _require_outputs(subject: Subject, name: str) -> None:
    # How wide they are is the metadata's to say: see rules.metadata.
    wanted = {
        key: (tf.as_dtype(dtype), [-1, *(None for _ in shape)])
        for key, (dtype, shape) in task_of(subject).output_specs[name].items()
    }
    require(signature_of(subject, name).outputs, wanted)


def batch_dimension(subject: Subject) -> str:
    """Dimension 0 of every input and output is the batch: a server that batches takes no scalars."""
    count = 0
    for name, signature in subject.signatures.items():
        for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
            for key, spec in specs.items():
                shape = shape_of(spec)
                if not shape or shape[0] != -1:
                    raise Broken(f"{name}'s {kind} {key} is {shown(spec)}")
                count += 1
    return f"{count} inputs and outputs of {len(subject.signatures)} signatures"


def fixed_widths(subject: Subject) -> str:
    """No input and no output has a size, but the batch, that may change from one batch to the next."""
    for name, signature in subject.signatures.items():
        for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
            for key, spec in specs.items():
                if -1 in (shape_of(spec) or [None, -1])[1:]:
                    raise Broken(f"{name}'s {kind} {key} is {shown(spec)}")
    return f"in {len(subject.signatures)} signatures"


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
