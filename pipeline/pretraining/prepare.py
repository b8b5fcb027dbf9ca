"""Tokenize a corpus once, in parallel, for any number of epochs of pre-training.

    python -m pipeline.pretraining.prepare --corpus.train 'wiki/*.txt' --vocabulary vocab.txt --output tokens
    python -m pipeline.pretraining.prepare --corpus.train 'wiki/*.txt' --vocabulary vocab.txt --output tokens \\
        --vocabulary_size 30522 --engine beam -- --runner FlinkRunner --flink_master host:8081

The corpus is divided into shards; each worker process writes one at a time, and a shard takes its name only when it is
complete. Run again after it was killed, or after files were added, changed or taken away, it writes only the shards
that are missing: which files are in one does not depend on the others. Memory does not grow with the corpus.

Why tokens, and not TFRecord files of finished examples: such files hold one choice of pairs and masks, and are written
over again for each other choice (google-research/bert writes the corpus ten times, with `dupe_factor`, to have ten
masks); a reader must read everything before a position to reach it, so that a resumed run restarts its data or reads
for long; and they take some thirty bytes a token. Memory-mapped tokens take two. Pairs and masks are made from (seed,
epoch) during training, new each epoch; any batch is made from its number, so that a run resumes exactly where it
stopped, and N workers read N slices of each batch. Training machines read the same folder, or a copy.
"""

import dataclasses
import hashlib
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from filelock import FileLock, Timeout

from pipeline.cores import cores
from pipeline.errors import UserError
from pipeline.files import full_disk, named_in_errors, write_text
from pipeline.pretraining.tokens import LEFT_OUT, VERSION, TokenCorpus, word_splitter, write_store
from pipeline.tokenizer_rules import BERT_RULES, TokenizerRules

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from pipeline.config import CorpusConfig

# Smaller files are put together into at most so many shards; a larger one is cut into a few.
MOST_TOGETHER, PIECES = 256, 4
# Bytes of a large file, and of a corpus that is one shard: done by the time that worker processes would have started.
LARGE = 32 << 20

Reader = Callable[..., Iterator[list[str]]]
"""read(files, (i, n), met=Counter()): of each file every n-th document from the i-th; documents are lists of sentences.
Those that are left out are counted in `met`, by the name of what leaves them out.

Worker processes import it: a function of a module, or a functools.partial of one.
"""


@dataclasses.dataclass(frozen=True)
class Part:
    """What one shard holds: of the documents of files every count-th, from the index-th."""

    files: tuple[str, ...]
    index: int = 0
    count: int = 1


@dataclasses.dataclass(frozen=True)
class Tokenization:
    """How tokens are made: path of a vocab.txt, lower-casing, the name of a word splitter (see word_splitter), and what
    else decides them."""

    vocabulary: str
    lowercase: bool = True
    splitter: str | None = None
    rules: TokenizerRules = BERT_RULES


class Job(NamedTuple):
    """A shard to write: which documents, how, and its folder with what is remembered there of all that decides it."""

    read: Reader
    part: Part
    tokenization: Tokenization
    folder: str
    key: str


Result = TypeVar("Result")

Engine = Callable[[Sequence[Job]], Iterator[tuple[str, int]]]
"""Has shards written, and gives name and number of tokens of each that is there."""


def prepare(
    read: Reader,
    files: list[str],
    tokenization: Tokenization,
    output: str | os.PathLike,
    *,
    shards: int | None = None,
    workers: int = 1,
    progress: Callable[[str], None] = lambda line: None,
    engine: Engine | None = None,
) -> TokenCorpus:
    """Write the shards that are missing from `output`, and the list of all.

    Args:
        read: documents of files.
        files: all of the corpus.
        tokenization: how tokens are made.
        output: folder; shards that an earlier call finished from the same files stay.
        shards: about how many; None: one for a small corpus, else by the sizes of the files. It is not taken from
            `workers`, so that the prepared corpus is the same whatever their number.
        workers: processes; 1: this one.
        progress: is given a line for each finished shard.
        engine: writes the shards, the same whichever it is; None: `workers`.

    Raises:
        UserError: another process writes there; a worker died; and what `read` raises.
    """
    output, write = Path(output), engine or partial(in_processes, write_shard, workers=workers)
    with named_in_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    parts = divided(files, shards)
    vocabulary = _vocabulary_bytes(tokenization)
    keys = [key_of(read, part, tokenization, vocabulary) for part in parts]
    names = [f"shard-{key[:16]}" for key in keys]
    try:
        with named_in_errors(output), FileLock(output / ".lock", timeout=0):
            missing = [i for i, name in enumerate(names) if stored_key(output / name) != keys[i]]
            if missing:
                (output / "corpus.json").unlink(missing_ok=True)
            # Of files that are no more as they were, or left by a killed process.
            for old in [*output.glob("shard-*"), *output.glob(".shard-*")]:
                if old.name not in names:
                    shutil.rmtree(old)
            jobs = [Job(read, parts[i], tokenization, str((output / names[i]).absolute()), keys[i]) for i in missing]
            for done, (name, tokens) in enumerate(write(jobs), 1):
                progress(f"{name}: {tokens:,} tokens ({len(names) - len(missing) + done} of {len(names)} shards)")
            write_text(output / "corpus.json", json.dumps({"shards": names}))
            corpus = TokenCorpus.open(output)
            if corpus.left_out:
                write_text(output / LEFT_OUT, json.dumps(corpus.left_out))
            else:
                (output / LEFT_OUT).unlink(missing_ok=True)
    except Timeout as error:
        raise UserError(f"another process is preparing {output}.") from error
    return corpus


