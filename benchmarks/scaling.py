"""What more workers bring: predicted from one worker's time, gradient bytes and bandwidth, and measured here.

    python benchmarks/scaling.py                                   the quickstart's checkpoint, workers of one core each
    python benchmarks/scaling.py --predict 8 --bandwidth 25 --step 0.12 --gradient 440      numbers of yours; no run

Three runs at the same batch, in turns, each in processes of its own; the last epoch is timed:
- one worker with as many threads as the cluster has cores;
- the cluster: workers pinned to one core each, which talk over the loopback;
- one worker on one core with its share of the batch, which is what the prediction starts from.

The model: workers compute at once, then add up their gradients, and nothing of the two overlaps.
    t(N) = t(1) + 2 (N - 1) / N * dense / bandwidth + (N - 1) * sparse / bandwidth
The first term is a ring all-reduce of the dense gradients (Patarasuk and Yuan, 2009), the second an all-gather of the
rows of the word embeddings, which are as many on each worker. Latency is left out: with batches of a few milliseconds
it is what decides.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from finetune import CHECKPOINT, headlines  # noqa: E402

from pipeline.launch import start_local  # noqa: E402

MEGABYTE = 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", default=CHECKPOINT)
    parser.add_argument("--data", type=Path, help="csv with columns text and label; default: headlines")
    parser.add_argument("--rows", type=int, default=640, help="rows an epoch")
    parser.add_argument("--batch-size", type=int, default=32, help="of all workers; without a run: of each")
    parser.add_argument("--length", type=int, default=64, help="tokens, the same in all batches")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--workers", type=int, default=2, help="processes, of one core each")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--predict", type=int, nargs="*", default=[2, 4, 8, 16, 64], help="numbers of workers")
    parser.add_argument("--bandwidth", type=float, help="gigabytes a second between workers; default: as measured here")
    parser.add_argument("--step", type=float, help="seconds of an update of one worker; with --gradient: no run")
    parser.add_argument("--gradient", type=float, help="megabytes of dense gradients")
    parser.add_argument("--sparse", type=float, default=0.0, help="megabytes of embedding rows of one worker's batch")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "bandwidth":
        measure_bandwidth()
    elif options.part == "facts":
        print(json.dumps(facts(options)))
    elif options.step and options.gradient and options.bandwidth:
        report(options.step, options.gradient * MEGABYTE, options.sparse * MEGABYTE, options.bandwidth * 1e9,
               options.batch_size, options.predict, None)  # fmt: skip
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(options, Path(folder))


def step_seconds(single: float, dense: float, sparse: float, bandwidth: float, workers: int) -> float:
    """t(N) of the model above; seconds, bytes, bytes a second."""
    return single + (2 * (workers - 1) / workers * dense + (workers - 1) * sparse) / bandwidth


def bandwidth_for(efficiency: float, single: float, dense: float, sparse: float, workers: int) -> float:
    """Bytes a second at which N workers do N * efficiency times the work of one."""
    moved = 2 * (workers - 1) / workers * dense + (workers - 1) * sparse
    return moved / (single * (1 / efficiency - 1))


def report(single, dense, sparse, bandwidth, batch, counts, input_rate) -> None:
    print(f"\nan update of one worker, {batch} examples: {single * 1e3:.1f} ms; gradients: {dense / MEGABYTE:.1f} MB "
          f"dense, {sparse / MEGABYTE:.2f} MB of rows; {bandwidth / 1e9:.2f} GB/s between workers")  # fmt: skip
    print(f"{'workers':>7} {'examples/s':>10} {'efficiency':>10} {'GB/s for 90 %':>14} {'GB/s to pay at all':>19}")
    for count in counts:
        seconds = step_seconds(single, dense, sparse, bandwidth, count)
        rate = count * batch / seconds
        needed = bandwidth_for(0.9, single, dense, sparse, count)
        pays = bandwidth_for(1 / count, single, dense, sparse, count)
        note = "  (more than the input gives)" if input_rate and rate / count > input_rate else ""
        print(f"{count:7} {rate:10.0f} {single / seconds:10.1%} {needed / 1e9:14.3f} {pays / 1e9:19.3f}{note}")


def measure(options: argparse.Namespace, folder: Path) -> None:
    if options.data is None:
        options.data = headlines(folder / "headlines.csv")
    cores = sorted(os.sched_getaffinity(0))[: options.workers]
    if len(cores) < options.workers:
        raise SystemExit(f"{options.workers} workers of one core each need as many cores; there are {len(cores)}.")
    share = options.batch_size // options.workers
    runs = {
        "one": (1, options.batch_size, options.rows),
        "cluster": (options.workers, options.batch_size, options.rows),
        "share": (1, share, options.rows // options.workers),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(options.repeats):
        for name, (workers, batch, rows) in runs.items():
            run_dir = folder / f"{name}-{repeat}"
            seconds[name].append(train(options, run_dir, workers, batch, rows, cores[:1] if name == "share" else cores))
            print(f"{name:8} {seconds[name][-1] * 1e3:8.1f} ms an update", file=sys.stderr, flush=True)
    one, cluster, single = (statistics.median(seconds[name]) for name in runs)
    known = child(options, "facts")
    bandwidth = options.bandwidth * 1e9 if options.bandwidth else loopback(options.workers, cores)
    print(f"{options.workers} workers of one core: {options.batch_size / cluster:.1f} examples/s; "
          f"one worker of {options.workers} cores: {options.batch_size / one:.1f}; the cluster loses "
          f"{1 - one / cluster:.1%}")  # fmt: skip
    predicted = step_seconds(single, known["dense"], known["sparse"], bandwidth, options.workers)
    print(f"predicted for {options.workers} workers: {predicted * 1e3:.1f} ms an update; measured: "
          f"{cluster * 1e3:.1f} ms ({cluster / predicted - 1:+.1%})")  # fmt: skip
    print(f"the input makes {known['input']:.0f} examples/s in one process")
    report(single, known["dense"], known["sparse"], bandwidth, share, options.predict, known["input"])


def train(options, run_dir: Path, workers: int, batch: int, rows: int, cores: list[int]) -> float:
    """Seconds an update in the last of three epochs."""
    run_dir.mkdir()
    config = {
        "data": {"train": str(options.data), "max_examples": rows, "validation_fraction": 0, "test_fraction": 0},
        "text": {"sequence_length": options.length, "fixed_length": True},
        "model": {"backbone": options.checkpoint, "pooling": "mean"},
        "training": {"epochs": 3, "batch_size": batch, "dtype": options.dtype, "strategy": "auto"},
        "export": {"enabled": False},
    }
    (run_dir / "config.yaml.in").write_text(yaml.safe_dump(config))
    command = ["--config", str(run_dir / "config.yaml.in"), "--run_dir", str(run_dir)]
    threads = str(len(cores) if workers == 1 else 1)
    environment = {"OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    if workers == 1:
        variables = {**os.environ, **environment}
        processes = [subprocess.Popen([sys.executable, "-m", "pipeline.run", *command], env=variables, **pipes)]
        os.sched_setaffinity(processes[0].pid, cores)
    else:
        processes = start_local(workers, command, environment, **pipes)
        for process, core in zip(processes, cores, strict=True):
            # Before TensorFlow is there: its threads, as many as there are cores to run on, inherit it.
            os.sched_setaffinity(process.pid, [core])
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit("\n".join(output[-3000:] for output in outputs))
    history = json.loads((run_dir / "metrics.json").read_text())["train"]["history"]
    return history[-1]["seconds"] / -(-rows // batch)


def child(options: argparse.Namespace, part: str) -> dict:
    """The last line of a part in a process of its own, as JSON."""
    command = [sys.executable, __file__, "--part", part, "--data", str(options.data), "--rows", str(options.rows)]
    command += ["--checkpoint", options.checkpoint, "--length", str(options.length), "--workers", str(options.workers)]
    command += ["--batch-size", str(options.batch_size)]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        raise SystemExit(process.stderr[-3000:])
    return json.loads(process.stdout.splitlines()[-1])


def facts(options: argparse.Namespace) -> dict:
    """Bytes of the gradients of a worker's share, and examples a second of the input alone."""
    from pipeline.backbone.load import load_backbone
    from pipeline.config import DataConfig, ModelConfig, TextConfig
    from pipeline.data.batching import BatchOptions, training_batches
    from pipeline.data.load import load
    from pipeline.text import TextEncoder

    loaded = load_backbone(ModelConfig(backbone=options.checkpoint), TextConfig(sequence_length=options.length))
    backbone = loaded.backbone
    table = backbone.get_layer("token_embedding").weights[0]
    dense = 4 * (backbone.count_params() - int(table.shape[0]) * int(table.shape[1]))
    # Padding is a row like any other: as many rows as tokens, each with its number.
    sparse = options.batch_size // options.workers * options.length * (4 * int(table.shape[1]) + 8)
    encoder = TextEncoder(loaded.vocabulary, loaded.lowercase is not False, options.length)
    with tempfile.TemporaryDirectory() as folder:
        config = DataConfig(train=str(options.data), max_examples=options.rows, validation_fraction=0, test_fraction=0)
        data = load(config, Path(folder))
        assert data.train is not None
        rates = []
        for epoch in range(4):
            started = time.perf_counter()
            batch = BatchOptions(options.batch_size, lengths=())
            batches = training_batches(data.train, encoder, data.task, batch, epoch=epoch)
            rows = sum(len(weights) for _, _, weights in batches)
            rates.append(rows / (time.perf_counter() - started))
    return {"dense": dense, "sparse": sparse, "input": statistics.median(rates[1:])}


