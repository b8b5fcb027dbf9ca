"""Start `pipeline.run` on several machines: a job for Slurm or Kubernetes, or a local cluster of processes.

    python -m pipeline.launch local --workers 2 -- --config trec             on this machine, to try it
    python -m pipeline.launch slurm --nodes 4 --gpus 8 -- --config bert_base > job.sh && sbatch job.sh
    python -m pipeline.launch kubernetes --workers 4 --gpus 8 --image IMAGE --claim PVC -- --config bert_base > job.yaml

What follows `--` is for pipeline.run. Anything else that sets TF_CONFIG and starts one process a machine does as well.
A worker that is lost (69) or preempted (75) ends all others; all are restarted and resume where they stopped.

With --search it is for pipeline.search: the workers share trials, not batches, each on one GPU, in a folder that all
see.
"""

import argparse
import json
import os
import shlex
import signal
import socket
import subprocess
import sys

import yaml

from pipeline.errors import TRY_AGAIN, WORKER_LOST

# Exit statuses of pipeline.run after which the same command resumes it: a lost worker, preemption, a worker that was
# lost before TensorFlow had connected it to the others (SIGALRM).
RESUMABLE = (WORKER_LOST, TRY_AGAIN, 128 + signal.SIGALRM)
PORT = 12_345


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    here = arguments.index("--") if "--" in arguments else len(arguments)
    options = _parser().parse_args(arguments[:here])
    command = arguments[here + 1 :]
    if options.kind == "local":
        return run_local(options.workers, command, program=("-m", module(options)))
    print(slurm(options, command) if options.kind == "slurm" else kubernetes(options, command), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.launch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    local = kinds.add_parser("local", help="processes on this machine")
    local.add_argument("--workers", type=_count, default=2)
    jobs = {"slurm": kinds.add_parser("slurm", help="prints a script for sbatch")}
    jobs["slurm"].add_argument("--nodes", type=_count, default=2, help="one worker each")
    jobs["slurm"].add_argument("--time", default="24:00:00", help="limit; the state is saved two minutes before")
    jobs["kubernetes"] = kinds.add_parser("kubernetes", help="prints a Service and an Indexed Job")
    jobs["kubernetes"].add_argument("--workers", type=_count, default=2, help="pods")
    jobs["kubernetes"].add_argument("--image", required=True, help="with this package and tensorflow[and-cuda]")
    jobs["kubernetes"].add_argument("--claim", required=True, help="PersistentVolumeClaim (ReadWriteMany) for runs/")
    for kind in (local, *jobs.values()):
        kind.add_argument("--search", action="store_true", help="workers of pipeline.search, with trials of their own")
    for job in jobs.values():
        job.add_argument("--name", default="bert")
        job.add_argument("--gpus", type=int, default=8, help="of each machine")
        job.add_argument("--cpus", type=_count, default=16, help="of each machine")
    return parser


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)


def module(options: argparse.Namespace) -> str:
    """What the workers run."""
    return "pipeline.search" if options.search else "pipeline.run"


def command_of(options: argparse.Namespace, command: list[str]) -> list[str]:
    """The command of a worker of a job."""
    together = [] if options.search else ["--training.strategy", "multiworker"]
    return ["python", "-m", module(options), *command, *together]


def run_local(
    workers: int,
    command: list[str],
    environment: dict[str, str] | None = None,
    program: tuple[str, ...] = ("-m", "pipeline.run"),
) -> int:
    """Run `pipeline.run` as a cluster of processes, until all have ended.

    SIGTERM is passed on to them, and Ctrl-C as SIGTERM, for a terminal sends it to them as well; the second ends all.

    Args:
        workers: processes.
        command: arguments of pipeline.run.
        environment: more variables for them.
        program: what Python runs in its place.

    Returns:
        See `worst`; 130 where Ctrl-C came before all could save their state.
    """
    processes = start_local(workers, command, environment, program)
    interrupts = 0

    def stop(number, frame):
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        for process in processes:
            process.kill() if interrupts > 1 else process.terminate()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        statuses = [process.wait() for process in processes]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for process in processes:
            process.kill()
    if interrupts and set(statuses) - {0, TRY_AGAIN}:
        return 128 + signal.SIGINT
    return worst(statuses)


