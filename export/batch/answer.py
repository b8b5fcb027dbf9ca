"""A part of the input answered: what every engine does, in processes of its own."""

import functools
import json
import os
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from export.answered import Asking, Input, answered, store
from export.batch.inputs import STATE
from export.batch.job import Job
from export.batch.parts import Part
from pipeline.data.formats import Notices, whole_file
from pipeline.files import write_text
from pipeline.frozen_weights import assume_frozen

_LOADING = threading.Lock()


def answer(job: Job, part: Part, progress: Callable[[int], Any] = lambda rows: None, calls: int | None = None) -> None:
    """Answer the rows of a part into its file, which is there whole or not at all.

    It may be done any number of times, also at the same time by several processes: the file is the same.

    Args:
        job: the batch.
        part: of a file.
        progress: called with the number of rows of each window that is answered.
        calls: forward passes at once; None: as many as keep the processor busy.

    Raises:
        ValueError: the file, or a row of it, cannot be used, or has changed since the batch began.
    """
    path = job.path(part.source, part.number)
    if path.exists():
        return
    texts = None if part.within is None else job.texts(part.source, part.within)
    rows, known = (part.rows, part) if texts is None else (texts, texts)
    asking = Asking(job.options.batch_size, job.options.top, calls, columns=known.columns)
    windows = answered(_classifier(str(job.model)), rows, asking)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, f".{uuid.uuid4().hex}") as file:
        form = job.options.format.split(".")[0]
        # Its parts have the same columns, whichever of them a late column comes in.
        early = part.early if texts is None else len(texts.columns)
        for count in store(windows, Input(known.columns, known.types, early), form, file, job.before):
            progress(count)
        part.source.check()
        _keep_notices(job, part, known.notices)


def answer_in_worker(
    job: Job, part: Part, progress: Callable[[int], Any] = lambda rows: None, calls: int | None = 1
) -> None:
    """The same in a process of an engine, which never trains: what is set here would make training take outdated
    weights (see export.loading.Classifier), also in processes that it starts. An engine keeps the processor busy by its
    processes: each makes one call at a time, unless told."""
    assume_frozen()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    answer(job, part, progress, calls)


def kept_notices(job: Job) -> list[str]:
    """What was met in all parts that are answered, as sentences."""
    found = Notices()
    for path in sorted((job.folder / STATE).rglob("*.json")):
        for what, (count, place) in (json.loads(path.read_text(encoding="utf-8")).get("notices") or {}).items():
            found[what] = [found.get(what, [0, place])[0] + count, found.get(what, [0, place])[1]]
    return found.sentences()


def _keep_notices(job: Job, part: Part, notices: dict) -> None:
    if notices:
        path = job.folder / STATE / f"{part.source.name}-{part.number:06d}.notices.json"
        write_text(path, json.dumps({"notices": notices}))


def _classifier(version: str) -> Any:
    """The model, loaded once a process, whatever threads the engine has."""
    with _LOADING:
        return _load(version)


@functools.lru_cache(1)
def _load(version: str) -> Any:
    from export.loading import Classifier

    return Classifier(Path(version))
