"""What a batch is: the model, how rows are read and written, and the folder of the answers."""

import argparse
import hashlib
import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from export.answers import prefix_of
from export.batch.inputs import STATE, Source, keep, state_of
from export.texts import Texts
from export.versions import METADATA, read_metadata
from pipeline import remote
from pipeline.errors import UserError
from pipeline.features import Features
from pipeline.files import write_text

JOB = "_job.json"
# How answers are told from one another; other options do not change them.
DECISIVE = ("text_column", "input_format", "encoding", "encoding_fallback", "delimiter", "quote", "escape",
            "column_names", "bad_rows", "top", "part_rows", "format")  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What every process of a batch has to know; it can be pickled.

    Attributes:
        model: folder of one version.
        folder: of the answers.
        options: of the command: how rows are read, `part_rows`, `batch_size`, `top`; `format` is that of the answers.
        columns: of the first file of the input.
        added: names of the answers.
        prefix: what stands before them in the output.
    """

    model: Path
    folder: Path
    options: argparse.Namespace
    columns: tuple[str, ...]
    added: tuple[str, ...]
    prefix: str

    def texts(self, source: Source, within: range | None = None) -> Texts:
        """The rows of a file.

        Raises:
            UserError: it has other columns than the first file, which the format of the answers does not allow.
        """
        texts = open_texts(self.model, self.options, source, within)
        if prefix_of(texts.columns, self.added) != self.prefix:
            raise UserError(f"{source.path} has a column named as an answer is, unlike the first file: rename it.")
        if not self.jsonl and tuple(texts.columns) != self.columns:
            raise UserError(
                f"{source.path} has the columns {', '.join(texts.columns)}, and the first file "
                f"{', '.join(self.columns)}: answer them one by one, or with --format jsonl."
            )
        return texts

    def before(self, columns: list[str], names: Collection[str]) -> str:
        """What stands before the names of the answers' columns."""
        return self.prefix

    @property
    def jsonl(self) -> bool:
        """Whether rows need not have the same columns."""
        return self.options.format.split(".")[0] == "jsonl"

    def path(self, source: Source, number: int) -> Path:
        """The file of the answers of a part."""
        return self.folder / f"{source.name}-{number:06d}.{self.options.format}"


def open_texts(model: Path, options: argparse.Namespace, source: Source, within: range | None = None) -> Texts:
    """The rows of a file, read as export.predict reads them."""
    metadata = read_metadata(model)
    features = Features.from_metadata(metadata)
    given = argparse.Namespace(**{**vars(options), "input": source.local(), "text": None})
    beside = features.wanted("--input")
    return Texts(given, metadata["inputs"], metadata.get("read"), beside=beside, within=within)


@contextmanager
def held(job: Job, sources: list[Source], redo: bool) -> Iterator[None]:
    """The folder of the answers, made where it is missing, for one process at a time.

    Raises:
        UserError: another process works in it; it holds answers of another model or of other options; or a file has
            changed since it was answered, without `redo`.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(job.folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"another process is working in {job.folder}.") from None
    try:
        _claim(job)
        for source in sources:
            _begin(job, source, redo)
        # What killed processes left.
        for partial in job.folder.rglob(".*.partial"):
            partial.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def _claim(job: Job) -> None:
    """Write what the answers follow from, or see that it is what the folder's answers follow from."""
    options = {name: value for name, value in vars(job.options).items() if name in DECISIVE}
    now: dict[str, Any] = {"model": _digest(job.model), "options": options, "prefix": job.prefix}
    path = job.folder / JOB
    if not path.is_file():
        write_text(path, json.dumps({**now, "version": str(job.model)}, indent=1))
        return
    then = json.loads(path.read_text(encoding="utf-8"))
    advice = "give another --output, or delete it"
    if then["model"] != now["model"] and then["version"] == str(job.model):
        raise UserError(f"{job.folder} was begun by another version of {job.model}, or of this program: {advice}.")
    if then["model"] != now["model"]:
        raise UserError(f"{job.folder} holds answers of another model, {then['version']}: {advice}.")
    for name, value in options.items():
        if then["options"].get(name) != value:
            raise UserError(f"{job.folder} holds answers with --{name} {then['options'].get(name)}: {advice}.")
    if then["prefix"] != now["prefix"]:
        raise UserError(f"{job.folder} holds answers under other names of columns: {advice}.")


def _begin(job: Job, source: Source, redo: bool) -> None:
    """See that what was answered of a file was answered of this file."""
    state = state_of(job.folder, source)
    if state is not None and not state.is_of(source):
        if not redo:
            raise UserError(
                f"{source.path} has changed since it was answered in {job.folder}: --redo answers it again."
            )
        _forget(job, source)
        state = None
    if state is None:
        keep(job.folder, source)


def _forget(job: Job, source: Source) -> None:
    """Delete what was answered of a file as it was."""
    for folder, end in ((job.folder, job.options.format), (job.folder / STATE, "notices.json")):
        for file in (folder / source.name).parent.glob("*"):
            if _is_of_part(file.relative_to(folder).as_posix(), source, end):
                file.unlink()


def _is_of_part(place: str, source: Source, end: str) -> bool:
    """Whether a path below the folder of the answers is that of a part of a file."""
    return re.fullmatch(rf"{re.escape(source.name)}-\d{{6,}}\.{re.escape(end)}", place) is not None


def upload(job: Job, sources: list[Source], parts: list[Path], address: str) -> None:
    """Copy the answers to an address, without parts of the same files that were there before and are none any more.

    Raises:
        UserError: it cannot be written to.
    """
    whole = {path.relative_to(job.folder).as_posix() for path in parts}

    def outdated(place: str) -> bool:
        return place not in whole and any(_is_of_part(place, source, job.options.format) for source in sources)

    remote.remove(address, outdated)
    remote.upload(parts, job.folder, address)


def _digest(model: Path) -> str:
    """Of all that the answers follow from: the SavedModel and its metadata. What else is kept beside them, such as a
    reference for export.monitor, may come and go."""
    beside, found = model / METADATA.parent, hashlib.sha256()
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        if path.is_relative_to(beside) and path != model / METADATA:
            continue
        found.update(f"{path.relative_to(model)} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()
