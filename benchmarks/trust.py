"""What a model's probabilities, sets and fit are worth, asked of its SavedModel: the table of benchmarks/README.md.

    python benchmarks/trust.py RUN test.csv out_of_scope.csv
    python benchmarks/trust.py RUN test.csv out_of_scope.csv --without VERSION_WITHOUT_FIT   # also what fit costs

RUN was exported with export.coverage, export.outside and export.abstain_error; the files have columns text and label.
"""

import argparse
import os
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from machine import load as load_of_machine
from turns import ratios, spread, take_turns

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("outside", type=Path)
    parser.add_argument("--without", type=Path, help="a version of the same weights without fit")
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    from export import load

    model = load(options.run)
    test, outside = pd.read_csv(options.test), pd.read_csv(options.outside)
    inside_answers, outside_answers = model(test.text.tolist()), model(outside.text.tolist())
    probabilities(model, inside_answers, test.label)
    sets(model, test)
    fits(inside_answers, outside_answers)
    if options.without:
        cost({"with fit": model, "without": load(options.without)}, test.text.tolist(), options.turns)


def probabilities(model, answers, labels: pd.Series) -> None:
    """Accuracy, calibration error, and what abstaining leaves."""
    from pipeline.tasks.label_scores import calibration

    found = np.array(model.task.names)[answers.probabilities.argmax(1)]
    right = found == labels.to_numpy()
    print(f"accuracy {right.mean():.4f}, ECE {calibration(answers.scores, right)['ece']:.4f}")
    given = answers.scores >= np.float32(model.task.abstain_below)
    if model.task.abstention:
        print(f"abstaining for {model.task.abstention.error:.1%} errors: answered {given.mean():.4f}, wrong among them "
              f"{1 - right[given].mean():.4f}")  # fmt: skip


def sets(model, test: pd.DataFrame) -> None:
    """Coverage and size of the signature `set`."""
    import tensorflow as tf

    signature = tf.saved_model.load(str(model.version)).signatures["set"]
    covered, sizes = [], []
    for start in range(0, len(test), 64):
        rows = test.iloc[start : start + 64]
        answer = {name: value.numpy() for name, value in signature(text=tf.constant(rows.text.tolist())).items()}
        covered += [label.encode() in found for label, found in zip(rows.label, answer["set_labels"], strict=True)]
        sizes += answer["set_size"].tolist()
    sizes = np.array(sizes)
    print(f"sets: coverage {np.mean(covered):.4f}, mean size {sizes.mean():.3f}, single {(sizes == 1).mean():.3f}, "
          f"empty {(sizes == 0).mean():.3f}")  # fmt: skip


def fits(inside, outside) -> None:
    """How well texts that belong nowhere are told from others."""
    from sklearn.metrics import roc_auc_score, roc_curve

    truth = np.append(np.ones(len(inside)), np.zeros(len(outside)))
    print("score                 AUROC   FPR at 95 %")
    for name, of in (("highest probability", lambda a: a.scores), ("fit", lambda a: a["fit"])):
        values = np.append(of(inside), of(outside))
        false, true, _ = roc_curve(truth, values)
        print(f"{name:20}  {roc_auc_score(truth, values):.3f}   {false[np.argmax(true >= 0.95)]:.3f}")
    kept, caught = (np.array(inside.labels) != "outside").mean(), (np.array(outside.labels) == "outside").mean()
    print(f"answered as outside: {1 - kept:.3f} of the texts inside, {caught:.3f} of those outside")


def cost(models: dict, texts: list[str], turns: int) -> None:
    """CPU time of answers with and without fit, in turn."""
    for size, count in ((1, 300), (32, 1600)):

        def spent(name: str, _: int, size: int = size, count: int = count) -> float:
            before = time.process_time()
            for start in range(0, count, size):
                models[name](texts[start : start + size], batch_size=size)
            return time.process_time() - before

        asked = {name: partial(spent, name) for name in models}
        # The first turn traces and warms up.
        take_turns(asked, 1)
        seconds, _ = take_turns(asked, turns)
        found = spread(ratios(seconds["without"], seconds["with fit"], more_is_better=False))
        print(
            f"{size} texts a request: CPU time with fit {found.show('.3f')} of that without, load {load_of_machine()}"
        )


if __name__ == "__main__":
    main()
