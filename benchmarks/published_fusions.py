"""Columns beside the text as AutoGluon's paper fuses them, on the runs of benchmarks/columns.py.

python benchmarks/columns.py --films movies.json --folder runs
python benchmarks/published_fusions.py runs

The contenders of Shi et al. (2021, arXiv:2111.02705), made anew of what a run has: its fine-tuned network of the text
alone, and scikit-learn's gradient boosting on the columns. All-Text is `model.fusion text` and Fuse-Late is `concat`,
which columns.py runs. Here are the two of several models: Weighted-Ensemble, the greedy selection of Caruana et al.
(2004) by the validation rows' log loss; and Stack-Ensemble, trees over the columns and the out-of-fold probabilities of
network and trees, in one layer, without the paper's repeated folds.
"""

import argparse
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from columns import shown

from pipeline.assemble import assemble, seed_all
from pipeline.data.load import DataSplits
from pipeline.data.split import Split
from pipeline.evaluation.boosting import column_matrix
from pipeline.methods.trials import Trials
from pipeline.rows_of_run import config_of, rows_of
from pipeline.training.checkpoint import load_finished
from pipeline.training.workers import Workers

# Of the greedy selection: models that are added, one at a time.
ROUNDS = 40


@dataclass
class Network:
    """Probabilities of the text alone, [n, C]: of training rows by networks that have not seen them."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="columns.py's --folder, with its runs of `text alone` and `concat`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5, help="of the stack")
    options = parser.parse_args()
    found: dict[str, list[dict]] = {}
    for seed in range(options.seeds):
        before = resource.getrusage(resource.RUSAGE_SELF)
        data = rows_of(config_of(options.folder / f"concat-{seed}"))
        network = of_network(options.folder / f"text-alone-{seed}", data, options.folds)
        for name, probabilities in contenders(data, network).items():
            scores = data.task.headline(data.task.scores(split_of(data.test).targets(), probabilities))
            found.setdefault(name, []).append(scores)
            print(name, seed, scores, flush=True)
        after = resource.getrusage(resource.RUSAGE_SELF)
        print(f"{after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime:.0f} CPU s", flush=True)
    print("\n| | macro F1 | accuracy |\n|---|---|---|")
    for name, results in found.items():
        print(f"| {name} | {shown(results, 'macro_f1')} | {shown(results, 'accuracy')} |")


def split_of(split: Split | None) -> Split:
    """A split that is there."""
    assert split is not None, "the run has it"
    return split


def of_network(folder: Path, data: DataSplits, folds: int) -> Network:
    """What the run of the text alone predicts; `data`, of the run with columns, has the same rows."""
    config = config_of(folder)
    seed_all(config.training)
    own, workers = rows_of(config), Workers()
    for mine, theirs in ((own.train, data.train), (own.validation, data.validation), (own.test, data.test)):
        assert np.array_equal(split_of(mine).targets(), split_of(theirs).targets())
    run = assemble(config, own, tf.distribute.get_strategy())
    _, logits = Trials(run, split_of(own.train), workers).out_of_fold("fine_tune", folds)
    load_finished(folder / "checkpoints", run.model)
    forward = run.forward("logits", workers)
    others = [forward(split_of(split)) for split in (own.validation, own.test)]
    return Network(*(own.task.activation(tf.constant(found)).numpy() for found in (logits, *others)))


def contenders(data: DataSplits, network: Network) -> dict[str, np.ndarray]:
    """Probabilities of the test rows, [n, C], by contender."""
    train, validation, test = (split_of(split) for split in (data.train, data.validation, data.test))
    matrix = column_matrix(train, data.features.columns)
    columns = [matrix(split) for split in (train, validation, test)]
    labels = train.targets()

    def trees(features: np.ndarray, values: np.ndarray, others: list[np.ndarray]) -> list[np.ndarray]:
        return data.task.baseline_predictions(features, values, others, boosted=True)

    on_validation, on_test = trees(columns[0], labels, columns[1:])
    weights = greedy([network.validation, on_validation], validation.targets())
    outside = out_of_fold(columns[0], labels, trees)
    beside = [(network.train, outside), (network.validation, on_validation), (network.test, on_test)]
    stacked = [np.concatenate([own, *others], axis=1) for own, others in zip(columns, beside, strict=True)]
    return {
        "gradient boosting on the columns": on_test,
        "Weighted-Ensemble": weights[0] * network.test + weights[1] * on_test,
        "Stack-Ensemble": trees(stacked[0], labels, stacked[2:])[0],
    }


def out_of_fold(features: np.ndarray, labels: np.ndarray, trees: Callable, folds: int = 5) -> np.ndarray:
    """Probabilities of rows by trees that have not seen them, [n, C]."""
    from sklearn.model_selection import StratifiedKFold

    parts, found = StratifiedKFold(folds, shuffle=True, random_state=0).split(features, labels), []
    for kept, out in parts:
        (made,) = trees(features[kept], labels[kept], [features[out]])
        found.append((out, made))
    order = np.concatenate([out for out, _ in found])
    return np.concatenate([made for _, made in found])[np.argsort(order)]


def greedy(probabilities: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Weights of models, adding up to 1: each round adds the one that lowers the log loss most."""
    counts, total = np.zeros(len(probabilities)), np.zeros_like(probabilities[0])
    for size in range(1, ROUNDS + 1):
        losses = [-np.log((total + one)[np.arange(len(labels)), labels] / size + 1e-9).mean() for one in probabilities]
        best = int(np.argmin(losses))
        counts[best] += 1
        total = total + probabilities[best]
    return counts / ROUNDS


if __name__ == "__main__":
    main()
