"""Rows on disk, memory-mapped: any row at once, whatever the size, at no cost in memory.

A source of any format is converted once into plain arrays beside each other; training, resuming and evaluation
read those. Text is kept as UTF-8 bytes with the place where each begins.
"""

import hashlib
import json
import mmap
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType

import numpy as np

from pipeline import tasks
from pipeline.config import DataConfig
from pipeline.data import sources
from pipeline.data.extra_columns import EXTRA, Column, ExtraColumn, ExtraReader
from pipeline.data.formats import Notices
from pipeline.data.rows import clean_texts
from pipeline.errors import UserError
from pipeline.features.columns import FeatureColumn, Vector, wanted_features
from pipeline.files import replaced_folder
from pipeline.redaction.kinds import NOTHING, RULES, Redaction
from pipeline.redaction.rows import redacted_rows
from pipeline.tasks.targets import TargetReader

# Raise it when the same source is converted to something else: stores of earlier versions are then not used again.
VERSION = 3
# Before the names of a target's arrays.
TARGET = "target_"
READ_SETTINGS = ("format", "text_columns", "task", "label_column", "label_separator", "label_columns", "labels",
                 "column_names", "encoding", "encoding_fallback", "delimiter", "quote", "escape", "bad_rows",
                 "max_examples", "data_dir")  # fmt: skip
# So many vectors of a column decide how many numbers one has.
FIRST_VECTORS = 1000
COLUMN_SETTINGS = ("numeric_columns", "categorical_columns", "date_columns", "vector_columns")


@dataclass
class _Meta:
    """What a store says of itself."""

    sources: list[str]
    columns: int
    """Of cells that are kept as bytes: texts, then the model's other inputs."""
    beside: int = 0
    """How many of them are no texts."""
    rows: int = 0
    target: dict = field(default_factory=dict)
    """What the task's reader says of the targets."""
    skipped: dict[str, int] = field(default_factory=dict)
    notices: Notices = field(default_factory=Notices)
    format: str | None = None
    fingerprint: str = ""
    extra: list[dict] = field(default_factory=list)
    """The `Column`s beside texts and targets."""
    sizes: dict[str, int] = field(default_factory=dict)
    """How many numbers the vectors of a column have, by its name."""


