"""The shards of a corpus on Apache Beam, and so on as many machines as its runner has.

What is in a shard follows from its files alone, so that it is the same whoever writes it, in whatever order. A runner
tries again what a lost worker had, and may have a shard written twice at a time: each is written under a name of its
own and renamed, and the first stays.
"""

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.extras import require
from pipeline.pretraining.prepare import Job, stored_key, write_shard
from pipeline.pretraining.tokens import TokenStore


def run(arguments: Sequence[str], jobs: Sequence[Job]) -> Iterator[tuple[str, int]]:
    """Write shards; name and tokens of each, when all are there.

    Args:
        arguments: options of Beam and of its runner.
        jobs: of `prepare`; every worker must see their files and folders under the same paths.
    """
    beam = require("beam", "apache_beam")
    options = require("beam", "apache_beam.options.pipeline_options").PipelineOptions(list(arguments))
    with beam.Pipeline(options=options) as pipeline:
        spread = pipeline | "shards" >> beam.Create(list(jobs)) | "spread" >> beam.Reshuffle()
        _ = spread | "tokens" >> beam.Map(_write)
    for job in jobs:
        yield Path(job.folder).name, TokenStore(job.folder).meta.tokens


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
