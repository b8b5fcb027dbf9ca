"""One text at a time, token ids in and predictions out: the served graph in both dtypes, and its ONNX form in float32
and int8.

    python benchmarks/one_text.py runs/trec --texts test.csv

Needs `pip install -e .[bench]`, and a finished run. Milliseconds of processor time a text, median and quartiles, median
latency, and the accuracy on all rows of the file (columns text, label), each asked alone. The tokens are made before.
TensorFlow's threads: `--threads`, and as many operations at a time.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")

import numpy as np
import pandas as pd
import tensorflow as tf

from export.fused import FusedClassifier
from export.onnx_model import INPUTS, onnx_session, write_onnx
from pipeline.tasks.single_label import SingleLabel
from pipeline.training.finished_run import load_run_backbone, load_run_classifier, read_settings

Ask = Callable[[int], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run, of one label a row")
    parser.add_argument("--texts", type=Path, required=True, help="csv with columns text and label")
    parser.add_argument("--count", type=int, default=64, help="texts a turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    settings = read_settings(options.run)
    loaded = load_run_backbone(settings, None, "float32")
    model, _ = load_run_classifier(settings, loaded, "float32")
    table = pd.read_csv(options.texts, dtype=str, keep_default_na=False)
    encoder = loaded.text_encoder(settings.text.lowercase, settings.identity.sequence_length)
    rows = [encoder([text]) for text in table.text]
    with tempfile.TemporaryDirectory() as folder:
        brief, _ = load_run_classifier(settings, load_run_backbone(settings, None, "mixed_bfloat16"), "mixed_bfloat16")
        ways = {
            "TensorFlow float32": served(model, settings.task, rows),
            "TensorFlow bfloat16": served(brief, settings.task, rows),
        }
        for kind in ("float32", "int8"):
            path = Path(folder) / f"{kind}.onnx"
            write_onnx(model, settings.task, path, int8=kind == "int8")
            ways[f"ONNX Runtime {kind}"] = runtime(path, rows, options.threads)
        assert isinstance(settings.task, SingleLabel), "a run of one label a row"
        names = list(settings.task.names)
        gold = [names.index(label) for label in table.label]
        report(ways, gold, min(options.count, len(rows)), options.repeats)


def served(model, task, rows: list[dict]) -> Ask:
    """The graph that is exported, in this process."""
    fused = FusedClassifier(model)
    spec = {name: tf.TensorSpec([None, None], tf.int32) for name in INPUTS}
    function = tf.function(lambda inputs: task.activation(fused(inputs)), input_signature=[spec], autograph=False)
    return lambda i: function(rows[i]).numpy()


def runtime(path: Path, rows: list[dict], threads: int) -> Ask:
    session = onnx_session(path, threads)
    arrays = [{name: tensor.numpy() for name, tensor in row.items()} for row in rows]
    return lambda i: session.run(["predictions"], arrays[i])[0]


def report(ways: dict[str, Ask], gold: list[int], count: int, repeats: int) -> None:
    chosen = {name: np.array([ask(i)[0].argmax() for i in range(len(gold))]) for name, ask in ways.items()}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    latencies: dict[str, list[float]] = {name: [] for name in ways}
    # Question by question in turns, so that other work on the machine meets all alike.
    for i in list(range(count)) * repeats:
        for name, ask in ways.items():
            start, begin = time.perf_counter(), time.process_time()
            ask(i)
            processor[name].append(1e3 * (time.process_time() - begin))
            latencies[name].append(1e3 * (time.perf_counter() - start))
    first = next(iter(ways))
    print(f"{'':22} processor ms (quartiles)  median latency ms  accuracy  labels as {first}")
    for name, times in processor.items():
        low, median, high = statistics.quantiles(times)
        print(
            f"{name:22} {median:12.2f} ({low:.2f} to {high:.2f}) {statistics.median(latencies[name]):18.2f} "
            f"{np.mean(chosen[name] == gold):9.1%} {np.mean(chosen[name] == chosen[first]):10.1%}"
        )


if __name__ == "__main__":
    main()
