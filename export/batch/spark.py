"""Spark: a part is an element of an RDD, and whatever Spark retries or runs twice finds the part's file there.

A machine of its own (--master local[2,4]) retries only with a second number in the brackets: how often a task may fail.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from export.batch.answer import answer_in_worker
from export.batch.inputs import Source
from export.batch.job import Job
from export.batch.parts import Part, parts_of
from pipeline.extras import require


def run(job: Job, sources: list[Source], arguments: list[str]) -> None:
    """Answer what is missing. A Python process of Spark's loads the model for the first part that it gets, and stays.

    Args:
        job: the batch.
        sources: its files; each is cut into parts by one task.
        arguments: options of spark-submit.
    """
    pyspark: Any = require("spark", "pyspark")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ["PYSPARK_SUBMIT_ARGS"] = shlex.join([*arguments, "pyspark-shell"])
    context = pyspark.SparkContext.getOrCreate()
    try:
        files = context.parallelize(list(enumerate(sources)), len(sources))
        parts = files.flatMap(partial(_numbered, job))
        # Without it a file's parts would all be answered by the task that cuts it.
        spread = parts.partitionBy(8 * context.defaultParallelism, int)
        spread.values().foreach(partial(answer_in_worker, job))
    finally:
        context.stop()


def _numbered(job: Job, numbered: tuple[int, Source]) -> Iterator[tuple[int, Part]]:
    """The parts of a file, with numbers that tell them from those of its neighbours."""
    return ((numbered[0] + part.number, part) for part in parts_of(job, numbered[1]))
