"""Rules on the signatures: names, data types and shapes of what goes in and comes out."""

import tensorflow as tf

from export.server.rules.subject import Broken, Subject, dtype_of, listed, require, shape_of, shown, signature_of

# What the REST interface writes as JSON (tensorflow_serving/util/json_tensor.cc).
JSON_TYPES = {
    tf.float32, tf.float64, tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64, tf.bool,
    tf.string,
}  # fmt: skip


def serving_default(subject: Subject) -> str:
    """serving_default takes text, or text_a and text_b, and gives label, score and probabilities."""
    signature = signature_of(subject, "serving_default")
    if sorted(signature.inputs) not in (["text"], ["text_a", "text_b"]):
        raise Broken(f"its inputs are {listed(signature.inputs)}")
    wanted = {name: (tf.string, [-1]) for name in signature.inputs}
    require(signature.inputs, wanted)
    require(
        signature.outputs,
        {"label": (tf.string, [-1]), "score": (tf.float32, [-1]), "probabilities": (tf.float32, [-1, None])},
    )
    return f"{listed(signature.inputs)} to {listed(signature.outputs)}"


def classify(subject: Subject) -> str:
    """classify takes tf.Examples as `inputs` and gives classes and scores, a column a label, and nothing else."""
    signature = signature_of(subject, "classify")
    if list(signature.inputs) != ["inputs"]:
        raise Broken(f"its inputs are {listed(signature.inputs)}")
    if sorted(signature.outputs) != ["classes", "scores"]:
        raise Broken(f"its outputs are {listed(signature.outputs)}")
    require(signature.inputs, {"inputs": (tf.string, [-1])})
    require(signature.outputs, {"classes": (tf.string, [-1, None]), "scores": (tf.float32, [-1, None])})
    widths = {name: spec.tensor_shape.dim[1].size for name, spec in signature.outputs.items()}
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
                    raise Broken(f"{name}'s {kind} {key} is {shown(spec)}")
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
