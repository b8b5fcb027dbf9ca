"""A vocabulary of a corpus of any size: its words are counted in parts, by whatever makes the shards.

The counts of a part are kept until the vocabulary is there, so that counting goes on where it was killed. A part's
words depend on its documents alone, and what is left of them all on their sums: the vocabulary is the same, byte for
byte, whatever counts and in whatever order.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from pipeline.pretraining.prepare import Part, Reader, Tokenization, divided, in_processes, key_of
from pipeline.vocabulary import learn_of
from pipeline.vocabulary_file import save_vocabulary
from pipeline.word_counts import WordCounts, merged_files, read_counts, totals, write_counts
from pipeline.words import WordCounter

FOLDER = "words"


class WordJob(NamedTuple):
    """A part whose words are counted, and the file of the counts."""

    read: Reader
    part: Part
    lowercase: bool
    path: str


Count = Callable[[Sequence[WordJob]], WordCounts]
"""Has parts counted, and gives the counts of all."""


class VocabularyToLearn(NamedTuple):
    """A vocabulary to learn: path of its vocab.txt; the rest as of `pipeline.vocabulary.learn`."""

    path: str
    size: int
    min_count: int
    lowercase: bool


def learn_vocabulary(
    wanted: VocabularyToLearn,
    read: Reader,
    files: list[str],
    folder: str | os.PathLike,
    count: Count,
    shards: int | None = None,
) -> None:
    """Write a vocab.txt, as `pipeline.vocabulary.learn` has it of the same documents.

    Args:
        wanted: what is learned.
        read: documents of files; their paragraphs need not be cut into sentences.
        files: all of the corpus.
        folder: where counts are kept in a folder FOLDER until the vocabulary is written.
        count: `count_here` with a number of workers, or Beam's.
        shards: as of `prepare`.

    Raises:
        UserError: as of `learn`, or what `read` raises.
    """
    kept = Path(folder, FOLDER).absolute()
    kept.mkdir(parents=True, exist_ok=True)
    jobs = []
    for part in divided(files, shards):
        key = key_of(read, part, Tokenization("", wanted.lowercase), b"")
        jobs.append(WordJob(read, part, wanted.lowercase, str(kept / f"{key[:32]}.tsv")))
    learned = learn_of(count(jobs), wanted.size, wanted.min_count, WordCounter(wanted.lowercase).unknown)
    save_vocabulary(learned, wanted.path)
    shutil.rmtree(kept)
    print(f"{wanted.path}: learned {len(learned):,} tokens", flush=True)


def count_here(workers: int, jobs: Sequence[WordJob]) -> WordCounts:
    """Count with processes of this machine."""
    for _ in in_processes(count_words, jobs, workers):
        pass
    return WordCounts().add(merged_files([job.path for job in jobs])).prune()


def count_words(job: WordJob) -> None:
    """Count the words of a part into its file, sorted; one that is there stays."""
    if os.path.exists(job.path):
        return
    documents = job.read(job.part.files, (job.part.index, job.part.count))
    stretches = WordCounter(job.lowercase).count(chain.from_iterable(documents))
    attempt = f"{job.path}.{uuid.uuid4().hex}"
    try:
        with open(attempt, "wb") as file:
            write_counts(totals(stretches), file)
        os.replace(attempt, job.path)
    finally:
        Path(attempt).unlink(missing_ok=True)


def counts_of(job: WordJob) -> Iterator[tuple[str, int]]:
    """The words of a part, counted where they are not yet."""
    count_words(job)
    with open(job.path, "rb") as file:
        yield from read_counts(file)
