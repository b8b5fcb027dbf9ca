"""Few labels: what each method of ours and SetFit's package make of the same rows, from the same checkpoint.

python benchmarks/few_labels.py --train train.csv --test test.csv --per_class 8

Each contender is a process of its own, asked one after the other for each draw of rows; its processor time is that of
the whole process, from its start to its scores. SetFit runs with its own defaults, in an environment that has it.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).parents[1]
METHODS = ("head", "contrastive", "fine_tune", "auto")
SETFIT = """
import sys, json
import pandas as pd
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments
train, test, checkpoint, seed, length = sys.argv[1:]
train, test = (pd.read_csv(path, keep_default_na=False) for path in (train, test))
names = sorted(train.label.astype(str).unique())
model = SetFitModel.from_pretrained(checkpoint, labels=names)
model.model_body.max_seq_length = int(length)
rows = Dataset.from_dict({"text": list(train.text), "label": [names.index(str(x)) for x in train.label]})
arguments = TrainingArguments(seed=int(seed), report_to="none", save_strategy="no", output_dir=sys.argv[1] + ".out")
Trainer(model=model, args=arguments, train_dataset=rows).train()
found = [str(x) for x in model.predict(list(test.text))]
print(json.dumps({"accuracy": sum(a == str(b) for a, b in zip(found, test.label)) / len(test)}))
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="csv with the columns text and label")
    parser.add_argument("--test", required=True, help="likewise")
    parser.add_argument("--per_class", type=int, default=8, help="rows of each label; 0: all")
    parser.add_argument("--test_rows", type=int, default=0, help="only so many, evenly taken; 0: all")
    parser.add_argument("--draws", type=int, default=3, help="draws of rows, each with its seed")
    parser.add_argument("--unlabelled", type=int, default=0, help="ours also get so many texts of the training rows "
                        "without their labels")  # fmt: skip
    parser.add_argument("--length", type=int, default=64, help="tokens")
    parser.add_argument("--contenders", nargs="+", default=list(METHODS), choices=(*METHODS, "setfit"))
    parser.add_argument("--setfit", help="command that has SetFit's package, such as /path/to/python")
    parser.add_argument("--checkpoint", help="its folder, for SetFit; ours take the one of the recipe few_shot")
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in options.contenders}
    baselines = []
    with tempfile.TemporaryDirectory() as folder:
        test = pd.read_csv(options.test, keep_default_na=False)
        if options.test_rows:
            test = test.iloc[:: -(-len(test) // options.test_rows)]
        test[["text", "label"]].to_csv(f"{folder}/test.csv", index=False)
        for seed in range(options.draws):
            draw(Path(options.train), options.per_class, seed).to_csv(f"{folder}/train.csv", index=False)
            if options.unlabelled:
                pool: Any = pd.read_csv(options.train, keep_default_na=False)[["text"]]
                pool.sample(options.unlabelled, random_state=seed).to_csv(f"{folder}/pool.csv", index=False)
            for name in options.contenders:
                command = setfit(options, folder, seed) if name == "setfit" else ours(name, options, folder, seed)
                output, seconds = timed(command)
                if name == "setfit":
                    accuracy = json.loads(output.strip().splitlines()[-1])["accuracy"]
                else:
                    metrics = json.loads(Path(folder, f"{name}-{seed}", "metrics.json").read_text())
                    accuracy = metrics["test"]["accuracy"]
                    baselines.append(metrics["baseline"]["scores"]["test"]["accuracy"])
                found[name].append((100 * accuracy, seconds))
                print(f"draw {seed}: {name} {100 * accuracy:.1f} in {seconds:.0f} CPU s, load {os.getloadavg()[0]:.1f}",
                      file=sys.stderr, flush=True)  # fmt: skip
    print("| | accuracy | of each draw | CPU s |\n|---|---|---|---|")
    if baselines:
        print(f"| TF-IDF | {100 * statistics.mean(baselines):.1f} | | |")
    for name, rows in found.items():
        scores, seconds = zip(*rows, strict=True)
        each = ", ".join(f"{score:.1f}" for score in scores)
        print(f"| {name} | {statistics.mean(scores):.1f} | {each} | {statistics.median(seconds):.0f} |")


def draw(path: Path, per_class: int, seed: int) -> pd.DataFrame:
    """So many rows of each label at random; of a row with several labels nothing is taken."""
    rows: Any = pd.read_csv(path, keep_default_na=False)[["text", "label"]]
    rows = rows[~rows.label.astype(str).str.contains("|", regex=False)]
    if not per_class:
        return rows
    return pd.concat([own.sample(min(per_class, len(own)), random_state=seed) for _, own in rows.groupby("label")])


def ours(method: str, options: argparse.Namespace, folder: str, seed: int) -> list[str]:
    """The command that trains by a method and scores."""
    settings = {
        "config": "few_shot", "data.train": f"{folder}/train.csv", "data.test": f"{folder}/test.csv",
        "training.method": method, "training.seed": seed, "run_dir": f"{folder}/{method}-{seed}",
        "text.sequence_length": options.length, "export.enabled": "false", "evaluation.cross_validation": 0,
    }  # fmt: skip
    if options.unlabelled:
        settings["data.unlabelled"] = f"{folder}/pool.csv"
    if method == "fine_tune":
        rows = len(pd.read_csv(f"{folder}/train.csv", keep_default_na=False))
        settings["training.updates"] = max(60, 3 * rows // 32)
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    return [sys.executable, "-m", "pipeline.run", *words]


def setfit(options: argparse.Namespace, folder: str, seed: int) -> list[str]:
    """The command that does the same with SetFit."""
    files = [f"{folder}/train.csv", f"{folder}/test.csv", options.checkpoint, str(seed), str(options.length)]
    return [*options.setfit.split(), "-c", SETFIT, *files]


def timed(command: list[str]) -> tuple[str, float]:
    """What a command prints, and its processor time in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
