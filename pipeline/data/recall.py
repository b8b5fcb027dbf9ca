"""Rows that a run has stored, for when their source has moved, changed or vanished since.

`manifest.json` beside the stores says which store each split came from, and the settings that it was read with.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from pipeline.config import DataConfig
from pipeline.data import sources
from pipeline.data.extra_columns import ExtraColumn
from pipeline.data.store import VERSION, Store, convert, read_settings
from pipeline.errors import UserError
from pipeline.features.columns import Vector, wanted_features
from pipeline.files import write_text
from pipeline.redaction.kinds import NOTHING, Redaction

MANIFEST = "manifest.json"
# Rows in memory.
AT_ONCE = 10_000


def convert_or_recall(
    source: str | list[str],
    config: DataConfig,
    cache: Path,
    split: str,
    begun: bool,
    wanted: Sequence[ExtraColumn] = (),
    redaction: Redaction = NOTHING,
    sizes: Mapping[str, int] = MappingProxyType({}),
) -> tuple[Store, bool]:
    """`convert`, or the rows that the run has stored where the source cannot be found any more.

    Args:
        source, config, cache, split, wanted, redaction, sizes: as `convert` takes them.
        begun: whether a model has learned from the rows in `cache` already: then no other rows take their place.

    Returns:
        The rows, and whether their source could not be found.

    Raises:
        UserError: what `convert` says; the rows are others than the run began with.
    """
    manifest = _read(cache)
    settings = read_settings(config, wanted, redaction, sizes)
    settings.pop("data_dir")
    # Runs that began before sizes of vectors were compared say nothing of them.
    unsized = {name: value for name, value in settings.items() if name != "sizes"}
    before = manifest.get(split)
    if before and (before["version"] != VERSION or before["settings"] not in (settings, unsized)):
        before = None
    try:
        # Once: to list a bucket takes requests.
        items = sources.expand(source)
    except UserError:
        if before is None or not (cache / before["store"] / "meta.json").is_file():
            raise
        store = Store(cache / before["store"])
        if before["settings"] != settings:
            if (found := _sizes_in(store, config, sizes)) is None:
                raise
            store.meta.sizes = found
        return store, True
    store = convert(items, config, cache, split, wanted, redaction, sizes)
    same = before and before["settings"] == settings
    if begun and before and same and before["fingerprint"] != store.meta.fingerprint:
        raise UserError(
            f"{', '.join(store.meta.sources)}: the data changed since this run began ({before['rows']} {split} rows "
            f"then, {store.meta.rows} now): bring the old file back, or use another run_dir to start anew."
        )
    entry = {
        "store": store.folder.name,
        "source": source,
        "version": VERSION,
        "settings": settings,
        "rows": store.meta.rows,
        "fingerprint": store.meta.fingerprint,
    }
    if entry != manifest.get(split):
        write_text(cache / MANIFEST, json.dumps(manifest | {split: entry}, indent=1, ensure_ascii=False))
    return store, False


def _sizes_in(store: Store, config: DataConfig, sizes: Mapping[str, int]) -> dict[str, int] | None:
    """How many numbers the vectors of a column have; None: some are of another size than others, or than in `sizes`."""
    beside = wanted_features(config, sizes)
    found = {one.column: {one.size} if one.size else set() for one in beside if one.kind is Vector}
    for start in range(0, store.meta.rows, AT_ONCE):
        cells = store.cells(np.arange(start, min(start + AT_ONCE, store.meta.rows)))
        for one, column in zip(beside, cells[-len(beside) :], strict=True):
            if one.kind is Vector:
                found[one.column].update(len(cell.split()) for cell in column if cell)
    if any(len(several) > 1 for several in found.values()):
        return None
    return {column: several.pop() for column, several in found.items() if several}


def _read(cache: Path) -> dict:
    """The manifest; empty where there is none."""
    path = cache / MANIFEST
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
