"""Which documents of a corpus are left out as near duplicates of others: corpus.deduplicate.

It is found out once, before tokens are made, by processes of this machine whatever the engine, and kept in a file
beside them. A document's signature takes half a KiB of memory: a million of them half a GiB.
"""

import hashlib
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.config import CorpusConfig
from pipeline.data.corpus import LeftOut, files_of, numbered
from pipeline.data.filters import filters_of
from pipeline.data.near_duplicates import ALIKE, BANDS, HASHES, SHINGLE, near_duplicates, signature
from pipeline.files import write_text
from pipeline.pretraining.prepare import Part, divided

FILE = "duplicates.json"


def left_out(config: CorpusConfig, folder: str | os.PathLike, workers: int = 1) -> LeftOut | None:
    """The near duplicates among the documents of `config.train`; None: they are not to be left out.

    Says how many they are. Of documents that are alike the first stays, by the order of the files.

    Args:
        config: of the corpus.
        folder: where it is kept, in a file `FILE`; what was found of the same files is not looked for again.
        workers: processes.
    """
    if not config.deduplicate:
        return None
    files, path = files_of(config.train or []), Path(folder, FILE)
    key = _key(files, config)
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if found.get("key") != key:
        found = {"key": key, **_found(files, config, workers)}
        write_text(path, json.dumps(found))
    count, all_ = sum(map(len, found["files"].values())), found["documents"]
    print(f"{count:,} of {all_:,} documents ({count / max(all_, 1):.1%}) are near duplicates of others: left out.")
    return LeftOut(str(path.absolute()), hashlib.sha256(json.dumps(found["files"]).encode()).hexdigest())


def _found(files: list[str], config: CorpusConfig, workers: int) -> dict:
    """How many documents there are, and the numbers of those left out in each file."""
    parts = divided(files)
    signed = partial(_signatures, replace(config, train=None, validation=None))
    if min(workers, len(parts)) > 1:
        with ProcessPoolExecutor(min(workers, len(parts)), multiprocessing.get_context("spawn")) as pool:
            results = list(pool.map(signed, parts))
    else:
        results = list(map(signed, parts))
    place = {file: number for number, file in enumerate(files)}
    documents = [(place[file], number) for names, _, _ in results for file, number in names]
    signatures = np.concatenate([rows for _, rows, _ in results])
    order = sorted(range(len(documents)), key=documents.__getitem__)
    alike = near_duplicates(signatures[order])
    numbers: dict[str, list[int]] = {}
    for where in np.array(order, int)[alike].tolist():
        file, number = documents[where]
        numbers.setdefault(files[file], []).append(number)
    return {"documents": sum(count for _, _, count in results), "files": numbers}


def _signatures(config: CorpusConfig, part: Part) -> tuple[list[tuple[str, int]], np.ndarray, int]:
    """File and number of each document of a part that has a word, their signatures, and how many there are in all."""
    names, rows, count = [], [np.zeros((0, HASHES), np.uint32)], 0
    for file in part.files:
        for number, paragraphs in numbered(file, config, (part.index, part.count)):
            count += 1
            found = signature("\n".join(paragraphs))
            if found is not None:
                names.append((file, number))
                rows.append(found[None])
    return names, np.concatenate(rows), count


def _key(files: list[str], config: CorpusConfig) -> str:
    stats = [(file, os.stat(file)) for file in files if os.path.exists(file)]
    states = [(file, status.st_size, status.st_mtime_ns) for file, status in stats]
    settings = repr(replace(config, train=None, validation=None))
    decisive = (files, states, settings, SHINGLE, HASHES, BANDS, ALIKE)
    if filters := filters_of(config.languages, config.quality):
        decisive = (*decisive, filters)
    return hashlib.sha256(repr(decisive).encode()).hexdigest()
