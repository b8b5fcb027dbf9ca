"""Messages of TensorFlow Serving's config files that tensorflow-serving-api lacks.

Fields and numbers are those of tensorflow_serving/config/ssl_config.proto and monitoring_config.proto and of
BatchingParameters in servables/tensorflow/session_bundle_config.proto.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

Field = descriptor_pb2.FieldDescriptorProto
WRAPPED = ".google.protobuf."
MESSAGES = {
    "SSLConfig": [("server_key", 1, "string"), ("server_cert", 2, "string"), ("custom_ca", 3, "string"),
                  ("client_verify", 4, "bool")],
    "PrometheusConfig": [("enable", 1, "bool"), ("path", 2, "string")],
    "MonitoringConfig": [("prometheus_config", 1, ".tensorflow.serving.PrometheusConfig")],
    "BatchingParameters": [
        ("max_batch_size", 1, WRAPPED + "Int64Value"), ("batch_timeout_micros", 2, WRAPPED + "Int64Value"),
        ("max_enqueued_batches", 3, WRAPPED + "Int64Value"), ("num_batch_threads", 4, WRAPPED + "Int64Value"),
        ("thread_pool_name", 5, WRAPPED + "StringValue"), ("pad_variable_length_inputs", 7, "bool"),
        ("enable_large_batch_splitting", 8, WRAPPED + "BoolValue"),
        ("max_execution_batch_size", 9, WRAPPED + "Int64Value"),
    ],
}  # fmt: skip
TYPES = {"string": Field.TYPE_STRING, "bool": Field.TYPE_BOOL}


def _classes() -> dict:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(name="configs.proto", package="tensorflow.serving", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            row = message.field.add(name=field, number=number, label=Field.LABEL_OPTIONAL)
            row.type = TYPES.get(kind, Field.TYPE_MESSAGE)
            if kind not in TYPES:
                row.type_name = kind
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))
            for name in MESSAGES}  # fmt: skip


CLASSES = _classes()