def described(corpus: TokenCorpus) -> str:
    """What there is of a corpus, and what was left out, by rule."""
    left = ", ".join(f"{count:,} by {rule}" for rule, count in corpus.left_out.most_common())
    counts = f"{corpus.documents:,} documents, {corpus.sentences:,} sentences, {corpus.tokens:,} tokens"
    return f"{counts}; left out: {left}" if left else counts


def divided(files: Sequence[str], shards: int | None = None) -> list[Part]:
    """The shards of a corpus, so that a file that is added, changed or taken away changes only its own.

    A file is put together with others by its name, or cut by its size, neither of which depends on other files.

    Args:
        files: paths, and names of what is no file, such as tfds:, which is taken to be large.
        shards: at most so many of files put together; where there are fewer files, each is cut so that there are at
            least so many. None: by size.
    """
    sizes = {file: os.path.getsize(file) if os.path.isfile(file) else LARGE for file in files}
    if shards is None and sum(sizes.values()) < LARGE:
        return [Part(tuple(files))]
    groups: dict[str | int, list[str]] = {}
    for file in files:
        number = int.from_bytes(hashlib.sha256(file.encode("utf-8", "surrogateescape")).digest()[:8], "little")
        cut = len(files) < shards if shards else sizes[file] >= LARGE
        groups.setdefault(file if cut else number % (shards or MOST_TOGETHER), []).append(file)
    pieces = -(-shards // len(files)) if shards else PIECES
    return [
        Part(tuple(group), index, count)
        for place, group in groups.items()
        for count in [pieces if isinstance(place, str) else 1]
        for index in range(count)
    ]


def in_processes(do: Callable[[Any], Result], jobs: Sequence[Any], workers: int) -> Iterator[Result]:
    """What is done of each job, as it is finished.

    Args:
        do: a function of a module, which worker processes import.
        jobs: which can be pickled.
        workers: processes; 1: this one.
    """
    if min(workers, len(jobs)) <= 1:
        yield from map(do, jobs)
        return
    # TensorFlow does not survive a fork.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_worker) as pool:
        try:
            with _interrupts_held():
                futures = [pool.submit(do, job) for job in jobs]
            for future in as_completed(futures):
                yield future.result()
        except KeyboardInterrupt:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise
        except BrokenProcessPool as error:
            raise UserError(
                "A worker process was killed, perhaps out of memory: run it again, with fewer workers; "
                "what is finished stays."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A context whose child processes never hear of Ctrl-C, which their parent answers; it hears of it at the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _worker() -> None:
    """Use one core, and exit when the process that started this one does."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def write_shard(job: Job) -> tuple[str, int]:
    """Name and number of tokens of a shard, which takes its name when it is complete."""
    from pipeline.text import TextEncoder

    part, tokenization = job.part, job.tokenization
    splitter = word_splitter(tokenization.splitter)
    encoder = TextEncoder(tokenization.vocabulary, tokenization.lowercase, rules=tokenization.rules)
    met: Counter[str] = Counter()
    documents = job.read(part.files, (part.index, part.count), met=met)
    store = write_store(documents, encoder, job.folder, splitter, job.key, met)
    return Path(job.folder).name, store.meta.tokens


def _vocabulary_bytes(tokenization: Tokenization) -> bytes:
    try:
        return Path(tokenization.vocabulary).read_bytes()
    except OSError as error:
        raise UserError(f"{tokenization.vocabulary}: the vocabulary cannot be read ({error.strerror}).") from error


def key_of(read: Reader, part: Part, tokenization: Tokenization, vocabulary: bytes) -> str:
    """sha256 of all that decides a shard: its files as they are now, how they are read, and how tokens are made."""
    states = []
    for file in part.files:
        status = os.stat(file) if os.path.exists(file) else None  # tfds: names are no files
        states.append((file, status and status.st_size, status and status.st_mtime_ns))
    function, settings = (read.func, (read.args, read.keywords)) if isinstance(read, partial) else (read, ())
    reader = (function.__module__, function.__qualname__, settings)
    parts = (VERSION, states, part.index, part.count, reader, tokenization.lowercase, tokenization.splitter)
    if tokenization.rules != BERT_RULES:
        parts = (*parts, tokenization.rules)
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape") + vocabulary).hexdigest()


def stored_key(folder: str | os.PathLike) -> str | None:
    """The key of a complete shard; None where there is none."""
    try:
        return json.loads(Path(folder, "meta.json").read_text(encoding="utf-8"))["key"]
    except (OSError, KeyError, json.JSONDecodeError):
        return None


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, or 2 after one sentence on what is wrong."""
    arguments = sys.argv[1:] if arguments is None else arguments
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    values = _parser().parse_args(arguments[:cut])
    try:
        _prepare(values, arguments[cut + 1 :])
    except (UserError, OSError) as error:
        print(f"error: {full_disk(error, values.output) or error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> "ArgumentParser":
    from jsonargparse import ArgumentParser, set_parsing_settings

    from pipeline.config import CorpusConfig

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(
        prog="python -m pipeline.pretraining.prepare",
        description="Tokenize a corpus once, for any number of epochs of pre-training.",
        allow_abbrev=False,
    )
    parser.add_class_arguments(CorpusConfig, "corpus")
    parser.add_argument("--vocabulary", type=str, required=True, help="vocab.txt")
    parser.add_argument("--vocabulary_size", type=int, default=None, help="Tokens of a vocabulary to learn from the "
                        "training documents, where --vocabulary is not there yet.")  # fmt: skip
    parser.add_argument("--vocabulary_min_count", type=int, default=2, help="How often a character or a pair of tokens "
                        "must occur for it.")  # fmt: skip
    parser.add_argument("--lowercase", type=bool, default=True, help="Lower-case and strip accents.")
    parser.add_argument("--splitter", type=str, default=None, help="Words of Chinese text: jieba, or module:function.")
    parser.add_argument("--output", type=str, required=True, help="Folder for train/ and validation/.")
    parser.add_argument("--workers", type=int, default=cores(), help="Processes.")
    parser.add_argument("--engine", choices=("local", "beam"), default="local", help="What counts words and writes "
                        "shards: this machine's processes, or Apache Beam, whose options stand behind --.")  # fmt: skip
    parser.add_argument("--shards", type=int, default=None, help="Parts of the corpus; none: by its size and files.")
    return parser


def _prepare(values: "Namespace", more: list[str]) -> None:
    """What the command does; `more` are Beam's options."""
    # They need what is defined here.
    from pipeline.config import CorpusConfig
    from pipeline.data.corpus import reader
    from pipeline.pretraining import words
    from pipeline.pretraining.duplicates import left_out
    from pipeline.settings.read import settle

    config = CorpusConfig(**values.corpus.as_dict())
    write, count = None, partial(words.count_here, values.workers)
    if values.engine == "beam":
        beam = importlib.import_module("pipeline.pretraining.beam")
        write, count = partial(beam.run, more), partial(beam.count, more)
    settle(config, "corpus")
    if os.path.exists(values.vocabulary):
        # Left by a command that was killed between the two.
        shutil.rmtree(Path(values.output, words.FOLDER), ignore_errors=True)
    elif values.vocabulary_size:
        files, read = reader(config, "train")
        wanted = words.VocabularyToLearn(
            values.vocabulary, values.vocabulary_size, values.vocabulary_min_count, values.lowercase
        )
        words.learn_vocabulary(wanted, partial(read, split=False), files, values.output, count, values.shards)
    skipped = left_out(config, values.output, values.workers)
    tokenization = Tokenization(values.vocabulary, values.lowercase, values.splitter)
    settings = {"shards": values.shards, "workers": values.workers, "progress": print, "engine": write}
    corpora = {}
    for name in ("train", "validation"):
        files, read = reader(config, name, skipped)
        folder = Path(values.output, name)
        corpus = corpora[name] = prepare(read, files, tokenization, folder, **settings)
        print(f"{folder}: {described(corpus)}")
    warn_of_empty(config, **corpora)


def warn_of_empty(config: "CorpusConfig", train: TokenCorpus, validation: TokenCorpus | None) -> None:
    """Refuse a corpus without tokens to train on, and say where none are held out.

    Args:
        config: of the corpus.
        train, validation: as prepared; None: nothing was to be held out.

    Raises:
        UserError: there is nothing to train on.
    """
    from pipeline.data.corpus import no_documents, reader

    if not train.tokens:
        raise no_documents(reader(config, "train")[0], config)
    if validation and validation.tokens:
        return
    if config.validation:
        why = "corpus.validation has no text"
    elif config.validation_fraction:
        why = (
            f"none of {train.documents:,} documents fell to corpus.validation_fraction {config.validation_fraction}; "
            "raise it, or name corpus.validation"
        )
    else:
        why = "corpus.validation_fraction is 0"
    print(f"warning: nothing is held out to score pre-training with: {why}.", file=sys.stderr)


if __name__ == "__main__":
    from pipeline.entry import run_command

    # What is sent to other machines is of this module, not of __main__, which is another there.
    run_command(importlib.import_module("pipeline.pretraining.prepare").main)
