"""TFRecord files of serialized tf.train.Example."""

from collections.abc import Iterator
from typing import Any

from pipeline.data.formats.file import File
from pipeline.data.formats.records import rows_of
from pipeline.errors import UserError


def read_tfrecord(file: File, wanted: list[str] | None) -> Iterator:
    """A feature of one value is that value; an empty one None; others are lists."""
    return rows_of(_records(file), wanted)


def _records(file: File) -> Iterator[tuple[int, dict]]:
    import tensorflow as tf

    from pipeline.data.untuned import untuned

    number = 0
    compression = "GZIP" if file.compression else ""
    try:
        records = untuned(tf.data.TFRecordDataset(file.path, compression_type=compression)).as_numpy_iterator()
        for record in records:
            number += 1
            features = tf.train.Example.FromString(record).features.feature
            yield number, {name: _value(features[name]) for name in features}
    except tf.errors.DataLossError as error:
        raise UserError(f"{file.name}, record {number + 1}: the file is damaged or no TFRecord file.") from error
    except Exception as error:
        if type(error).__name__ != "DecodeError":
            raise
        raise UserError(f"{file.name}, record {number}: not a serialized tf.train.Example.") from error


def _value(feature: Any) -> Any:
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value if kind else []
    return values[0] if len(values) == 1 else list(values) or None
