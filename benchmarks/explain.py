"""How good are the explanations of an exported model? Completeness on real texts, and a planted decisive word.

    python benchmarks/explain.py runs/quickstart --texts sst2.csv     completeness gaps of 100 texts, seconds, files
    python benchmarks/explain.py --planted                            a tiny model that must look at one word of 20

For the first, the attributions of a text should add up to the difference of the label's log-odds between text and
baseline; printed is by how much they miss it, relative to it. For the second, a small model is trained on texts of 20
random words of which one decides the label, or none, which is a label too: so the model must look for each of these
words. It is exported and asked for 100 new texts with such a word, which should rank first.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from export.loading import Classifier
from export.savedmodel import ExportSettings, export_model
from export.signatures import SignatureOptions
from pipeline.backbone.fresh import build
from pipeline.classifier import build_classifier
from pipeline.config import ModelConfig
from pipeline.tasks.single_label import SingleLabel
from pipeline.text import TextEncoder
from pipeline.tokenizer_rules import SPECIAL_TOKENS

DECISIVE = {"red": "colour", "seven": "number", "paris": "place", "monday": "day"}
FILLER = [f"w{i}" for i in range(60)]
LENGTH = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", help="run directory, directory of versions, or one version")
    parser.add_argument("--texts", type=Path, help="csv with a column of texts")
    parser.add_argument("--column", default="text")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--planted", action="store_true", help="the planted word in place of a model")
    options = parser.parse_args()
    if options.planted:
        print(f"the planted word ranks first in {planted(options.count)} of {options.count} texts")
    else:
        completeness(options)


def completeness(options) -> None:
    predictor = Classifier(options.model)
    texts = pd.read_csv(options.texts, keep_default_na=False)[options.column].tolist()
    texts = np.random.default_rng(0).permutation(texts)[: options.count].tolist()
    predictor.explain(texts[:8])
    predictor(texts[:8])
    begin = time.perf_counter()
    explanations = predictor.explain(texts)
    explaining = time.perf_counter() - begin
    begin = time.perf_counter()
    predictor(texts, batch_size=8)
    answering = time.perf_counter() - begin
    gaps = np.array([explanation.completeness_gap for explanation in explanations])
    pieces = np.mean([len(explanation.pieces) for explanation in explanations])
    print(f"{len(texts)} texts of {pieces:.1f} pieces, batches of 8; {predictor.version}")
    print(f"completeness gap: median {np.median(gaps):.3%}, 90 % below {np.quantile(gaps, 0.9):.3%}, {gaps.max():.3%}")
    print(f"below 1 %: {np.mean(gaps < 0.01):.0%} of the texts")
    print(f"{explaining / len(texts):.3f} s a text, {explaining / answering:.0f} times an answer's")


def planted(count: int, steps: int = SignatureOptions.explain_steps, seed: int = 0, epochs: int = 8) -> int:
    """Train, export, explain; returns for how many of `count` texts the decisive word has the highest attribution."""
    random = np.random.default_rng(seed)
    vocabulary = [*SPECIAL_TOKENS, *DECISIVE, *FILLER]
    labels = [*DECISIVE.values(), "none"]
    texts, classes, _ = planted_texts(random, 2400, [*DECISIVE, None])
    sizes = ModelConfig(
        num_layers=2, num_heads=4, hidden_dim=32, intermediate_dim=64, max_sequence_length=32, dropout=0.0
    )
    loaded = build(sizes, vocabulary, seed)
    model = build_classifier(loaded, len(labels), pooling="mean", dropout=0.0, seed=seed)
    encoder = TextEncoder(vocabulary, sequence_length=32)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, jit_compile=False)
    keras.utils.set_random_seed(seed)
    model.fit(encoder(tf.constant(texts)), classes, batch_size=32, epochs=epochs, verbose=0)
    texts, classes, words = planted_texts(random, count, list(DECISIVE))
    with tempfile.TemporaryDirectory() as folder:
        settings = ExportSettings(SignatureOptions(("explain",), explain_steps=steps))
        task = SingleLabel(tuple(labels))
        found = Classifier(export_model(model, encoder, task, folder, settings=settings)).explain(texts)
    right = np.mean([explanation.label == labels[c] for explanation, c in zip(found, classes, strict=True)])
    print(f"accuracy {right:.1%}")
    best = [explanation.pieces[int(np.argmax(explanation.attributions))] for explanation in found]
    return sum(word == wanted for word, wanted in zip(best, words, strict=True))


def planted_texts(random: np.random.Generator, count: int, words: list) -> tuple[list[str], np.ndarray, list]:
    """Texts with one of `words` each (None: with none), the numbers of these words, and the words."""
    numbers = random.integers(len(words), size=count)
    texts = []
    for number in numbers:
        text = random.choice(FILLER, LENGTH).tolist()
        if words[number] is not None:
            text[random.integers(LENGTH)] = words[number]
        texts.append(" ".join(text))
    return texts, numbers, [words[number] for number in numbers]


if __name__ == "__main__":
    main()
