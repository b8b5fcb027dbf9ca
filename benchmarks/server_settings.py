"""Threads of the server, batching and oneDNN's frozen weights: which settings answer one text and batches fastest?

    python benchmarks/server_settings.py                     random weights of MiniLM-L6's sizes, made-up texts
    python benchmarks/server_settings.py runs/quickstart --texts FILE.csv

Each setting is a process with the SavedModel under TensorFlow's C API, XLA off as in the server; all take turns. They
are asked one text after the other, batches of 32 one after the other, batches of 32 from one and from several threads
at a time (the server's num_batch_threads), and, with frozen weights, texts that arrive at random, which wait
for each other as the server's scheduler makes them wait. Processor time tells more than time where a machine is shared.
"""

import argparse
import csv
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import numpy as np
from tensorflow.core.protobuf import config_pb2

from export.graph import read_graph, signatures
from export.server.releases import NEWEST, libraries
from export.versions import find_version

WORKER = Path(__file__).with_name("server_settings_worker.py")
BATCH = 32


class Process:
    """A worker with one setting."""

    def __init__(self, version: Path, intra: int, inter: int, frozen: bool):
        signature = signatures(read_graph(version))["serving_default"]
        tensorflow, objects = libraries(NEWEST)
        config = config_pb2.ConfigProto(intra_op_parallelism_threads=intra, inter_op_parallelism_threads=inter)
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": str(int(frozen))}
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._send(
            (str(tensorflow), [str(path) for path in objects], str(version), signature.inputs["text"].name,
             signature.outputs["label"].name, config.SerializeToString())
        )  # fmt: skip
        self._receive()

    def __call__(self, function: str, *arguments):
        self._send((function, arguments))
        return self._receive()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _send(self, content: object) -> None:
        assert self._process.stdin
        pickle.dump(content, self._process.stdin)
        self._process.stdin.flush()

    def _receive(self):
        assert self._process.stdout
        return pickle.load(self._process.stdout)


def setting(text: str) -> tuple[int, int, bool]:
    intra, inter, frozen = map(int, text.split(","))
    return intra, inter, bool(frozen)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, help="run directory or versions (default: random weights)")
    parser.add_argument("--texts", type=Path, help="csv with a column `text` (default: made up)")
    parser.add_argument("--dtype", default="bfloat16", help="of the random model")
    defaults = [setting(text) for text in ("1,1,1", "1,-1,1", "1,2,1", "2,2,1", "1,1,0")]
    parser.add_argument("--settings", type=setting, nargs="+", default=defaults,
                        help="intra-op threads, inter-op threads (-1: the batch's own), frozen weights")  # fmt: skip
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="batches at a time")
    parser.add_argument("--waits", type=float, nargs="+", default=[0, 0.5, 2], help="milliseconds")
    parser.add_argument("--rates", type=float, nargs="*", default=[20, 100, 300], help="texts a second")
    parser.add_argument("--singles", type=int, default=100, help="requests of one text a turn")
    parser.add_argument("--batches", type=int, default=8, help=f"of {BATCH} texts a turn")
    parser.add_argument("--repeats", type=int, default=7, help="turns, after one that warms up")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        version = find_version(options.model) if options.model else random_model(Path(temporary), options.dtype)
        random = np.random.default_rng(0)
        texts = read_texts(options.texts) if options.texts else made_up(version, random)
        random.shuffle(texts)
        processes = {chosen: stack.enter_context(Process(version, *chosen)) for chosen in options.settings}
        print(
            f"{np.mean([len(text.split()) for text in texts]):.1f} words a text; load {os.getloadavg()[0]:.1f} before"
        )
        report_batches(processes, texts, options)
        print(f"load {os.getloadavg()[0]:.1f} in between")
        report_arrivals({chosen: process for chosen, process in processes.items() if chosen[2]}, texts, options)


