"""Ray: as many models at a time as wanted, on the machines of a cluster, a GPU each where it has any.

The command itself cuts the input into parts and holds those that are being answered: memory stays flat. An actor that
dies is started anew by Ray, which gives it its part again.
"""

from typing import Any

from export.batch.answer import answer_in_worker
from export.batch.inputs import Source
from export.batch.job import Job
from export.batch.parts import Part, parts_of
from export.progress import Progress
from pipeline.extras import require


class _Actor:
    """A process with a model."""

    def __init__(self, job: Job):
        self._job = job

    def answer(self, part: Part) -> int:
        """Answer a part; how many rows that are."""
        done: list[int] = []
        answer_in_worker(self._job, part, done.append)
        return sum(done)


def run(job: Job, sources: list[Source], workers: int | None) -> None:
    """Answer what is missing, on the cluster that RAY_ADDRESS names, or on this machine.

    Args:
        job: the batch.
        sources: its files.
        workers: models at a time; None: one a GPU, or one a core where there is none.
    """
    ray: Any = require("ray", "ray")
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    try:
        gpus, cores = (int(ray.cluster_resources().get(kind, 0)) for kind in ("GPU", "CPU"))
        workers = workers or gpus or cores
        actor = ray.remote(max_restarts=-1, max_task_retries=-1, num_cpus=1, num_gpus=min(1, gpus / workers))(_Actor)
        idle, busy, progress = [actor.remote(job) for _ in range(workers)], {}, Progress()
        for source in sources:
            for part in parts_of(job, source):
                if not idle:
                    progress.add(_wait(ray, busy, idle))
                free = idle.pop()
                busy[free.answer.remote(part)] = free
        while busy:
            progress.add(_wait(ray, busy, idle))
        progress.end()
    finally:
        ray.shutdown()


def _wait(ray: Any, busy: dict, idle: list) -> int:
    """Until an actor has answered its part."""
    done = ray.wait(list(busy))[0][0]
    idle.append(busy.pop(done))
    return ray.get(done)
