"""An audit of a real model, with the noise that is claimed and with less: what `pipeline.privacy audit` finds.

python benchmarks/audit.py --train train.csv --test dev.csv --rows 1000 --noise 1 0.1 0

Needs `.[privacy]`. For each share of the noise the quickstart's checkpoint is trained with that much, and claims
epsilon all the same; then the audit trains again with canaries, attacks and compares. 1: a contradiction, 0: none.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd

from pipeline import train
from pipeline.command_line import parse
from pipeline.privacy import prepare
from pipeline.privacy.audit import audit
from pipeline.privacy.model import Mechanism


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True, help="csv with the columns text and label, of two labels: 0 and 1")
    parser.add_argument("--test", required=True, help="likewise, public rows")
    parser.add_argument("--rows", type=int, default=1000, help="of the training file, at random")
    parser.add_argument("--epsilon", type=float, default=1.0, help="claimed")
    parser.add_argument("--clip_norm", type=float, default=1.0)
    parser.add_argument("--canaries", type=int, default=500)
    parser.add_argument("--batch", type=int, default=256, help="rows of an update, on average")
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--trainable", default="all", help="training.trainable")
    parser.add_argument("--noise", type=float, nargs="+", default=[1, 0.1, 0], help="shares of what is claimed")
    options = parser.parse_args()
    print("| noise | audit finds at least | right guesses | contradicts | accuracy | CPU s |\n" + "|---" * 6 + "|")
    with tempfile.TemporaryDirectory() as folder:
        rows = pd.read_csv(options.train, keep_default_na=False)
        rows.sample(options.rows, random_state=0)[["text", "label"]].to_csv(f"{folder}/train.csv", index=False)
        pd.read_csv(options.test, keep_default_na=False)[["text", "label"]].to_csv(f"{folder}/test.csv", index=False)
        for share in options.noise:
            audited(share, options, Path(folder))


def audited(share: float, options: argparse.Namespace, folder: Path) -> None:
    """Train with a share of the noise, audit, and print a line."""
    before = time.process_time()
    run_dir = folder / f"noise-{share:g}"
    settings = {
        "config": "quickstart", "run_dir": run_dir, "data.train": folder / "train.csv",
        "data.test": folder / "test.csv", "data.validation_fraction": 0, "data.test_fraction": 0,
        "data.text_columns": "[text]", "data.label_column": "label", "data.labels": "['0', '1']",
        "text.sequence_length": 64, "training.epochs": options.passes, "training.batch_size": options.batch,
        "training.accumulation": max(1, options.batch // 64), "training.learning_rate": options.rate,
        "training.trainable": options.trainable, "training.privacy.epsilon": options.epsilon,
        "training.privacy.clip_norm": options.clip_norm, "export.enabled": "false",
    }  # fmt: skip
    true_mechanism = prepare._mechanism

    def weaker(statement, secret) -> Mechanism:
        true = true_mechanism(statement, secret)
        return replace(true, noise=true.noise * share)

    prepare._mechanism = weaker
    try:
        train(parse([word for key, value in settings.items() for word in (f"--{key}", str(value))]))
        status = audit(run_dir, options.canaries, seed=0)
    finally:
        prepare._mechanism = true_mechanism
    found = json.loads((run_dir / "audit" / "audit.json").read_text("utf-8"))
    metrics = json.loads((run_dir / "metrics.json").read_text("utf-8"))
    cells = (
        f"x {share:g}", f"{found['epsilon']:.2f}", f"{found['right']} of {found['guesses']}", "yes" if status else "no",
        f"{metrics['test']['accuracy']:.1%}", f"{time.process_time() - before:.0f}",
    )  # fmt: skip
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
