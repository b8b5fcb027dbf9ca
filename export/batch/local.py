"""The engine of one machine: several processes, each with a model of its own."""

import os
from collections import Counter
from multiprocessing.connection import wait
from typing import Any, cast

from export.batch.inputs import Source
from export.batch.job import Job
from export.batch.parts import Part, parts_of
from export.batch.worker import Worker, taken_back
from export.progress import Progress
from pipeline.cores import cores
from pipeline.quiet import GPU


def run(job: Job, sources: list[Source], workers: int | None) -> None:
    """Answer what is missing; a process that dies is replaced, and its part answered again.

    Args:
        job: the batch.
        sources: its files.
        workers: processes; None: one a core, or one where there is a GPU, which each would want for itself.
    """
    workers = workers or (1 if os.path.exists(GPU) else cores())
    threads = max(1, cores() // workers)
    parts = (part for source in sources for part in parts_of(job, source))
    lost: list[Part] = []
    crew: list[Worker] = []
    deaths, progress = Counter(), Progress()
    try:
        while True:
            idle = [worker for worker in crew if worker.part is None]
            while (idle or len(crew) < workers) and (part := lost.pop() if lost else next(parts, None)):
                if not idle:
                    crew.append(Worker(job, threads))
                (idle.pop() if idle else crew[-1]).give(part)
            busy = {worker.connection: worker for worker in crew if worker.part}
            if not busy:
                break
            for connection in wait(list(busy)):
                worker = busy[cast(Any, connection)]
                try:
                    progress.add(worker.hear())
                except EOFError:
                    crew.remove(worker)
                    progress.add(-worker.rows)
                    lost.append(taken_back(worker, deaths))
    finally:
        for worker in crew:
            worker.end()
    progress.end()
