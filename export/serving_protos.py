"""TensorFlow Serving's log of a request, without the package tensorflow-serving-api.

These are the messages of tensorflow_serving/apis/prediction_log.proto, and of those that it is made of, as far as
warm-up requests and logs of answers need them: fields with their names, numbers and types. A message on the wire
carries no name, so that the package here is one of our own, which leaves the true one to tensorflow-serving-api where
it is installed.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import tensor_pb2

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "bert_pipeline.serving"
_EXAMPLE = f".{example_pb2.DESCRIPTOR.message_types_by_name['Example'].full_name}"
_TENSOR = f".{tensor_pb2.DESCRIPTOR.message_types_by_name['TensorProto'].full_name}"
_INT64 = f".{wrappers_pb2.Int64Value.DESCRIPTOR.full_name}"
_KINDS = (("classify_log", 2, "ClassifyLog"), ("regress_log", 3, "Other"), ("predict_log", 6, "PredictLog"),
          ("predict_streamed_log", 7, "Other"), ("multi_inference_log", 4, "Other"),
          ("session_run_log", 5, "Other"))  # fmt: skip
# By the name of the message: name, number and type of its fields (see `_add_field`).
_MESSAGES = {
    "ModelSpec": (("name", 1, str), ("signature_name", 3, str), ("version", 2, _INT64), ("version_label", 4, str)),
    "ExampleList": (("examples", 1, [_EXAMPLE]),),
    "Input": (("example_list", 1, "ExampleList"), ("example_list_with_context", 2, "Other")),
    "ClassificationRequest": (("model_spec", 1, "ModelSpec"), ("input", 2, "Input")),
    "PredictRequest": (("model_spec", 1, "ModelSpec"), ("inputs", 2, {str: _TENSOR}), ("output_filter", 3, [str])),
    "ClassifyLog": (("request", 1, "ClassificationRequest"),),
    "PredictResponse": (("model_spec", 2, "ModelSpec"), ("outputs", 1, {str: _TENSOR})),
    "PredictLog": (("request", 1, "PredictRequest"), ("response", 2, "PredictResponse")),
    "PredictionLog": (("log_metadata", 1, "Other"), *_KINDS),
    # Kinds that warm no server up; what they hold is kept, not read.
    "Other": (),
}
_ONEOFS = {
    "ModelSpec": ("version_choice", {"version", "version_label"}),
    "Input": ("kind", {"example_list", "example_list_with_context"}),
    "PredictionLog": ("log_type", {name for name, _, _ in _KINDS}),
}


def _add_field(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind) -> None:
    """A field of a type: str, a message's name, [type] where it is repeated, or {str: message} for a map."""
    repeated = isinstance(kind, list | dict)
    row = message.field.add(
        name=name, number=number, label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    )
    if isinstance(kind, dict):
        entry = message.nested_type.add(name=f"{name.title()}Entry", options={"map_entry": True})
        _add_field(entry, "key", 1, str)
        _add_field(entry, "value", 2, kind[str])
        kind = f".{_PACKAGE}.{message.name}.{entry.name}"
    elif repeated:
        (kind,) = kind
    if kind is str:
        row.type = _Field.TYPE_STRING
    else:
        row.type = _Field.TYPE_MESSAGE
        row.type_name = kind if kind.startswith(".") else f".{_PACKAGE}.{kind}"
    oneof, members = _ONEOFS.get(message.name, (None, ()))
    if name in members:
        if not message.oneof_decl:
            message.oneof_decl.add(name=oneof)
        row.oneof_index = 0


def _classes() -> dict[str, type]:
    file = descriptor_pb2.FileDescriptorProto(name="bert_pipeline/serving.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.extend(module.DESCRIPTOR.name for module in (example_pb2, tensor_pb2, wrappers_pb2))
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields:
            _add_field(message, *field)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


PredictionLog = _classes()["PredictionLog"]
"""A request to a server, as assets.extra/tf_serving_warmup_requests holds them."""