def loopback(workers: int, cores: list[int]) -> float:
    """Bytes a second of the ring all-reduce between pinned processes of this machine, by the model above."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    program = (__file__, "--part", "bandwidth")
    processes = start_local(workers, [], {"OMP_NUM_THREADS": "1"}, program, **pipes)
    for process, core in zip(processes, cores, strict=True):
        os.sched_setaffinity(process.pid, [core])
    outputs = [process.communicate() for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit("\n".join(error[-3000:] for _, error in outputs))
    return json.loads(outputs[0][0].splitlines()[-1])


def measure_bandwidth() -> None:
    import numpy as np

    from pipeline.training.cluster import find_cluster
    from pipeline.training.rendezvous import rendezvous
    from pipeline.training.strategy import choose_strategy
    from pipeline.training.workers import Workers

    cluster = find_cluster("multiworker")
    assert cluster is not None
    rendezvous(cluster, "", 300)
    workers = Workers(choose_strategy("multiworker", cluster), cluster)
    values, seconds = np.zeros(1 << 23, np.float32), []
    for _ in range(8):
        started = time.perf_counter()
        workers.sum(values)
        seconds.append(time.perf_counter() - started)
    count = workers.count
    print(2 * (count - 1) / count * values.nbytes / statistics.median(seconds[2:]))


if __name__ == "__main__":
    main()