class Store:
    """Converted rows.

    Attributes:
        folder: where they lie.
        meta: counts, skipped rows, `notices` of reading, what is known of the targets, and `fingerprint`, a sha256 of
            all texts and targets.
        arrays: of the targets, as the task's reader has filled them.
        columns, extra: what is known of the columns beside texts and targets, and their arrays, by role.
        hashes: uint64 [rows], equal for equal texts (white space at the ends aside).
        numbers, origins: int64 and int32 [rows], the line and the source (in meta.sources) of a row.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.meta = _Meta(**json.loads((folder / "meta.json").read_text(encoding="utf-8")))
        self.meta.notices = Notices(self.meta.notices)
        self._texts = []
        self._placers: dict[str, Callable[[int], str]] = {}
        for column in range(self.meta.columns):
            with open(folder / f"text{column}.bin", "rb") as file:
                # mmap refuses an empty file; the writer puts one byte at its end.
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._texts.append((data, np.load(folder / f"text{column}.npy", mmap_mode="r")))
        self.hashes, self.numbers, self.origins = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("hashes", "numbers", "origins")
        )
        self.columns = {about["role"]: Column(**about) for about in self.meta.extra}
        self.extra = {role: np.load(folder / f"{EXTRA}{role}.npy", mmap_mode="r") for role in self.columns}
        self.arrays = {
            path.stem.removeprefix(TARGET): np.load(path, mmap_mode="r") for path in folder.glob(f"{TARGET}*.npy")
        }

    def cells(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """What a model reads of rows: one object array of bytes (UTF-8) a text column, then one for each of the columns
        beside the texts (see pipeline.features.columns)."""
        return tuple(self._bytes(rows, self._texts))

    def texts(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """One object array of bytes (UTF-8) a text column."""
        return tuple(self._bytes(rows, self._texts[: self.meta.columns - self.meta.beside]))

    def beside(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """One object array of bytes (UTF-8) after the other, of the columns beside the texts alone."""
        return self._bytes(rows, self._texts[self.meta.columns - self.meta.beside :])

    def _bytes(self, rows: np.ndarray, files: Sequence[tuple[mmap.mmap, np.ndarray]]) -> Iterator[np.ndarray]:
        for data, starts in files:
            values = np.empty(len(rows), object)
            for i, (start, end) in enumerate(zip(starts[rows].tolist(), starts[rows + 1].tolist(), strict=True)):
                values[i] = data[start:end]
            yield values

    def where(self, row: int) -> str:
        """File and line of a row, for messages."""
        source = self.meta.sources[self.origins[row]]
        if source not in self._placers:
            self._placers[source] = sources.placer_of(source, self.meta.format)
        return self._placers[source](int(self.numbers[row]))


def convert(
    source: str | list[str],
    config: DataConfig,
    cache: Path,
    split: str,
    wanted: Sequence[ExtraColumn] = (),
    redaction: Redaction = NOTHING,
    sizes: Mapping[str, int] = MappingProxyType({}),
) -> Store:
    """Read a source into the cache, or take what an earlier run has put there.

    Args:
        source: data.train, data.validation or data.test.
        config: how to read it.
        cache: folder of all stores.
        split: "train", "validation" or "test": the default tfds split, and part of the store's name.
        wanted: columns beside texts and targets.
        redaction: what is replaced in texts before they are stored.
        sizes: of the training rows' vectors, by column; where a column has none, that of most of its first vectors.

    Raises:
        UserError: a row that cannot be used (with bad_rows: error), or no usable row at all.
    """
    items = sources.expand(source)
    settings = read_settings(config, wanted, redaction, sizes)
    key = json.dumps([VERSION, [sources.identity(item, config) for item in items], settings, split], sort_keys=True)
    folder = cache / f"{split}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not (folder / "meta.json").is_file():
        with replaced_folder(folder) as temporary:
            _write(items, config, temporary, split, wanted, redaction, sizes)
    return Store(folder)


def read_settings(
    config: DataConfig,
    wanted: Sequence[ExtraColumn],
    redaction: Redaction = NOTHING,
    sizes: Mapping[str, int] = MappingProxyType({}),
) -> dict:
    """What decides how a source is converted; without further columns or redaction, as before there were any."""
    settings = {name: value for name, value in asdict(config).items() if name in READ_SETTINGS}
    settings |= {name: value for name in COLUMN_SETTINGS if (value := getattr(config, name))}
    if config.vector_columns:
        settings["sizes"] = dict(sizes)
    extra = {"extra": [[one.role, one.column] for one in wanted]} if wanted else {}
    return settings | extra | ({"redaction": redaction.metadata() | {"rules": RULES}} if redaction else {})


class _Arrays:
    """Arrays of unknown length, written to disk in pieces and saved as .npy at the end."""

    def __init__(self, folder: Path, dtypes: dict[str, type]):
        self.folder, self.dtypes = folder, dtypes
        self.pending: dict[str, list] = {name: [] for name in dtypes}
        self.files = {name: open(folder / f"{name}.raw", "wb") for name in dtypes}  # noqa: SIM115

    def flush(self) -> None:
        for name, values in self.pending.items():
            self.files[name].write(np.array(values, self.dtypes[name]).tobytes())
            values.clear()

    def close(self) -> None:
        self.flush()
        for name, dtype in self.dtypes.items():
            self.files[name].close()
            path = self.folder / f"{name}.raw"
            count = path.stat().st_size // np.dtype(dtype).itemsize
            # Not through a memory map: where the disk is full, writing to one kills the process (SIGBUS).
            with open(path, "rb") as raw, open(self.folder / f"{name}.npy", "wb") as target:
                header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
                np.lib.format.write_array_header_1_0(target, header | {"shape": (count,)})
                shutil.copyfileobj(raw, target, 1 << 20)
            path.unlink()


class _Writer:
    """Puts rows one after the other into the arrays of a store."""

    def __init__(self, folder: Path, meta: _Meta, reader: TargetReader, extra: ExtraReader):
        self.folder, self.reader, self.extra = folder, reader, extra
        columns, self.texts_of_row = meta.columns, meta.columns - meta.beside
        self.digest = hashlib.sha256()
        self.rows = 0
        self.arrays = _Arrays(
            folder,
            {"hashes": np.uint64, "numbers": np.int64, "origins": np.int32}
            | {f"text{column}": np.int64 for column in range(columns)}
            | {f"{TARGET}{name}": dtype for name, dtype in reader.dtypes.items()}
            | extra.dtypes,
        )
        self.texts = [open(folder / f"text{column}.bin", "wb") for column in range(columns)]  # noqa: SIM115
        self.ends = [0] * columns
        for column in range(columns):
            self.arrays.pending[f"text{column}"].append(0)

    def add(self, cells: list[bytes], target: object, extra: list, place: tuple[int, int]) -> None:
        """A row: what a model reads of it, its target, its further columns, and its line and source."""
        pending, texts = self.arrays.pending, cells[: self.texts_of_row]
        for column, text in enumerate(cells):
            self.texts[column].write(text)
            self.ends[column] += len(text)
            pending[f"text{column}"].append(self.ends[column])
        self.reader.add(target, {name: pending[f"{TARGET}{name}"] for name in self.reader.dtypes})
        hashed = hashlib.blake2b(b"\x1f".join(text.strip() for text in texts), digest_size=8).digest()
        pending["hashes"].append(int.from_bytes(hashed, "little"))
        self.extra.add(extra, pending)
        pending["numbers"].append(place[0])
        pending["origins"].append(place[1])
        self.digest.update(repr((cells, target)).encode())
        self.rows += 1
        if self.rows % 10_000 == 0:
            self.arrays.flush()

    def close(self) -> None:
        """Complete the files."""
        for file in self.texts:
            file.write(b"\0")
            file.close()
        self.arrays.close()


def _write(
    items: list[str],
    config: DataConfig,
    folder: Path,
    split: str,
    wanted: Sequence[ExtraColumn],
    redaction: Redaction,
    sizes: Mapping[str, int],
) -> None:
    kind, count, beside = tasks.kind_of(config), len(config.text_columns), wanted_features(config, sizes)
    columns = [*config.text_columns, *kind.columns(config)]
    targets = slice(count, len(columns))
    # One column may have two uses.
    columns += dict.fromkeys(one.column for one in (*beside, *wanted) if one.column not in columns)
    places, beside_places = ([columns.index(one.column) for one in found] for found in (wanted, beside))
    meta = _Meta(sources=items, columns=count + len(beside), beside=len(beside), format=config.format)
    reader, extra = kind.reader(config), ExtraReader(wanted)
    writer = _Writer(folder, meta, reader, extra)
    beside = [replace(one, size=size) for one, size in zip(beside, _sizes(beside, items, config, split), strict=True)]
    for origin, item in enumerate(items):
        taken = 0
        rows = sources.read(item, config, columns, split, notices=meta.notices)
        for number, cells in redacted_rows(rows, count, redaction):
            if config.max_examples is not None and taken >= config.max_examples:
                break
            try:
                if isinstance(cells, str):
                    raise ValueError(cells)
                texts, target = clean_texts(cells[:count]), reader.read(cells[targets])
                kept = [one.read(cells[place]) for one, place in zip(beside, beside_places, strict=True)]
                others = extra.read([cells[place] for place in places])
            except UserError:
                raise
            except ValueError as error:
                if config.bad_rows == "error":
                    raise sources.bad_row(item, number, config, error) from None
                reason = str(error).partition(":")[0]
                meta.skipped[reason] = meta.skipped.get(reason, 0) + 1
                continue
            taken += 1
            writer.add(texts + kept, target, others, (number, origin))
    writer.close()
    meta.sizes = {one.column: one.size for one in beside if one.size is not None}
    _close(meta, writer, folder)


def _sizes(beside: list[FeatureColumn], items: list[str], config: DataConfig, split: str) -> list[int | None]:
    """How many numbers a vector of each column has: where it is not given, as many as most of its first FIRST_VECTORS,
    so that a single odd one, such as the first, decides nothing; None: it has no vectors."""
    counts = {place: Counter() for place, one in enumerate(beside) if one.kind is Vector and one.size is None}
    if not counts:
        return [one.size for one in beside]
    columns = [*config.text_columns, *dict.fromkeys(one.column for one in beside)]
    places = {place: columns.index(beside[place].column) for place in counts}
    of_items = (islice(sources.read(item, config, columns, split), config.max_examples) for item in items)
    for _, cells in chain.from_iterable(of_items):
        if all(found.total() >= FIRST_VECTORS for found in counts.values()):
            break
        for place, found in counts.items():
            # What is wrong with rows is said when they are stored.
            with suppress(ValueError):
                kept = b"" if isinstance(cells, str) else beside[place].read(cells[places[place]])
                found.update([len(kept.split())] if kept else [])
    usual = {place: found.most_common(1)[0][0] for place, found in counts.items() if found}
    return [usual.get(place, one.size) for place, one in enumerate(beside)]


def _close(meta: _Meta, writer: _Writer, folder: Path) -> None:
    """Write what a store says of itself."""
    items = meta.sources
    if not writer.rows:
        skipped = "".join(f"; {count} rows were skipped: each {reason}" for reason, count in meta.skipped.items())
        raise UserError(f"{', '.join(items)}: there is no row of data{skipped}.")
    try:
        meta.target = writer.reader.summary()
    except UserError as error:
        raise UserError(f"{', '.join(items)}: {error}") from error
    meta.rows, meta.fingerprint, meta.extra = writer.rows, writer.digest.hexdigest(), writer.extra.summary()
    (folder / "meta.json").write_text(json.dumps(asdict(meta), ensure_ascii=False), encoding="utf-8")
