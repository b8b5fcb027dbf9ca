"""TFRecord files of serialized tf.train.Example."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.data.formats.file import File
from pipeline.data.formats.records import rows_of
from pipeline.errors import UserError
from pipeline.files import named_in_errors


def read_tfrecord(file: File, wanted: list[str] | None) -> Iterator:
    """A feature of one value is that value; an empty one None; others are lists."""
    return rows_of(_records(file), wanted)


def _records(file: File) -> Iterator[tuple[int, dict]]:
    import tensorflow as tf

    from pipeline.data.untuned import untuned

    number = 0
    try:
        with _readable(file) as (path, compression):
            records = untuned(tf.data.TFRecordDataset(path, compression_type=compression)).as_numpy_iterator()
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


@contextmanager
def _readable(file: File) -> Iterator[tuple[str, str]]:
    """Path and compression of what TensorFlow reads: the file, or an unpacked copy where it knows only gzip."""
    if file.compression in ("", ".gz"):
        yield file.path, "GZIP" if file.compression else ""
        return
    with tempfile.NamedTemporaryFile() as copy, file.open() as stream:
        with named_in_errors(copy.name):
            shutil.copyfileobj(stream, copy)
            copy.flush()
        yield copy.name, ""


def _value(feature: Any) -> Any:
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value if kind else []
    return values[0] if len(values) == 1 else list(values) or None
