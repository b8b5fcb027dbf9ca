"""Tokenize a corpus once, in parallel, for any number of epochs of pre-training.

    python -m pipeline.pretraining.prepare --corpus.train 'wiki/*.txt' --vocabulary vocab.txt --output tokens

The files are divided into shards; each worker process writes one shard at a time, and a shard takes its name only when
it is complete. Prepare that is killed goes on, run again, with the shards that are missing. Memory does not grow with
the corpus.

Why tokens, and not TFRecord files of finished examples: such files hold one choice of pairs and masks, and are written
over again for each other choice (google-research/bert writes the corpus ten times, with `dupe_factor`, to have ten
masks); a reader must go through what comes before to be at a place, so that a run that is taken up again starts its
data anew or reads for long; and they take some thirty bytes a token. Memory-mapped tokens take two. Pairs and masks are
made from (seed, epoch) as training goes, new each epoch; any batch is made from its number, so that a run goes on
exactly where it stood, and N workers read N slices of each batch. Training machines read the same folder, or a copy.
"""

import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import UserError
from pipeline.pretraining.tokens import VERSION, TokenCorpus, write_store

# Bytes of files in a shard, where nobody says how many shards there should be.
SHARD_BYTES = 256 << 20

Reader = Callable[..., Iterator[list[str]]]
"""read(files, shard=(i, n)): the i-th of n parts of the documents of some files, each a list of sentences.

Worker processes import it: a function of a module, or a functools.partial of one.
"""


@dataclasses.dataclass(frozen=True)
class Shard:
    """The part of the input that one shard holds: of `files`, the documents of `part` = (i, n)."""

    files: tuple[str, ...]
    part: tuple[int, int] = (0, 1)


@dataclasses.dataclass(frozen=True)
class Tokenization:
    """How tokens are made: path of a vocab.txt, lower-casing, and the name of a word splitter (see word_splitter)."""

    vocabulary: str
    lowercase: bool = True
    splitter: str | None = None


def divide(files: list[str], shards: int | None = None) -> list[Shard]:
    """Files to shards: neighbouring files together where there are more files than shards, else parts of a file.

    It does not depend on the number of workers, so that the prepared corpus does not either.

    Args:
        files: in order.
        shards: about how many; None: one for each SHARD_BYTES.
    """
    sizes = [os.path.getsize(file) if os.path.exists(file) else 0 for file in files]
    each = max(1, sum(sizes) / shards if shards else SHARD_BYTES)
    found: list[Shard] = []
    group: list[str] = []
    grouped = 0
    for file, size in zip(files, sizes, strict=True):
        if group and grouped + size > each:
            found.append(Shard(tuple(group)))
            group, grouped = [], 0
        if size > each:
            parts = round(size / each)
            found += [Shard((file,), (i, parts)) for i in range(parts)]
            continue
        group.append(file)
        grouped += size
    return found + ([Shard(tuple(group))] if group else [])


