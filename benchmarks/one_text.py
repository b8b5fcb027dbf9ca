"""One text at a time, token ids in and predictions out: the served graph in both dtypes, and its ONNX form under ONNX
Runtime in float32 and int8, and under OpenVINO in bfloat16 and float32.

    python benchmarks/one_text.py runs/trec --texts test.csv

Needs `pip install -e .[bench]`, and a finished run. Milliseconds of processor time a text and latency, and the accuracy
on all rows of the file (columns text, label), each asked alone. A turn is --count questions, of which each contender
answers one after the other; its value is their median. The tokens are made before. TensorFlow's threads: `--threads`,
and as many operations at a time. "of peak" counts 2 operations a weight of the transformer layers and real token, of
the fastest matrix product of as many threads.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")

import numpy as np
import pandas as pd
import tensorflow as tf
from machine import matmul_peak
from tables import Comparison, Report, add_arguments, machine_before, publish
from turns import Failed, missing, take_turns

from export.fused import FusedClassifier
from export.onnx_model import INPUTS, onnx_session, write_onnx
from pipeline.tasks.single_label import SingleLabel
from pipeline.training.finished_run import load_run_backbone, load_run_classifier, read_settings
from pipeline.training.numerics import choose_dtype

Ask = Callable[[int], np.ndarray]


RUNTIME = ("onnx", "onnxruntime")
NEEDS = {
    "TensorFlow bfloat16": (), "TensorFlow float32": (),
    "ONNX Runtime float32": RUNTIME, "ONNX Runtime int8": RUNTIME,
    "OpenVINO bfloat16": (*RUNTIME, "openvino"), "OpenVINO float32": (*RUNTIME, "openvino"),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run, of one label a row")
    parser.add_argument("--texts", type=Path, required=True, help="csv with columns text and label")
    parser.add_argument("--count", type=int, default=64, help="texts a turn")
    add_arguments(parser, repeats=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    settings = read_settings(options.run)
    assert isinstance(settings.task, SingleLabel), "a run of one label a row"
    loaded = load_run_backbone(settings, None, "float32")
    table = pd.read_csv(options.texts, dtype=str, keep_default_na=False)
    encoder = loaded.text_encoder(settings.text.lowercase, settings.identity.sequence_length)
    rows = [encoder([text]) for text in table.text]
    names = list(settings.task.names)
    gold = [names.index(label) for label in table.label]
    with tempfile.TemporaryDirectory() as folder:
        ways, left_out = contenders(settings, loaded, rows, Path(folder), options.threads)
        machine, peak = machine_before(), matmul_peak()
        comparisons = compared(ways, gold, min(options.count, len(rows)), options)
    tokens = float(np.mean([row["padding_mask"].numpy().sum() for row in rows]))
    layers = [layer for layer in loaded.backbone.layers if layer.name.startswith("transformer_layer_")]
    operations = 2 * sum(layer.count_params() for layer in layers) * tokens
    for comparison in comparisons:
        comparison.columns = {"of peak": dict.fromkeys(comparison.values, 1e3 * operations)}
    notes = [f"{len(rows)} texts of {tokens:.1f} tokens, threads: {options.threads}."]
    publish(Report(comparisons, left_out, notes=notes, machine=machine, peak=peak), options)


def contenders(settings, loaded, rows: list[dict], folder: Path, threads: int) -> tuple[dict[str, Ask], dict[str, str]]:
    """What is served here first, then all others; and who is left out, and why."""
    left_out = missing(NEEDS)
    model, _ = load_run_classifier(settings, loaded, "float32")
    brief, _ = load_run_classifier(settings, load_run_backbone(settings, None, "mixed_bfloat16"), "mixed_bfloat16")
    ways = {
        "TensorFlow bfloat16": served(brief, settings.task, rows),
        "TensorFlow float32": served(model, settings.task, rows),
    }
    if choose_dtype("auto") == "float32":
        ways = dict(reversed(ways.items()))
    arrays = [{name: tensor.numpy() for name, tensor in row.items()} for row in rows]
    for kind in ("float32", "int8"):
        if f"ONNX Runtime {kind}" not in left_out:
            write_onnx(model, settings.task, folder / f"{kind}.onnx", int8=kind == "int8")
            ways[f"ONNX Runtime {kind}"] = runtime(folder / f"{kind}.onnx", arrays, threads)
    for kind, hint in (("bfloat16", "bf16"), ("float32", "f32")):
        name = f"OpenVINO {kind}"
        if name not in left_out:
            try:
                ways[name] = openvino_graph(folder / "float32.onnx", arrays, threads, hint)
                ways[name](0)
            # Whatever it does not like of the file or the processor, the others are measured.
            except (RuntimeError, Failed) as error:
                ways.pop(name, None)
                left_out[name] = str(error).strip().splitlines()[-1]
    return ways, left_out


def served(model, task, rows: list[dict]) -> Ask:
    """The graph that is exported, in this process."""
    fused = FusedClassifier(model)
    spec = {name: tf.TensorSpec([None, None], tf.int32) for name in INPUTS}
    function = tf.function(lambda inputs: task.activation(fused(inputs)), input_signature=[spec], autograph=False)
    return lambda i: function(rows[i]).numpy()


def runtime(path: Path, arrays: list[dict[str, np.ndarray]], threads: int) -> Ask:
    session = onnx_session(path, threads)
    return lambda i: session.run(["predictions"], arrays[i])[0]


def openvino_graph(path: Path, arrays: list[dict[str, np.ndarray]], threads: int, hint: str) -> Ask:
    import openvino  # pyright: ignore[reportMissingImports]  # extra bench

    core = openvino.Core()
    if hint == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Failed("it has no bfloat16 on this processor")
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(path, "CPU", settings).create_infer_request()
    return lambda i: request.infer(arrays[i])["predictions"]


def compared(ways: dict[str, Ask], gold: list[int], count: int, options: argparse.Namespace) -> list[Comparison]:
    """Processor time and latency, question by question in turns, so that other work on the machine meets all alike."""
    chosen = {name: np.array([ask(i)[0].argmax() for i in range(len(gold))]) for name, ask in ways.items()}

    def clocked(ask: Ask, question: int) -> tuple[float, float]:
        start, begin = time.perf_counter(), time.process_time()
        ask(question % count)
        return 1e3 * (time.process_time() - begin), 1e3 * (time.perf_counter() - start)

    asked = {name: partial(clocked, ask) for name, ask in ways.items()}
    found, _ = take_turns(asked, options.repeats * count, options.first_turn * count)
    facts = {
        "accuracy": {name: f"{np.mean(labels == gold):.1%}" for name, labels in chosen.items()},
        "labels as TensorFlow float32": {
            name: f"{np.mean(labels == chosen['TensorFlow float32']):.1%}" for name, labels in chosen.items()
        },
    }

    def medians(which: int) -> dict[str, list[float | None]]:
        turns = range(0, options.repeats * count, count)
        return {
            name: [statistics.median(pair[which] for pair in pairs[start : start + count] if pair) for start in turns]
            for name, pairs in found.items()
        }

    return [
        Comparison("One text, processor time", "ms of the processor", medians(0), more_is_better=False, facts=facts),
        Comparison("One text, latency", "ms", medians(1), more_is_better=False),
    ]


if __name__ == "__main__":
    main()
