"""Rows of raw cells out of files, tensorflow-datasets and wheels; streamed, never a whole file at once."""

import bz2
import codecs
import csv
import glob
import gzip
import io
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipeline.config import DataConfig
from pipeline.errors import UserError
from pipeline.wheel import fetch, is_wheel

OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
FORMATS = {".csv": "csv", ".tsv": "tsv", ".txt": "tsv", ".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl",
           ".parquet": "parquet", ".tfrecord": "tfrecord", ".tfrecords": "tfrecord"}  # fmt: skip

# Characters in one cell of a csv: more means a quote that is never closed, which would swallow the rest of the file.
LARGEST_CELL = 1 << 24

T = TypeVar("T")
Row = tuple[int, list[Any] | str]
"""(line or row number, cells of the text columns and then of the label column); None for a cell that is missing.

In place of the cells: what is wrong with the row, as the end of a sentence.
"""


def expand(source: str | list[str]) -> list[str]:
    """The files, tfds: names in order; globs are sorted, wheels fetched.

    Raises:
        UserError: a path or glob that matches no file.
    """
    found = matches(source)
    for file in found:
        if Path(file).is_dir() and not any(Path(file).glob("*/*.txt")):
            raise UserError(f"{file} is a folder: name its files ({file}/*.csv), or have label/*.txt in it.")
    return found


def matches(source: str | list[str]) -> list[str]:
    """As `expand`, for readers that have another use for folders."""
    found = []
    for item in [source] if isinstance(source, str) else source:
        if is_wheel(item):
            item = str(fetch(item))
        if item.startswith("tfds:"):
            found.append(item)
            continue
        files = [item] if Path(item).exists() else sorted(glob.glob(item, recursive=True))
        if not files:
            raise UserError(f"{item}: no such file (and no file matches it as a pattern).")
        found += files
    return found


def identity(source: str, config: DataConfig) -> tuple:
    """What tells whether a source has changed: path, size and time of a file, or of all files of a folder."""
    if source.startswith("tfds:"):
        return (source, config.data_dir)
    files = sorted(Path(source).glob("*/*.txt")) if Path(source).is_dir() else [Path(source)]
    status = [file.stat() for file in files]
    newest = max(one.st_mtime_ns for one in status)
    return (str(Path(source).resolve()), len(files), sum(one.st_size for one in status), newest)


def place(source: str, number: int) -> str:
    """A row of a source, for messages: its file and line, or what stands for a line in its format."""
    if source.startswith("tfds:"):
        return f"{source}, example {number}"
    if Path(source).is_dir():
        return str(_texts_of_folder(source)[number - 1])
    unit = {".parquet": "row", ".tfrecord": "record", ".tfrecords": "record"}
    return f"{source}, {next((unit[s] for s in Path(source).suffixes[::-1] if s in unit), 'line')} {number}"


def read(
    source: str, config: DataConfig, columns: list[str], default_split: str, section: str = "data"
) -> Iterator[Row]:
    """Rows of one source.

    Args:
        source: one item of `expand`.
        config: format, encoding.
        columns: whose cells are wanted, in this order.
        default_split: the tfds split where the source names none.
        section: of the settings that messages name.

    Raises:
        UserError: an unreadable file, or missing columns, naming the file and the row.
    """
    if source.startswith("tfds:"):
        return _tfds(source, config, columns, default_split)
    if Path(source).is_dir():
        return _folder(source, config)
    suffix, compression = suffixes(source)
    kind = config.format or FORMATS.get(suffix)
    if kind is None:
        raise UserError(
            f"{source}: its name does not tell the format; set {section}.format (csv, tsv, jsonl, parquet or tfrecord)."
        )
    if Path(source).stat().st_size == 0:
        raise UserError(f"{source} is empty.")
    if compression and (kind == "parquet" or (kind == "tfrecord" and compression != ".gz")):
        raise UserError(f"{source}: a {kind} file is not read through {compression}; unpack it first.")
    if kind == "parquet":
        return _parquet(source, columns)
    if kind == "tfrecord":
        return _tfrecord(source, columns, "GZIP" if compression else "")
    rows = (
        _jsonl(source, compression, columns, config)
        if kind == "jsonl"
        else _csv(source, compression, columns, kind, config)
    )
    return explain_broken_files(rows, source, compression, config.encoding, section)