def prepare(
    shards: list[Shard],
    read: Reader,
    tokenization: Tokenization,
    output: str | os.PathLike,
    workers: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> TokenCorpus:
    """Write the shards that are missing from `output`, and the list of all.

    Args:
        shards: see `divide`.
        read: documents of a shard.
        tokenization: how tokens are made.
        output: folder; shards that an earlier call finished from the same input stay.
        workers: processes; 1: this one.
        progress: is given a line for each finished shard.

    Raises:
        UserError: another process writes there; a worker died; no tokens at all; and what `read` raises.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    names = [f"shard-{i:05}-of-{len(shards):05}" for i in range(len(shards))]
    try:
        with FileLock(output / ".lock", timeout=0):
            keys = [_key(shard, read, tokenization) for shard in shards]
            missing = [i for i, name in enumerate(names) if _stored_key(output / name) != keys[i]]
            (output / "corpus.json").unlink(missing_ok=True) if missing else None
            for old in output.glob("shard-*-of-*"):  # of other divisions
                if old.name not in names:
                    shutil.rmtree(old)
            jobs = [(shards[i], read, tokenization, str(output / names[i]), keys[i]) for i in missing]
            for done, (name, tokens) in enumerate(_run(jobs, workers), 1):
                progress(f"{name}: {tokens:,} tokens ({len(shards) - len(missing) + done} of {len(shards)} shards)")
            temporary = output / ".corpus.json"
            temporary.write_text(json.dumps({"shards": names}), encoding="utf-8")
            os.replace(temporary, output / "corpus.json")
    except Timeout as error:
        raise UserError(f"another process is preparing {output}.") from error
    corpus = TokenCorpus.open(output)
    if not corpus.tokens:
        raise UserError("The corpus has no text: there is nothing to train on.")
    return corpus


def _run(jobs: list[tuple], workers: int) -> Iterator[tuple[str, int]]:
    """Name and tokens of each shard as it is finished."""
    if min(workers, len(jobs)) <= 1:
        yield from (_write_shard(*job) for job in jobs)
        return
    # TensorFlow does not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_worker) as pool:
        try:
            for future in as_completed([pool.submit(_write_shard, *job) for job in jobs]):
                yield future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "A worker process was killed, perhaps for want of memory: run it again, with fewer workers; "
                "finished shards stay."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _worker() -> None:
    """One core, and the end of the process that started it is its own."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _write_shard(shard: Shard, read: Reader, tokenization: Tokenization, folder: str, key: str) -> tuple[str, int]:
    from pipeline.pretraining.tokens import word_splitter
    from pipeline.text import TextEncoder

    splitter = word_splitter(tokenization.splitter)
    encoder = TextEncoder(tokenization.vocabulary, tokenization.lowercase)
    store = write_store(read(list(shard.files), shard=shard.part), encoder, folder, splitter, key)
    return Path(folder).name, store.meta.tokens


def _key(shard: Shard, read: Reader, tokenization: Tokenization) -> str:
    """sha256 of all that decides a shard: its files as they are now, how they are read, and how tokens are made."""
    try:
        vocabulary = Path(tokenization.vocabulary).read_bytes()
    except OSError as error:
        raise UserError(f"{tokenization.vocabulary}: the vocabulary cannot be read ({error.strerror}).") from error
    function, settings = (read.func, (read.args, read.keywords)) if isinstance(read, partial) else (read, ())
    files = []
    for file in shard.files:
        status = os.stat(file) if os.path.exists(file) else None
        files.append((file, status and status.st_size, status and status.st_mtime_ns))
    reader = (function.__module__, function.__qualname__, repr(settings))
    parts = (VERSION, files, shard.part, reader, tokenization.lowercase, tokenization.splitter)
    return hashlib.sha256(repr(parts).encode() + vocabulary).hexdigest()


def _stored_key(folder: Path) -> str | None:
    try:
        return json.loads((folder / "meta.json").read_text(encoding="utf-8"))["key"]
    except (OSError, KeyError, json.JSONDecodeError):
        return None


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, or 2 after one sentence on what is wrong."""
    from jsonargparse import ArgumentParser, set_parsing_settings

    from pipeline.config import CorpusConfig
    from pipeline.data.sources import expand
    from pipeline.pretraining.corpus import documents

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(
        prog="python -m pipeline.pretraining.prepare", description=__doc__.partition("\n")[0], allow_abbrev=False
    )
    parser.add_class_arguments(CorpusConfig, "corpus")
    parser.add_argument("--vocabulary", type=str, required=True, help="vocab.txt")
    parser.add_argument("--lowercase", type=bool, default=True, help="Lower-case and strip accents.")
    parser.add_argument("--splitter", type=str, default=None, help="Words of Chinese text: jieba, or module:function.")
    parser.add_argument("--output", type=str, required=True, help="Folder of the prepared corpus.")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="Processes.")
    parser.add_argument("--shards", type=int, default=None, help="About how many; none: by the size of the files.")
    values = parser.parse_args(arguments)
    try:
        config = CorpusConfig(**values.corpus.as_dict())
        corpus = prepare(
            divide(expand(config.train), values.shards),
            partial(documents, config=config),
            Tokenization(values.vocabulary, values.lowercase, values.splitter),
            values.output,
            values.workers,
            print,
        )
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{corpus.documents:,} documents, {corpus.sentences:,} sentences, {corpus.tokens:,} tokens")
    return 0


if __name__ == "__main__":
    sys.exit(main())
