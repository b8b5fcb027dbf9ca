"""Few labels: what each method of ours and SetFit's package make of the same rows, from the same checkpoint.

python benchmarks/few_labels.py --train train.csv --test test.csv --per_class 8

Each contender is a process of its own, asked one after the other for each draw of rows; its processor time is that of
the whole process, from its start to its scores. SetFit runs with its own defaults, in an environment that has it.
A turn is a draw of rows, whose seed is its number.
"""

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from commands import measured
from tables import Comparison, Report, add_arguments, machine_before, publish
from turns import take_turns

METHODS = ("head", "contrastive", "fine_tune", "auto")
SETFIT = """
import sys, json
from importlib.metadata import version
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
right = sum(a == str(b) for a, b in zip(found, test.label))
print(json.dumps({"accuracy": right / len(test), "version": version("setfit")}))
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="csv with the columns text and label")
    parser.add_argument("--test", required=True, help="likewise")
    parser.add_argument("--per_class", type=int, default=8, help="rows of each label; 0: all")
    parser.add_argument("--test_rows", type=int, default=0, help="only so many, evenly taken; 0: all")
    add_arguments(parser, repeats=3)
    parser.add_argument("--draws", type=int, dest="repeats", help="the same as --repeats")
    parser.add_argument("--unlabelled", type=int, default=0, help="ours also get so many texts of the training rows "
                        "without their labels")  # fmt: skip
    parser.add_argument("--length", type=int, default=64, help="tokens")
    parser.add_argument("--contenders", nargs="+", default=list(METHODS), choices=(*METHODS, "setfit"))
    parser.add_argument("--setfit", help="command that has SetFit's package, such as /path/to/python")
    parser.add_argument("--checkpoint", help="its folder, for SetFit; ours take the one of the recipe few_shot")
    options = parser.parse_args()
    left_out = {}
    if "setfit" in options.contenders and not (options.setfit and options.checkpoint):
        left_out["setfit"] = "--setfit and --checkpoint do not say where it is"
    machine = machine_before()
    with tempfile.TemporaryDirectory() as folder:
        write_test_rows(options, folder)
        asked = [name for name in options.contenders if name not in left_out]
        found, failed = take_turns(
            {name: partial(score, name, options, folder) for name in asked}, options.repeats, options.first_turn
        )
    publish(Report(compared(found, options), left_out, failed, machine=machine), options)


class Score(NamedTuple):
    """Of one contender on one draw: accuracies in percent, seconds of the processor, version of its package."""

    accuracy: float
    seconds: float
    baseline: float | None = None
    version: str = ""


def write_test_rows(options: argparse.Namespace, folder: str) -> None:
    test = pd.read_csv(options.test, keep_default_na=False)
    if options.test_rows:
        test = test.iloc[:: -(-len(test) // options.test_rows)]
    test[["text", "label"]].to_csv(f"{folder}/test.csv", index=False)


def score(name: str, options: argparse.Namespace, folder: str, seed: int) -> Score:
    """What one contender makes of a draw of rows."""
    draw(Path(options.train), options.per_class, seed).to_csv(f"{folder}/train.csv", index=False)
    if options.unlabelled:
        pool: Any = pd.read_csv(options.train, keep_default_na=False)[["text"]]
        pool.sample(options.unlabelled, random_state=seed).to_csv(f"{folder}/pool.csv", index=False)
    cost = measured(setfit(options, folder, seed) if name == "setfit" else ours(name, options, folder, seed))
    if name == "setfit":
        said = json.loads(cost.output.strip().splitlines()[-1])
        made = Score(100 * said["accuracy"], cost.processor, version=said["version"])
    else:
        metrics = json.loads(Path(folder, f"{name}-{seed}", "metrics.json").read_text())
        beside = metrics.get("baseline")
        baseline = 100 * beside["scores"]["test"]["accuracy"] if beside else None
        made = Score(100 * metrics["test"]["accuracy"], cost.processor, baseline)
    print(f"draw {seed}: {name} {made.accuracy:.1f} in {made.seconds:.0f} CPU s", file=sys.stderr, flush=True)
    return made


def compared(found: dict[str, list[Score | None]], options: argparse.Namespace) -> list[Comparison]:
    """Accuracy, TF-IDF's beside it, and processor time."""
    title = f"Few labels, {options.per_class or 'all'} rows a class"
    accuracies = {name: [made and made.accuracy for made in scores] for name, scores in found.items()}
    baselines = {
        name: [made and made.baseline for made in scores] for name, scores in found.items() if name != "setfit"
    }
    if baselines:
        accuracies["TF-IDF"] = next(iter(baselines.values()))
    versions = {name: made.version for name, scores in found.items() for made in scores if made and made.version}
    seconds = {name: [made and made.seconds for made in scores] for name, scores in found.items()}
    return [
        Comparison(f"{title}: accuracy", "% right", accuracies, facts={"version": versions} if versions else {}),
        Comparison(f"{title}: cost", "s of the processor", seconds, more_is_better=False),
    ]


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
        # TensorFlow, which it imports, takes seconds.
        from pipeline.training.plan import LEAST_UPDATES

        settings["training.updates"] = max(LEAST_UPDATES, 3 * rows // 32)
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    return [sys.executable, "-m", "pipeline.run", *words]


def setfit(options: argparse.Namespace, folder: str, seed: int) -> list[str]:
    """The command that does the same with SetFit."""
    files = [f"{folder}/train.csv", f"{folder}/test.csv", options.checkpoint, str(seed), str(options.length)]
    return [*options.setfit.split(), "-c", SETFIT, *files]


if __name__ == "__main__":
    main()
