"""The processes that train one model together, as the environment describes them. Imports no TensorFlow."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import UserError

# Slurm gives jobs no ports: one above the well-known ones, another for each job so that two can share a node.
FIRST_SLURM_PORT, SLURM_PORTS = 12_000, 20_000


@dataclass(frozen=True)
class Cluster:
    """Workers by index; the first is the chief, which alone writes files.

    Attributes:
        addresses: "host:port" of each.
        index: which of them this process is.
    """

    addresses: tuple[str, ...]
    index: int

    def tf_config(self) -> str:
        """The value of TF_CONFIG for TensorFlow."""
        return json.dumps(
            {"cluster": {"worker": list(self.addresses)}, "task": {"type": "worker", "index": self.index}}
        )

    def name(self, index: int) -> str:
        """Of a worker, for messages."""
        return f"{'the chief' if index == 0 else f'worker {index}'} ({self.addresses[index]})"


def find_cluster(wanted: str, environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The cluster that TF_CONFIG or the variables of a Slurm step describe; None where this process is alone.

    Args:
        wanted: training.strategy.
        environment: of the process.

    Raises:
        UserError: a description that cannot be used, or one that contradicts training.strategy.
    """
    if environment.get("TF_CONFIG"):
        source, cluster = "TF_CONFIG", _of_tf_config(environment["TF_CONFIG"])
    elif int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        source, cluster = "the SLURM_ variables", _of_slurm(environment)
    else:
        source, cluster = "", None
    if cluster and wanted not in ("auto", "multiworker"):
        raise UserError(
            f"training.strategy {wanted} is for one process, but {source} describes {len(cluster.addresses)} workers: "
            "use auto or multiworker."
        )
    if wanted == "multiworker" and not cluster:
        raise UserError(
            "training.strategy multiworker needs a cluster of two workers or more: set TF_CONFIG, start it with srun, "
            "or see python -m pipeline.launch --help."
        )
    return cluster


def _of_tf_config(text: str) -> Cluster | None:
    try:
        config = json.loads(text)
        jobs, task = config.get("cluster") or {}, config.get("task") or {}
        jobs = {job: list(addresses) for job, addresses in jobs.items()}
        job, index = task.get("type"), int(task.get("index", 0))
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(
            'TF_CONFIG is not of the form {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", '
            f'"index": 0}}}}: {error}.'
        ) from error
    if not jobs:
        return None
    other = sorted({*jobs, job} - {"chief", "worker"}, key=str)
    if other:
        raise UserError(
            f"TF_CONFIG has the job {other[0]!r}: all workers train here, so name only workers, and at most one chief "
            "(no parameter server, no evaluator)."
        )
    addresses = [*jobs.get("chief", []), *jobs.get("worker", [])]
    if not 0 <= index < len(jobs.get(job, [])):
        raise UserError(f"TF_CONFIG says that this is {job} {index}, but has {len(jobs.get(job, []))} of these.")
    for address in addresses:
        if not str(address).rpartition(":")[2].isdigit() or addresses.count(address) > 1:
            raise UserError(f"TF_CONFIG has the address {address!r}: give each worker a host:port of its own.")
    if len(jobs.get("chief", [])) > 1:
        raise UserError("TF_CONFIG has several chiefs: name one, or none.")
    place = index + (len(jobs.get("chief", [])) if job == "worker" else 0)
    return Cluster(tuple(addresses), place) if len(addresses) > 1 else None


def _of_slurm(environment: Mapping[str, str]) -> Cluster:
    # SlurmClusterResolver itself asks for nvidia-smi, and sorts hosts as text, so that n10 comes before n9 and ranks
    # go to the wrong hosts; its readers of Slurm's notation are right.
    from tensorflow.python.distribute.cluster_resolver.slurm_cluster_resolver import (
        expand_hostlist,
        expand_tasks_per_node,
    )

    try:
        hosts = expand_hostlist(environment["SLURM_STEP_NODELIST"])
        tasks = expand_tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
        index, count = int(environment["SLURM_PROCID"]), int(environment["SLURM_STEP_NUM_TASKS"])
        port = FIRST_SLURM_PORT + int(environment["SLURM_JOB_ID"]) % SLURM_PORTS
    except (KeyError, ValueError) as error:
        raise UserError(
            f"The SLURM_ variables do not describe a step ({error}): start all workers with srun."
        ) from error
    addresses = [f"{host}:{port + number}" for host, here in zip(hosts, tasks, strict=True) for number in range(here)]
    if len(addresses) != count or not 0 <= index < count:
        raise UserError(
            f"The SLURM_ variables describe {count} tasks, but {len(addresses)} on {', '.join(hosts)}: start all "
            "workers with one srun."
        )
    return Cluster(tuple(addresses), index)