def suffixes(source: str) -> tuple[str, str]:
    """What a file's name ends in, (".csv", ".gz") for example; "" for what it lacks."""
    found = [suffix.lower() for suffix in Path(source).suffixes]
    compression = found.pop() if found and found[-1] in OPENERS else ""
    return (found[-1] if found else ""), compression


def open_text(source: str, compression: str, encoding: str) -> io.TextIOBase:
    """A text file, unpacked as it is read; its line ends stay as they are."""
    return OPENERS.get(compression, open)(source, "rt", encoding=_without_mark(encoding), newline="")


def _without_mark(encoding: str) -> str:
    """A byte-order mark is not part of the first column's name."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


def explain_broken_files(
    rows: Iterator[T], source: str, compression: str, encoding: str, section: str = "data"
) -> Iterator[T]:
    """The same rows; errors of reading and decoding become a UserError with file and line."""
    try:
        yield from rows
    except UnicodeDecodeError as error:
        line, byte = _first_undecodable(source, compression, encoding)
        raise UserError(
            f"{source}, line {line}: not valid {encoding} at byte {byte} ({error.reason}); set {section}.encoding."
        ) from error
    except (LookupError, UnicodeError) as error:
        raise UserError(f"{section}.encoding {encoding!r} is not an encoding that Python knows.") from error
    except (EOFError, lzma.LZMAError, OSError) as error:
        raise UserError(f"{source} cannot be read: {error}") from error


def _first_undecodable(source: str, compression: str, encoding: str) -> tuple[int, int]:
    """(line, byte counted from 0 in the unpacked file) where decoding fails."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line, read = 1, 0
    with OPENERS.get(compression, open)(source, "rb") as file:
        while True:
            chunk = file.read(1 << 20)
            state = decoder.getstate()
            try:
                line += decoder.decode(chunk, final=not chunk).count("\n")
            except UnicodeDecodeError as error:
                # The decoder holds back the beginning of a character that the last chunk cut.
                good = error.start - len(state[0])
                decoder.setstate(state)
                return line + decoder.decode(chunk[: max(good, 0)]).count("\n"), read + good
            if not chunk:
                return line, read
            read += len(chunk)


def _csv(source: str, compression: str, columns: list[str], kind: str, config: DataConfig) -> Iterator[Row]:
    """RFC 4180 for csv; in tsv a quote is an ordinary character and a record is a line."""
    csv.field_size_limit(LARGEST_CELL)
    dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if kind == "tsv" else {"strict": True}
    with open_text(source, compression, config.encoding) as file:
        reader = csv.reader(file, **dialect)
        line = 0
        try:
            header = config.column_names or next(filter(None, reader), None)
            if header is None:
                raise UserError(f"{source} is empty.")
            places = _places(source, header, columns)
            line = reader.line_num
            for cells in reader:
                first, line = line + 1, reader.line_num
                if not cells:
                    continue  # a blank line
                if len(cells) != len(header):
                    yield first, f"has {len(cells)} cells where the header has {len(header)}"
                else:
                    yield first, [cells[place] for place in places]
        except csv.Error as error:
            raise UserError(
                f"{source}, line {line + 1}: {error} (a quote that is never closed, or text after one?)"
            ) from error


def _places(source: str, header: list[str], columns: list[str]) -> list[int]:
    header = [name.strip() for name in header]
    for name in columns:
        if name not in header:
            raise UserError(f"{source} has no column {name!r}; it has {', '.join(map(repr, header))}.")
        if header.count(name) > 1:
            raise UserError(f"{source} has {header.count(name)} columns named {name!r}: rename all but one.")
    return [header.index(name) for name in columns]


def _texts_of_folder(source: str) -> list[Path]:
    return sorted(Path(source).glob("*/*.txt"))


