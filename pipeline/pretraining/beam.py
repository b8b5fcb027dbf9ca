"""The shards of a corpus on Apache Beam, and so on as many machines as its runner has.

What is in a shard follows from its files alone, so that it is the same whoever writes it, in whatever order. A runner
tries again what a lost worker had, and may have a shard written twice at a time: each is written under a name of its
own and renamed, and the first stays.
"""

import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.extras import require
from pipeline.files import write_text
from pipeline.pretraining.prepare import Job, stored_key, write_shard
from pipeline.pretraining.tokens import TokenStore
from pipeline.pretraining.words import WordJob, counts_of
from pipeline.word_counts import WordCounts

beam: Any = require("beam", "apache_beam")


def run(arguments: Sequence[str], jobs: Sequence[Job]) -> Iterator[tuple[str, int]]:
    """Write shards; name and tokens of each, when all are there.

    Args:
        arguments: options of Beam and of its runner.
        jobs: of `prepare`; every worker must see their files and folders under the same paths.
    """
    with _pipeline(arguments) as pipeline:
        spread = pipeline | "shards" >> beam.Create(list(jobs)) | "spread" >> beam.Reshuffle()
        _ = spread | "tokens" >> beam.Map(_write)
    for job in jobs:
        yield Path(job.folder).name, TokenStore(job.folder).meta.tokens


def count(arguments: Sequence[str], jobs: Sequence[WordJob]) -> WordCounts:
    """Count the words of parts: a sum for each word, then those that are kept of all.

    Args:
        arguments: options of Beam and of its runner.
        jobs: as of `run`.
    """
    path = Path(jobs[0].path).with_name("all.json")
    with _pipeline(arguments) as pipeline:
        spread = pipeline | "parts" >> beam.Create(list(jobs)) | "spread" >> beam.Reshuffle()
        words = spread | "words" >> beam.FlatMap(counts_of) | "sums" >> beam.CombinePerKey(sum)
        _ = words | "kept" >> beam.CombineGlobally(_Kept()) | "store" >> beam.Map(partial(_store, path))
    words, first, within, rarest = json.loads(path.read_text(encoding="utf-8"))
    return WordCounts(words, Counter(first), Counter(within), rarest)


class _Kept(beam.CombineFn):
    """WordCounts of words and their counts in the whole corpus."""

    def create_accumulator(self) -> WordCounts:
        return WordCounts()

    def add_input(self, mutable_accumulator: WordCounts, element: tuple[str, int]) -> WordCounts:
        return mutable_accumulator.add([element])

    def merge_accumulators(self, accumulators: Sequence[WordCounts]) -> WordCounts:
        return WordCounts().merge(accumulators)

    def extract_output(self, accumulator: WordCounts) -> WordCounts:
        return accumulator.prune()


def _store(path: Path, counts: WordCounts) -> None:
    write_text(path, json.dumps([counts.words, counts.first, counts.within, counts.rarest]))


def _pipeline(arguments: Sequence[str]) -> Any:
    options = require("beam", "apache_beam.options.pipeline_options").PipelineOptions(list(arguments))
    return beam.Pipeline(options=options)


def _write(job: Job) -> None:
    if stored_key(job.folder) == job.key:
        return
    # What is left of one that was lost is deleted when the corpus is prepared the next time.
    attempt = f"{job.folder}.{uuid.uuid4().hex}"
    write_shard(job._replace(folder=attempt))
    try:
        os.rename(attempt, job.folder)
    except OSError:
        if stored_key(job.folder) != job.key:
            raise
        shutil.rmtree(attempt)