def report_batches(processes: dict, texts: list[str], options) -> None:
    batches = [texts[start : start + BATCH] for start in range(0, options.batches * BATCH, BATCH)]
    singles = [[text] for text in texts[: options.singles]]
    found = {chosen: [] for chosen in processes}
    for turn in range(options.repeats + 1):
        for chosen, process in processes.items():
            one, one_processor = process("one_by_one", singles)
            many, many_processor = process("one_by_one", batches)
            row = [1e3 * statistics.median(one), 1e3 * one_processor / len(singles)]
            row += [1e3 * statistics.median(many), 1e3 * many_processor / len(batches)]
            for threads in options.threads:
                seconds, processor = process("saturated", batches, threads)
                row += [len(batches) * BATCH / seconds, processor / seconds]
            if turn:
                found[chosen].append(row)
        print(f"turn {turn} of {options.repeats}, load {os.getloadavg()[0]:.1f}", flush=True)
    at_a_time = "".join(f" | {n} at a time: texts/s, cores" for n in options.threads)
    print(f"\nintra, inter, frozen | one text: ms, CPU ms | {BATCH} texts: ms, CPU ms{at_a_time}")
    for (intra, inter, frozen), rows in found.items():
        one, one_cpu, many, many_cpu, *rest = (statistics.median(column) for column in zip(*rows, strict=True))
        pairs = "".join(f" | {rest[i]:6.0f}, {rest[i + 1]:.2f}" for i in range(0, len(rest), 2))
        print(f"{intra:2} {inter:3} {frozen!s:5} | {one:6.2f}, {one_cpu:6.2f} | {many:6.1f}, {many_cpu:6.1f}{pairs}")


def report_arrivals(processes: dict, texts: list[str], options) -> None:
    print("\ntexts at random times: rate | intra, inter | batches at a time | wait ms | median ms, 99th percentile ms")
    settings = list(product(processes, options.threads, options.waits))
    for rate in options.rates:
        part = texts[: int(min(len(texts), max(60, 2 * rate)))]
        found = {chosen: [] for chosen in settings}
        for turn in range(options.repeats + 1):
            for chosen in settings:
                key, threads, wait = chosen
                latencies = processes[key]("arrivals", part, rate, threads, wait / 1e3, BATCH)
                if turn:
                    found[chosen].append([1e3 * np.percentile(latencies, q) for q in (50, 99)])
        for ((intra, inter, _), threads, wait), rows in found.items():
            median, tail = (statistics.median(column) for column in zip(*rows, strict=True))
            print(f"{rate:6.0f} | {intra}, {inter:2} | {threads} | {wait:4g} | {median:7.2f}, {tail:7.2f}", flush=True)


def read_texts(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def random_model(folder: Path, dtype: str) -> Path:
    """A classifier of MiniLM-L6's sizes."""
    import keras
    import keras_nlp

    from export.savedmodel import export_model
    from pipeline.backbone.loaded import LoadedBackbone
    from pipeline.classifier import build_classifier
    from pipeline.features import ONE_TEXT
    from pipeline.tasks.single_label import SingleLabel
    from pipeline.text import TextEncoder

    random = np.random.default_rng(0)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    letters = np.array(list("etaoinshrdlucmfw"))
    words = {"".join(random.choice(letters, random.integers(2, 10))) for _ in range(40_000)}
    vocabulary = [*pieces, *sorted(words)][:30522]
    keras.config.set_dtype_policy(dtype)
    backbone = keras_nlp.models.BertBackbone(
        vocabulary_size=len(vocabulary), num_layers=6, num_heads=12, hidden_dim=384, intermediate_dim=1536,
        max_sequence_length=128,
    )  # fmt: skip
    model = build_classifier(LoadedBackbone(backbone, tuple(vocabulary), True, True), 6, pooling="cls")
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    return export_model(
        model, TextEncoder(vocabulary, True, 128), SingleLabel(tuple("abcdef")), folder / "model", ONE_TEXT
    )


def made_up(version: Path, random: np.random.Generator) -> list[str]:
    """Of random words; as many a text as in questions and short reviews, of which half have 6 to 14."""
    vocabulary = version.parents[1] / "vocab.txt"
    words = vocabulary.read_text().split("\n")[40:] if vocabulary.exists() else ["words", "of", "a", "text"]
    lengths = np.clip(np.exp(random.normal(np.log(9), 0.6, 2048)), 1, 80).astype(int)
    return [" ".join(random.choice(words, length)) for length in lengths]


if __name__ == "__main__":
    main()