def _folder(source: str, config: DataConfig) -> Iterator[Row]:
    """One text a file, in a folder named after its label (the layout of aclImdb)."""
    if len(config.text_columns) != 1:
        raise UserError(f"{source}: a folder of texts has one text a row; data.text_columns names two.")
    for number, file in enumerate(_texts_of_folder(source), 1):
        try:
            yield number, [file.read_text(_without_mark(config.encoding)), file.parent.name]
        except UnicodeDecodeError as error:
            yield number, f"is not valid {config.encoding}: see byte {error.start} and data.encoding"
        except (LookupError, UnicodeError) as error:
            raise UserError(f"data.encoding {config.encoding!r} is not an encoding that Python knows.") from error


def _jsonl(source: str, compression: str, columns: list[str], config: DataConfig) -> Iterator[Row]:
    with open_text(source, compression, config.encoding) as file:
        checked = False
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:  # not JSON, or an integer or nesting without end
                yield number, f"is not JSON: {getattr(error, 'msg', error)}"
                continue
            if not isinstance(record, dict):
                yield number, f"is a JSON {type(record).__name__} where an object is expected"
                continue
            if not checked:
                _places(source, list(record), columns)
                checked = True
            yield number, [record.get(name) for name in columns]


def _parquet(source: str, columns: list[str]) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(source)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{source} is no parquet file: {error}") from error
    _places(source, file.schema_arrow.names, columns)
    number = 0
    try:
        for batch in file.iter_batches(batch_size=10_000, columns=columns):
            for cells in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
                number += 1
                yield number, list(cells)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{source}: the file is damaged after row {number}: {error}") from error


def _tfrecord(source: str, columns: list[str], compression: str) -> Iterator[Row]:
    import tensorflow as tf

    from pipeline.data.untuned import untuned

    number = 0
    try:
        for record in untuned(tf.data.TFRecordDataset(source, compression_type=compression)).as_numpy_iterator():
            number += 1
            features = tf.train.Example.FromString(record).features.feature
            if number == 1:
                _places(source, list(features), columns)
            yield number, [_feature(features[name]) if name in features else None for name in columns]
    except tf.errors.DataLossError as error:
        raise UserError(f"{source}, record {number + 1}: the file is damaged or no TFRecord file.") from error
    except Exception as error:
        if type(error).__name__ != "DecodeError":
            raise
        raise UserError(f"{source}, record {number}: not a serialized tf.train.Example.") from error


def _feature(feature: Any) -> Any:
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value if kind else []
    return values[0] if len(values) == 1 else list(values) or None


def _tfds(source: str, config: DataConfig, columns: list[str], default_split: str) -> Iterator[Row]:
    import tensorflow_datasets as tfds

    from pipeline.data.untuned import untuned

    name, _, split = source.removeprefix("tfds:").partition("/")
    name = name.replace(":", "/", 1)
    try:
        builder = tfds.builder(name, data_dir=config.data_dir)
        builder.download_and_prepare()
        split = split or default_split
        if any(part.split("[")[0].strip() not in builder.info.splits for part in split.split("+")):
            raise UserError(f"{source} has no split {split!r}; it has {', '.join(builder.info.splits)}.")
        rows = tfds.as_numpy(untuned(builder.as_dataset(split=split, shuffle_files=False)))
    except UserError:
        raise
    except Exception as error:  # whatever tfds, its download or its builder raised
        raise UserError(f"{source} cannot be loaded: {str(error).splitlines()[0]}") from error
    features = builder.info.features
    _places(source, list(features), columns)
    label = features[config.label_column] if config.label_column else None
    several = isinstance(label, tfds.features.Sequence)
    names = label.feature if several else label
    named = isinstance(names, tfds.features.ClassLabel)
    for number, record in enumerate(rows, 1):
        cells = [record[column] for column in columns]
        if named:
            # tfds writes -1 where the label is withheld.
            found = [names.int2str(int(value)) if value >= 0 else None for value in np.atleast_1d(cells[-1])]
            cells[-1] = found if several else found[0]
        yield number, cells
