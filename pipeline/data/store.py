"""Rows on disk, memory-mapped: any row at once, whatever the size, at no cost in memory.

A source of any format is converted once into plain arrays beside each other; training, resuming and evaluation
read those. Text is kept as UTF-8 bytes with the place where each begins.
"""

import hashlib
import json
import mmap
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from pipeline.config import DataConfig
from pipeline.data import sources
from pipeline.data.formats import Notices
from pipeline.data.rows import clean
from pipeline.errors import UserError
from pipeline.files import replaced_folder

# Raise it when the same source is converted to something else: stores of earlier versions are then not used again.
VERSION = 3
# More different labels than this are no labels: the wrong column was named.
MOST_LABELS = 100_000
READ_SETTINGS = ("format", "text_columns", "label_column", "label_separator", "column_names", "encoding",
                 "encoding_fallback", "delimiter", "quote", "escape", "bad_rows", "max_examples",
                 "data_dir")  # fmt: skip


@dataclass
class _Meta:
    """What a store says of itself."""

    sources: list[str]
    columns: int
    rows: int = 0
    labels: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    notices: Notices = field(default_factory=Notices)
    format: str | None = None
    fingerprint: str = ""


class Store:
    """Converted rows.

    Attributes:
        meta: counts, label strings, skipped rows, `notices` of reading, and `fingerprint`, a sha256 of all texts and
            labels.
        label_starts: int64 [rows + 1]; labels of row i are label_ids[label_starts[i] : label_starts[i + 1]].
        label_ids: int32, into meta.labels.
        hashes: uint64 [rows], equal for equal texts (white space at the ends aside).
        numbers, origins: int64 and int32 [rows], the line and the source (in meta.sources) of a row.
    """

    def __init__(self, folder: Path):
        self.meta = _Meta(**json.loads((folder / "meta.json").read_text(encoding="utf-8")))
        self.meta.notices = Notices(self.meta.notices)
        self._texts = []
        for column in range(self.meta.columns):
            with open(folder / f"text{column}.bin", "rb") as file:
                # mmap refuses an empty file; the writer puts one byte at its end.
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._texts.append((data, np.load(folder / f"text{column}.npy", mmap_mode="r")))
        for name in ("label_starts", "label_ids", "hashes", "numbers", "origins"):
            setattr(self, name, np.load(folder / f"{name}.npy", mmap_mode="r"))

    def texts(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """One object array of bytes (UTF-8) a text column."""
        columns = []
        for data, starts in self._texts:
            values = np.empty(len(rows), object)
            for i, (start, end) in enumerate(zip(starts[rows].tolist(), starts[rows + 1].tolist(), strict=True)):
                values[i] = data[start:end]
            columns.append(values)
        return tuple(columns)

    def where(self, row: int) -> str:
        """File and line of a row, for messages."""
        return sources.place(self.meta.sources[self.origins[row]], int(self.numbers[row]), self.meta.format)


def convert(source: str | list[str], config: DataConfig, cache: Path, split: str) -> Store:
    """Read a source into the cache, or take what an earlier run has put there.

    Args:
        source: data.train, data.validation or data.test.
        config: how to read it.
        cache: folder of all stores.
        split: "train", "validation" or "test": the default tfds split, and part of the store's name.

    Raises:
        UserError: a row that cannot be used (with bad_rows: error), or no usable row at all.
    """
    items = sources.expand(source)
    settings = {name: value for name, value in asdict(config).items() if name in READ_SETTINGS}
    key = json.dumps([VERSION, [sources.identity(item, config) for item in items], settings, split], sort_keys=True)
    folder = cache / f"{split}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not (folder / "meta.json").is_file():
        with replaced_folder(folder) as temporary:
            _write(items, config, temporary, split)
    return Store(folder)


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
            target = np.lib.format.open_memmap(self.folder / f"{name}.npy", mode="w+", dtype=dtype, shape=(count,))
            if count:
                target[:] = np.memmap(path, dtype=dtype, mode="r", shape=(count,))
            target.flush()
            path.unlink()


def _write(items: list[str], config: DataConfig, folder: Path, split: str) -> None:
    columns = len(config.text_columns)
    meta = _Meta(sources=items, columns=columns, format=config.format)
    wanted = [*config.text_columns, config.label_column]
    ids: dict[str, int] = {}
    digest = hashlib.sha256()
    names = {
        "label_starts": np.int64,
        "label_ids": np.int32,
        "hashes": np.uint64,
        "numbers": np.int64,
        "origins": np.int32,
    }
    arrays = _Arrays(folder, {**names, **{f"text{column}": np.int64 for column in range(columns)}})
    texts = [open(folder / f"text{column}.bin", "wb") for column in range(columns)]  # noqa: SIM115
    ends = [0] * columns
    label_end = 0
    for column in range(columns):
        arrays.pending[f"text{column}"].append(0)
    arrays.pending["label_starts"].append(0)
    for origin, item in enumerate(items):
        taken = 0
        for number, cells in sources.read(item, config, wanted, split, notices=meta.notices):
            if config.max_examples is not None and taken >= config.max_examples:
                break
            row = cells if isinstance(cells, str) else clean(cells, config.label_separator)
            if isinstance(row, str):
                if config.bad_rows == "error":
                    where = sources.place(item, number, config.format)
                    raise UserError(f"{where}: the row {row}; mend it, or set data.bad_rows to skip.")
                reason = row.partition(":")[0]
                meta.skipped[reason] = meta.skipped.get(reason, 0) + 1
                continue
            taken += 1
            strings, labels = row
            for column, text in enumerate(strings):
                texts[column].write(text)
                ends[column] += len(text)
                arrays.pending[f"text{column}"].append(ends[column])
            arrays.pending["label_ids"] += [ids.setdefault(label, len(ids)) for label in labels]
            if len(ids) > MOST_LABELS:
                raise UserError(
                    f"{item}: {config.label_column!r} has more than {MOST_LABELS} different labels; "
                    "is data.label_column the right one?"
                )
            label_end += len(labels)
            arrays.pending["label_starts"].append(label_end)
            joined = b"\x1f".join(text.strip() for text in strings)
            hashed = hashlib.blake2b(joined, digest_size=8).digest()
            arrays.pending["hashes"].append(int.from_bytes(hashed, "little"))
            arrays.pending["numbers"].append(number)
            arrays.pending["origins"].append(origin)
            digest.update(repr((strings, labels)).encode())
            meta.rows += 1
            if meta.rows % 10_000 == 0:
                arrays.flush()
    for file in texts:
        file.write(b"\0")
        file.close()
    arrays.close()
    if not meta.rows:
        skipped = "".join(f"; {count} rows were skipped: each {reason}" for reason, count in meta.skipped.items())
        raise UserError(f"{', '.join(items)}: there is no row of data{skipped}.")
    meta.labels, meta.fingerprint = list(ids), digest.hexdigest()
    (folder / "meta.json").write_text(json.dumps(asdict(meta), ensure_ascii=False), encoding="utf-8")