def worst(statuses: list[int]) -> int:
    """The status that explains why a cluster ended: of workers that only lost the others (69, SIGALRM) none does."""
    failed = sorted(filter(None, statuses), key=lambda status: status in (WORKER_LOST, -signal.SIGALRM))
    if not failed:
        return 0
    return failed[0] if failed[0] > 0 else 128 - failed[0]


def start_local(
    workers: int,
    command: list[str],
    environment: dict[str, str] | None = None,
    program: tuple[str, ...] = ("-m", "pipeline.run"),
    **options,
) -> list[subprocess.Popen]:
    """The processes of `run_local`; program is what Python runs, options are Popen's."""
    addresses = _free_addresses(workers)
    processes = []
    for index in range(workers):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        variables = {**os.environ, **(environment or {}), "TF_CONFIG": json.dumps(config)}
        processes.append(subprocess.Popen([sys.executable, *program, *command], env=variables, **options))
    return processes


def _free_addresses(count: int) -> list[str]:
    """Of this machine; all are held until the last is found, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def slurm(options: argparse.Namespace, command: list[str]) -> str:
    """A script for sbatch. Workers find each other by Slurm's own variables (pipeline.training.cluster)."""
    gpus = f"#SBATCH --gpus-per-node={options.gpus}\n" if options.gpus else ""
    # A search has a worker for each GPU, which picks its own of those that all see.
    tasks = max(options.gpus, 1) if options.search else 1
    cpus = max(options.cpus // tasks, 1)
    run = shlex.join(command_of(options, command))
    return f"""#!/bin/bash
#SBATCH --job-name={options.name}
#SBATCH --nodes={options.nodes}
#SBATCH --ntasks-per-node={tasks}
#SBATCH --cpus-per-task={cpus}
{gpus}#SBATCH --time={options.time}
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append

# Submit it in the folder of the checkout, on a file system that all nodes share.
status=0
# Since Slurm 22.05 srun does not take --cpus-per-task over from sbatch.
srun --kill-on-bad-exit=0 --cpus-per-task={cpus} {run} || status=$?
# {RESUMABLE[0]}: a worker was lost; {RESUMABLE[1]}: preempted or out of time, the state is saved; {RESUMABLE[2]}: lost
# before all had connected. Resume, but not for ever.
if [[ " {" ".join(map(str, RESUMABLE))} " == *" $status "* ]] && (( ${{SLURM_RESTART_COUNT:-0}} < 100 )); then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
"""


def kubernetes(options: argparse.Namespace, command: list[str]) -> str:
    """A headless Service, which gives pods their names, and an Indexed Job of one pod a worker, as YAML.

    A pod that ends with a status other than 0 is restarted, and so are the others, which end when one is lost.
    """
    name, labels = options.name, {"app": options.name}
    addresses = [f"{name}-{index}.{name}:{PORT}" for index in range(options.workers)]
    index = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    # Kubernetes puts the value of WORKER_INDEX in.
    config = json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": "$(WORKER_INDEX)"}})
    # A worker of a search uses one.
    gpus = min(options.gpus, 1) if options.search else options.gpus
    resources = {"cpu": str(options.cpus)} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    container = {
        "name": "worker",
        "image": options.image,
        "command": command_of(options, command),
        "env": [{"name": "WORKER_INDEX", "valueFrom": index}, {"name": "TF_CONFIG", "value": config}],
        "ports": [{"containerPort": PORT}],
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "volumeMounts": [{"name": "runs", "mountPath": "/runs"}, {"name": "shm", "mountPath": "/dev/shm"}],
        "workingDir": "/",
    }
    pod = {
        "subdomain": name,
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": 120,
        "containers": [container],
        "volumes": [
            {"name": "runs", "persistentVolumeClaim": {"claimName": options.claim}},
            # NCCL shares memory between the GPUs of a machine.
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": labels},
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "completionMode": "Indexed",
            "completions": options.workers,
            "parallelism": options.workers,
            "backoffLimit": 100,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    return yaml.safe_dump_all([service, job], sort_keys=False)


if __name__ == "__main__":
    from pipeline.entry import run_command

    # Each worker filters its own.
    run_command(main, filtered=False)
