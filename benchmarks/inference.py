"""Strings in, labels out: the exported SavedModel against PyTorch with Hugging Face tokenizers, on a GPU or the CPU.

    python benchmarks/inference.py                         random weights of MiniLM-L6's sizes, made-up texts
    python benchmarks/inference.py --checkpoint FOLDER_OR_WHEEL --texts FILE.csv

Needs `pip install -e .[bench]`. All contenders have the same weights, batch size and number of threads, and pad to the
longest text of a batch. They take turns, each time with texts that none has seen, after a warm-up. "of peak" counts 2
operations a weight of the transformer layers and real token, of the machine's fastest matrix product.
"""

import argparse
import itertools
import os
import tempfile
import time
from functools import partial
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
from machine import matmul_peak
from made import BERT_BASE, MINILM_L6, make_checkpoint, make_texts
from tables import Comparison, Report, machine_before, publish
from tables import add_arguments as add_turns
from turns import take_turns

from export.loading import Classifier
from export.savedmodel import export_model
from pipeline.backbone.load import load_backbone
from pipeline.classifier import build_classifier
from pipeline.config import ModelConfig, TextConfig
from pipeline.cores import cores
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
    add_turns(parser, repeats=7)
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
        np.random.default_rng(options.first_turn).shuffle(texts)
        # A turn more than are asked for warms up.
        needed = options.count * (options.repeats + 1)
        pool = list(itertools.islice(itertools.cycle(texts), needed))
        words = np.mean([len(text.split()) for text in texts])
        machine, peak = machine_before(), matmul_peak()
        tokens = np.mean([len(row.ids) for row in tokenizer_of(folder).encode_batch(texts)])
        weights = sum(weight.numel() for weight in model.bert.encoder.parameters())
        orders = {"texts as they come": list, "texts sorted by length": lambda part: sorted(part, key=len)}
        found = [one for title, order in orders.items() for one in measure(title, contenders, pool, order, options)]
    for comparison in found:
        comparison.columns = {"of peak": dict.fromkeys(comparison.values, float(2 * weights * tokens))}
    notes = [
        f"{len(texts)} texts of {words:.1f} words on average, {options.count} a turn, batch {options.batch_size}, "
        f"{options.threads} threads, {DEVICE}."
    ]
    publish(Report(found, notes=notes, machine=machine, peak=peak), options)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `save_checkpoint` and the contenders are told."""
    parser.add_argument("--checkpoint", help="Hugging Face folder or wheel:package==version/path (default: random)")
    parser.add_argument("--texts", type=Path, help="csv with a column `text`, or one text a line (default: made up)")
    parser.add_argument("--sizes", choices=list(SIZES), default="minilm-l6", help="of random weights")
    parser.add_argument("--labels", type=int, default=6)
    parser.add_argument("--threads", type=int, default=cores())


def measure(title: str, contenders: dict, pool: list[str], order, options) -> list[Comparison]:
    """One comparison for each kind of numbers, all contenders taking turns together."""
    parts = [order(pool[start : start + options.count]) for start in range(0, len(pool), options.count)]
    labels: dict[str, list[str]] = {name: [] for name in contenders}

    def ask(name: str, turn: int) -> float:
        part = parts[1 + turn - options.first_turn]
        batches = [part[i : i + options.batch_size] for i in range(0, len(part), options.batch_size)]
        begin = time.perf_counter()
        labels[name] += [label for batch in batches for label in contenders[name](batch)]
        return len(part) / (time.perf_counter() - begin)

    for name in contenders:
        ask(name, options.first_turn - 1)
        labels[name].clear()
    rates, _ = take_turns({name: partial(ask, name) for name in contenders}, options.repeats, options.first_turn)
    right = np.array(labels["PyTorch float32"])
    agree = {name: f"{np.mean(np.array(found) == right):.1%}" for name, found in labels.items()}
    kinds = {kind: [f"ours {kind}", f"PyTorch {kind}"] for kind in ("bfloat16", "float32")}
    return [
        Comparison(
            f"Inference, {title}, {kind}", "texts/s", {name: rates[name] for name in names},
            facts={"labels as PyTorch float32": {name: agree[name] for name in names}},
        )
        for kind, names in kinds.items()
    ]  # fmt: skip


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
    tokenizer = tokenizer_of(folder)
    tokenizer.enable_padding()
    names = [str(i) for i in range(labels)]

    def answer(batch: list[str]) -> list[str]:
        encoded = tokenizer.encode_batch(batch)
        ids = torch.tensor([row.ids for row in encoded], device=DEVICE)
        mask = torch.tensor([row.attention_mask for row in encoded], device=DEVICE)
        with torch.inference_mode():
            probabilities = model(input_ids=ids, attention_mask=mask).logits.float().softmax(-1)
        return [names[i] for i in probabilities.argmax(-1).tolist()]

    return answer


def tokenizer_of(folder: Path) -> tokenizers.BertWordPieceTokenizer:
    tokenizer = tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
    tokenizer.enable_truncation(MAX_LENGTH)
    return tokenizer


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
