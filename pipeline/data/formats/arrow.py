"""Parquet, and Arrow files (feather) and streams."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from pipeline.data.formats.cells import encodable
from pipeline.data.formats.file import File
from pipeline.errors import UserError

BATCH = 10_000


def read_parquet(file: File, wanted: list[str] | None) -> Iterator:
    """Only the wanted columns are read from disk."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with file.open_seekable() as stream:
        try:
            table = pq.ParquetFile(stream)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{file.name} is no parquet file: {error}") from error
        names = table.schema_arrow.names
        stripped = [name.strip() for name in names]
        chosen = None
        if wanted is not None and set(wanted) <= set(stripped) and all(stripped.count(name) == 1 for name in wanted):
            chosen = [names[stripped.index(name)] for name in wanted]
        yield stripped if chosen is None else wanted
        batches = table.iter_batches(batch_size=BATCH, columns=chosen)
        if chosen is not None:
            batches = (batch.select(chosen) for batch in batches)
        yield from _rows(batches, file)


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
        yield [name.strip() for name in reader.schema.names]
        yield from _rows(batches, file)


def _rows(batches: Any, file: File) -> Iterator[tuple[int, list]]:
    import pyarrow as pa

    number = 0
    try:
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH):
                part = batch.slice(start, BATCH)
                for cells in zip(*(column.to_pylist() for column in part.columns), strict=True):
                    number += 1
                    yield number, list(cells)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file.name}: the file is damaged after row {number}: {error}") from error


@contextmanager
def write_parquet(stream: BinaryIO, columns: list[str], types: dict) -> Iterator[Callable]:
    """Types of columns are those of the first rows, where `types` does not give them."""
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

    known = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_(), list: None}
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
            kind = schema.field(i).type if schema else known.get(types.get(name))
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
