"""Drifts planted in the questions of a model and found by export.monitor, false alarms, and what a report costs.

    python -m pipeline.run --config trec --data.train train.csv --data.validation val.csv --data.test test.csv \\
        --data.label_column label --training.epochs 3 --run_dir runs/clinc
    python benchmarks/monitor.py runs/clinc --held_out val.csv test.csv --outside oos_test.csv oos_val.csv oos_train.csv

Half of the held-out rows, drawn anew each time, are the reference; windows are drawn from the other half, so that
without a drift both are of one population. A drift takes the place of a share of a window's rows: questions of no
known topic (--outside), German and French words (faker, of the extra `test`), two questions in one, a letter in ten
mistyped, a twentieth of the labels alone. A report is timed in a process of its own.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from export.loading import Classifier
from export.monitor.accuracy import estimate, measure
from export.monitor.drift import Limits, compare
from export.monitor.features import Features, Rows
from export.monitor.reference import Reference, make_reference, names_of_features

SIZES, SHARES = (200, 1000, 3000), (0.05, 0.1, 0.2, 0.5, 1.0)
WRONG_LETTERS = 0.1
# In a small process: what starts another counts its own memory as the other's (getrusage's ru_maxrss).
TIMED = """
import os, subprocess, sys, time
begin = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
print(time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss, os.waitstatus_to_exitcode(status))
"""


@dataclass
class Pool:
    """Answered rows: features by name, [n] each, and whether each is answered rightly."""

    features: dict[str, np.ndarray]
    right: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run with a reference")
    parser.add_argument("--held_out", nargs="+", type=Path, required=True, help="csv files of its rows")
    parser.add_argument("--outside", nargs="+", type=Path, required=True, help="csv files of other questions")
    parser.add_argument("--windows", type=int, default=3000, help="of each size without a drift (default: 3000)")
    parser.add_argument("--planted", type=int, default=100, help="windows of each drift (default: 100)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the log that is timed (default: 10^6)")
    options = parser.parse_args()
    pools = _pools(options)
    held, chance = pools.pop("none"), np.random.default_rng(0)
    print(f"{len(held.right)} held-out rows, {held.right.mean():.3f} right; features: {', '.join(held.features)}")
    for size in SIZES:
        far, any_far = _false_alarms(held, size, options.windows, chance)
        print(f"windows of {size} rows with a false alarm, of {options.windows}: {far}, with --least_psi 0 {any_far}")
    print(f"windows of {SIZES} rows that are found, %, by the share of rows that have drifted {SHARES}")
    for name, pool in pools.items():
        for size in SIZES:
            found, moved = [], Counter()
            for share in SHARES:
                some, features = _found(held, pool, size, share, options.planted, chance)
                found.append(f"{100 * some:4.0f}")
                moved.update(features)
            most = ", ".join(feature for feature, _ in moved.most_common(3))
            print(f"  {name:12} {size:5} {' '.join(found)}   most often by {most}")
    _accuracies(held, pools, chance)
    for rows in (options.rows // 10, options.rows):
        for form in ("jsonl", "csv", "parquet"):
            seconds, processor, memory = _cost(options, form, rows)
            print(f"{form} of {rows} rows: {seconds:.1f} s, {processor:.1f} s of processor time, at most {memory} MiB")


def _texts(paths: list[Path]) -> tuple[list[str], list[str]]:
    rows = [row for path in paths for row in csv.DictReader(path.open(newline="", encoding="utf-8"))]
    return [row["text"] for row in rows], [row.get("label", "") for row in rows]


def _pools(options: argparse.Namespace) -> dict[str, Pool]:
    """Rows without a drift, as "none", and of each."""
    from faker import Faker

    model, reference, chance = Classifier(options.run), Reference.load(options.run), random.Random(0)
    features = Features.like(reference)

    def answered(texts: list[str], labels: list[str]) -> Pool:
        outputs = model(texts).outputs
        kept = {name: outputs[name] for name in ("label", *reference.outputs)}
        right = np.array([a == b for a, b in zip(outputs["label"], labels, strict=True)], float)
        return Pool(features(Rows([texts], kept, None, "row 1")), right)

    texts, labels = _texts(options.held_out)
    some = chance.sample(range(len(texts)), min(3000, len(texts)))
    outside = _texts(options.outside)[0]
    speakers = [Faker("de_DE"), Faker("fr_FR")]
    for number, speaker in enumerate(speakers):
        speaker.seed_instance(number)
    foreign = [speakers[i % 2].sentence(nb_words=8) for i in range(1500)]
    held = answered(texts, labels)
    few = [name for name, _ in Counter(labels).most_common()[: max(1, len(set(labels)) // 20)]]
    chosen = np.array([label in few for label in labels])
    return {
        "none": held,
        "new topic": answered(outside, [""] * len(outside)),
        "language": answered(foreign, [""] * len(foreign)),
        "longer": answered([f"{texts[i]} {texts[j]}" for i, j in pairwise(some)], [labels[j] for j in some[1:]]),
        "typos": answered([_mistyped(texts[i], chance) for i in some], [labels[i] for i in some]),
        "labels": Pool({name: values[chosen] for name, values in held.features.items()}, held.right[chosen]),
    }  # fmt: skip


def _mistyped(text: str, chance: random.Random) -> str:
    """A letter in ten doubled, left out, or exchanged with the next."""
    letters = list(text)
    for place in range(len(letters) - 1):
        if letters[place].isalpha() and chance.random() < WRONG_LETTERS:
            two = letters[place] + letters[place + 1]
            letters[place], letters[place + 1] = chance.choice([(two[0] * 2, two[1]), ("", two[1]), (two[1], two[0])])
    return "".join(letters)


def _divided(held: Pool, chance: np.random.Generator) -> tuple[Reference, np.ndarray, np.ndarray]:
    """A reference of half of the rows, those rows, and the others, in random order."""
    order = chance.permutation(len(held.right))
    own, others = order[: len(order) // 2], order[len(order) // 2 :]
    values = {name: found[own] for name, found in held.features.items()}
    labels = tuple(str(number) for number in range(int(held.features["label"].max()) + 1))
    names = {name: known for name, known in names_of_features(("text",), labels, {}).items() if name in values}
    outputs = tuple(name for name in values if name in ("score", "fit"))
    about = {"made_from": "", "inputs": ("text",), "text_columns": ("text",), "labels": labels, "outputs": outputs}
    return make_reference(values, names, **about), own, others


def _moved(reference: Reference, windows: list[list[dict[str, np.ndarray]]], psi: float) -> Iterator[list[str]]:
    """The features that have moved in each window, of parts that are put together."""
    found = {}
    for sketch in reference.sketches:
        bins = [np.concatenate([sketch.bins(part[sketch.name]) for part in parts]) for parts in windows]
        counts = np.stack([np.bincount(one, minlength=sketch.size) for one in bins])
        compared = compare(counts, np.array(sketch.counts), sketch.numeric)
        found[sketch.name] = compared.moved(Limits(psi=psi), len(reference.sketches))
    for i in range(len(windows)):
        yield [name for name, moved in found.items() if moved[i]]


def _of(pool: Pool, rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[rows] for name, values in pool.features.items()}


def _false_alarms(held: Pool, size: int, windows: int, chance: np.random.Generator) -> tuple[int, int]:
    """Of so many windows, with the least PSI that counts, and with any."""
    count, found = 0, [0, 0]
    while count < windows:
        reference, _, others = _divided(held, chance)
        starts = range(0, len(others) - size + 1, size)[: windows - count]
        parts = [[_of(held, others[start : start + size])] for start in starts]
        found = [all_so_far + sum(map(bool, _moved(reference, parts, psi)))
                 for all_so_far, psi in zip(found, (Limits.psi, 0.0), strict=True)]  # fmt: skip
        count += len(parts)
    return found[0], found[1]


def _found(
    held: Pool, drifted: Pool, size: int, share: float, windows: int, chance: np.random.Generator
) -> tuple[float, Counter]:
    """The share of windows that are found, and how often each feature is named."""
    many, moved, alarms = round(size * share), Counter(), 0
    for _ in range(windows // 5):
        reference, _, others = _divided(held, chance)
        parts = [
            [
                _of(held, chance.choice(others, size - many, replace=False)),
                _of(drifted, chance.choice(len(drifted.right), many, replace=many > len(drifted.right))),
            ]
            for _ in range(5)
        ]
        for features in _moved(reference, parts, Limits.psi):
            alarms += bool(features)
            moved.update(features)
    return alarms / (windows // 5 * 5), moved


def _accuracies(held: Pool, pools: dict[str, Pool], chance: np.random.Generator) -> None:
    """Estimated and true accuracy of windows of 3,000 rows."""
    reference, own, others = _divided(held, chance)
    sketch = next(sketch for sketch in reference.sketches if sketch.name == "score")
    known = measure(held.right[own], held.features["score"][own], sketch)
    print(
        f"accuracy of 3000 rows: by average confidence, by difference of confidences, true; before: {known.share:.3f}"
    )
    for name, pool in {"none": held, **pools}.items():
        for share in (0.2, 1.0) if name != "none" else (0.0,):
            many = round(3000 * share)
            mine, theirs = chance.choice(others, 3000 - many, replace=False), chance.choice(len(pool.right), many)
            scores = np.concatenate([held.features["score"][mine], pool.features["score"][theirs]])
            true = np.concatenate([held.right[mine], pool.right[theirs]]).mean()
            counts = np.bincount(sketch.bins(scores), minlength=sketch.size)
            found = estimate(counts, float(scores.mean()), known, sketch)
            interval = f"({found.low:.3f} to {found.high:.3f})"
            print(f"  {name:12} {share:4.0%}  {found.calibrated:.3f} {interval}  {found.doc:.3f}  {true:.3f}")


def _cost(options: argparse.Namespace, form: str, rows: int) -> tuple[float, float, int]:
    """Seconds, processor time and MiB of a report on a log of made answers to real questions, with a page."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"log.{form}")
        _write_log(path, _texts(options.held_out), rows)
        command = [sys.executable, "-m", "export.monitor", "report", str(options.run), str(path)]
        arguments = [sys.executable, "-c", TIMED, *command, "--html", f"{folder}/page.html"]
        seconds, processor, memory, status = map(float, subprocess.check_output(arguments).split()[-4:])
        if status not in (0, 1):
            raise SystemExit("the report failed")
        return seconds, processor, int(memory) // 1024


def _write_log(path: Path, questions: tuple[list[str], list[str]], rows: int) -> None:
    """One question a request, with six probabilities, or a question a row."""
    chance = random.Random(0)
    chosen = (chance.randrange(len(questions[0])) for _ in range(rows))
    answers = ((questions[0][i], questions[1][i], round(chance.betavariate(8, 1), 6)) for i in chosen)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = dict(zip(("text", "label", "score"), map(list, zip(*answers, strict=True)), strict=True))
        pq.write_table(pa.table(columns), path)
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        if path.suffix == ".csv":
            writer = csv.writer(file)
            writer.writerow(["text", "label", "score"])
            writer.writerows(answers)
            return
        for number, (text, label, score) in enumerate(answers):
            seconds = number * 30 * 86400 // rows
            file.write(json.dumps({
                "time": f"2026-03-{1 + seconds // 86400:02}T{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:00Z",
                "model": "news", "version": None, "label": "stable", "signature": "serving_default",
                "inputs": {"text": [text]},
                "outputs": {"label": [label], "score": [score], "probabilities": [[score, *[(1 - score) / 5] * 5]]},
            }) + "\n")  # fmt: skip


if __name__ == "__main__":
    main()
