"""Parquet, and Arrow files (feather) and streams."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from pipeline.data.formats.cells import encodable
from pipeline.data.formats.file import File
from pipeline.errors import UserError

BATCH = 10_000


def read_parquet(file: File, wanted: list[str] | None, rows: range | None = None) -> Iterator:
    """Only the wanted columns are read from disk, and only the row groups that hold some of `rows`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with file.open_seekable() as stream:
        try:
            table = pq.ParquetFile(stream)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{file.name} is no parquet file: {error}") from error
        names = table.schema_arrow.names
        chosen, stripped = _chosen(names, wanted)
        yield stripped
        rows = range(table.metadata.num_rows) if rows is None else rows
        groups, first = _groups(table.metadata, rows)
        columns = None if chosen is None else [names[place] for place in chosen]
        batches = table.iter_batches(batch_size=BATCH, row_groups=groups, columns=columns)
        if columns is not None:
            batches = (batch.select(columns) for batch in batches)
        yield from _rows(_within(batches, first, rows), file, rows.start)


def count_parquet(file: File) -> int:
    """Its rows, as its footer says."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with file.open_seekable() as stream:
        try:
            return pq.ParquetFile(stream).metadata.num_rows
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{file.name} is no parquet file: {error}") from error


def _chosen(names: list[str], wanted: list[str] | None) -> tuple[list[int] | None, list[str]]:
    """Where the wanted columns stand, None: take all; and the names of the columns that are taken."""
    stripped = [name.strip() for name in names]
    if wanted is None or any(stripped.count(name) != 1 for name in wanted):
        return None, stripped
    return [stripped.index(name) for name in wanted], wanted


def _groups(metadata: Any, rows: range) -> tuple[list[int], int]:
    """The row groups that hold some of the rows, and the number of the first row of the first of them."""
    groups, first, begin = [], 0, 0
    for group in range(metadata.num_row_groups):
        end = begin + metadata.row_group(group).num_rows
        if begin < rows.stop and end > rows.start:
            first = first if groups else begin
            groups.append(group)
        begin = end
    return groups, first


def _within(batches: Iterator, first: int, rows: range) -> Iterator:
    """What of batches, whose first row has the number `first`, is in a range of rows."""
    for batch in batches:
        begin, end = max(rows.start - first, 0), min(rows.stop - first, batch.num_rows)
        if end > begin:
            yield batch.slice(begin, end - begin)
        first += batch.num_rows
        if first >= rows.stop:
            return


def read_arrow(file: File, wanted: list[str] | None) -> Iterator:
    """An Arrow file, as feather is one, or an Arrow stream."""
    import pyarrow as pa

    with file.open_seekable() as stream:
        try:
            if file.start.startswith(b"ARROW1"):
                reader = pa.ipc.open_file(stream)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                reader = batches = pa.ipc.open_stream(stream)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{file.name} is no Arrow file: {error}") from error
        chosen, names = _chosen(reader.schema.names, wanted)
        yield names
        if chosen is not None:
            batches = (batch.select(chosen) for batch in batches)
        yield from _rows(batches, file)


def types_of(file: File) -> dict[str, Any]:
    """The types of the columns of a parquet or Arrow file, those that Python's values can be turned into."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with file.open_seekable() as stream:
        try:
            if file.start.startswith(b"PAR1"):
                schema = pq.read_schema(stream)
            else:
                opened = pa.ipc.open_file if file.start.startswith(b"ARROW1") else pa.ipc.open_stream
                schema = opened(stream).schema
        except (pa.ArrowInvalid, OSError):
            return {}  # who reads the rows says it
    return {field.name.strip(): field.type for field in schema if _can_be_made(field.type)}


def _can_be_made(kind: Any) -> bool:
    import pyarrow as pa

    try:
        pa.array([None], kind)
    except pa.ArrowException:
        return False
    return not pa.types.is_null(kind)


def _rows(batches: Any, file: File, number: int = 0) -> Iterator[tuple[int, list]]:
    import pyarrow as pa

    try:
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH):
                part = batch.slice(start, BATCH)
                names = part.schema.names
                columns = [_values(*column, file, number) for column in zip(names, part.columns, strict=True)]
                for cells in zip(*columns, strict=True):
                    number += 1
                    yield number, list(cells)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file.name}: the file is damaged after row {number}: {error}") from error


def _values(name: str, column: Any, file: File, number: int) -> list:
    """The cells of a column, which come after so many rows; Python's times have microseconds."""
    import pyarrow as pa

    kind = column.type
    try:
        if pa.types.is_timestamp(kind) and kind.unit == "ns":
            column = column.cast(pa.timestamp("us", kind.tz), safe=False)
        elif pa.types.is_duration(kind) and kind.unit == "ns":
            column = column.cast(pa.duration("us"), safe=False)
        return column.to_pylist()
    except (OverflowError, ValueError) as error:  # of Arrow's own errors, ArrowInvalid
        raise UserError(
            f"{file.name}: the column {name.strip()!r} holds a {kind} that Python cannot, after row {number}: {error}."
        ) from error


@contextmanager
def write_parquet(stream: BinaryIO, columns: list[str], types: dict) -> Iterator[Callable]:
    """Types of columns are those of the first rows, where `types` gives neither Python's nor Arrow's."""
    import pyarrow.parquet as pq

    with _writer(lambda schema: pq.ParquetWriter(stream, schema), columns, types) as write:
        yield write


@contextmanager
def write_arrow(stream: BinaryIO, columns: list[str], types: dict) -> Iterator[Callable]:
    """An Arrow file, which is feather; otherwise as `write_parquet`."""
    import pyarrow as pa

    with _writer(lambda schema: pa.ipc.new_file(stream, schema), columns, types) as write:
        yield write


@contextmanager
def _writer(opened: Callable, columns: list[str], types: dict) -> Iterator[Callable]:
    import pyarrow as pa

    known = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
    names = list(columns)
    writer: Any = None
    schema: Any = None

    def write(rows: list[list]) -> None:
        nonlocal writer, schema
        if len(set(names)) < len(names) or names != columns:
            raise UserError("this format needs the same columns in all rows, each name once: write a .jsonl or .csv.")
        cells = list(itertools.zip_longest(*rows)) or [()] * len(names)
        arrays = []
        for i, name in enumerate(names):
            kind = schema.field(i).type if schema else known.get(types.get(name), types.get(name))
            try:
                array = pa.array(map(encodable, cells[i]), kind)
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
                raise UserError(
                    f"the column {name!r} holds values of several types, which this format does not: write a .jsonl "
                    f"({str(error).splitlines()[0]})."
                ) from error
            arrays.append(array.cast(pa.string()) if pa.types.is_null(array.type) else array)
        if schema is None:
            schema = pa.schema([(name, array.type) for name, array in zip(names, arrays, strict=True)])
            writer = opened(schema)
        assert writer is not None
        writer.write_batch(pa.record_batch(arrays, schema=schema))

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
