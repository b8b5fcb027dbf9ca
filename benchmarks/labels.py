"""What the care of labels is worth: wrong labels that were planted and found, and texts chosen to be labelled.

    python benchmarks/labels.py --train train.csv --test test.csv

All is done on the vectors of a checkpoint as it is, with a linear layer (training.method head). Of the training rows a
share gets a wrong label, at random; what `python -m pipeline.labels check` doubts is compared with these, and layers
are learned from the noisy rows, from those that are left without the doubted ones, and from the true ones, all with the
C that the noisy rows have chosen. Then texts of a pool are labelled in rounds, by `python -m pipeline.labels next` or
at random. Where cleanlab is installed, its find_label_issues judges the same predictions.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from finetune import CHECKPOINT

from pipeline import Config
from pipeline.data.load import load
from pipeline.data.split import Split
from pipeline.labels.choose import choose
from pipeline.labels.vectors import frozen
from pipeline.methods.learned import Learned, learn
from pipeline.methods.linear import Examples, LinearFit
from pipeline.tasks.task import Task


@dataclass
class Relabelled:
    """Targets of a split in place of its own.

    Attributes:
        task: of the classes.
        classes: int [rows of the store].
    """

    task: Task
    classes: np.ndarray

    def values(self, rows: np.ndarray) -> np.ndarray:
        return self.classes[rows]

    def probabilities(self, rows: np.ndarray) -> None:
        """There are none."""

    def strata(self, rows: np.ndarray) -> np.ndarray:
        return self.classes[rows]


@dataclass(frozen=True)
class Data:
    """Rows with their vectors."""

    task: Task
    train: Split
    vectors: np.ndarray
    test: Split
    test_vectors: np.ndarray

    def part(self, rows: np.ndarray, labels: np.ndarray | None = None) -> Split:
        """Some of the training rows, with other labels for all of them."""
        targets = self.train.of_store if labels is None else Relabelled(self.task, labels)
        return replace(self.train, rows=self.train.rows[rows], of_store=targets)

    def learned(self, rows: np.ndarray, seed: int, labels: np.ndarray | None = None) -> Learned:
        """From some of the training rows."""
        return learn(self.task, self.part(rows, labels), self.vectors[rows], seed)

    def again(self, like: Learned, rows: np.ndarray, labels: np.ndarray | None = None) -> Learned:
        """The same from other rows, with the C that is known."""
        targets = self.part(rows, labels).training_targets(self.task, slice(None))
        examples = Examples(self.vectors[rows], targets, np.ones(len(rows), np.float32))
        return replace(like, layer=LinearFit(self.task).fitted(examples, like.strength))

    def accuracy(self, learned: Learned) -> float:
        """On the test rows, in percent."""
        return 100 * float((learned.predict(self.test_vectors).argmax(axis=1) == self.test.targets()).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", required=True, help="csv with columns text and label")
    parser.add_argument("--test", required=True)
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="folder or wheel:...")
    parser.add_argument("--noise", type=float, nargs="*", default=[0.2], help="shares of wrong labels")
    parser.add_argument("--pool", type=int, default=1800, help="texts to choose from")
    parser.add_argument("--rounds", type=int, nargs="*", default=[*range(25, 201, 25)], help="labels after each round")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = read(options, Path(folder))
        for share in options.noise:
            report(f"{share:.0%} wrong", [planted(data, share, seed) for seed in range(options.seeds)])
        if options.rounds:
            for name, rule in (("random", at_random), ("chosen", by_choice)):
                found = [labelled(data, options.pool, options.rounds, rule, seed) for seed in range(options.seeds)]
                report(name, found)


def read(options: argparse.Namespace, folder: Path) -> Data:
    """The rows, and what the checkpoint makes of them."""
    config = Config(run_dir=str(folder))
    config.data.train, config.data.test, config.data.validation_fraction = options.train, options.test, 0.0
    config.model.backbone, config.model.pooling, config.text.sequence_length = options.checkpoint, "mean", 64
    data = load(config.data, folder / "data")
    forward = frozen(config, data.features)
    assert data.train is not None and data.test is not None
    begun = time.process_time()
    found = Data(data.task, data.train, forward(data.train), data.test, forward(data.test))
    print(f"{len(data.train)} + {len(data.test)} rows, vectors in {time.process_time() - begun:.0f} CPU seconds")
    return found


def planted(data: Data, share: float, seed: int) -> dict[str, float]:
    """Give a share of the rows another label, and look for them."""
    chance, rows = np.random.default_rng(seed), np.arange(len(data.train))
    true, classes = data.train.targets(), data.task.outputs
    wrong = chance.random(len(rows)) < share
    given = np.where(wrong, (true + chance.integers(1, classes, len(rows))) % classes, true)
    labels = np.empty(len(data.train.store.hashes), np.int64)
    labels[data.train.rows] = given
    begun = time.process_time()
    noisy = data.learned(rows, seed, labels)
    doubts = data.task.doubts(given, noisy.held_out)
    found = {"CPU seconds": time.process_time() - begun}
    worst = np.argsort(doubts.quality)[: int(wrong.sum())]
    found |= judged(doubts.wrong, wrong) | {
        "suggested right": float((doubts.suggested == true)[doubts.wrong & wrong].mean()),
        "precision of the worst, as many as are wrong": float(wrong[worst].mean()),
        "noisy": data.accuracy(noisy),
        "cleaned": data.accuracy(data.again(noisy, rows[~doubts.wrong], labels)),
        "true": data.accuracy(data.again(noisy, rows)),
    }
    try:
        from cleanlab.filter import find_label_issues  # pyright: ignore[reportMissingImports]
    except ImportError:
        return found
    theirs = find_label_issues(given, noisy.held_out.astype(np.float64), n_jobs=1)
    return found | {f"cleanlab {name}": value for name, value in judged(theirs, wrong).items()}


def judged(doubted: np.ndarray, wrong: np.ndarray) -> dict[str, float]:
    """Shares: of the doubted rows those that are wrong, and of the wrong ones those that are doubted."""
    return {"precision": float(wrong[doubted].mean()), "recall": float(doubted[wrong].mean())}


Rule = Callable[[Data, np.ndarray, Learned | None, int, int], np.ndarray]
"""From the rows left in the pool, what was learned from those that are labelled, how many, and a seed to rows."""


def at_random(data: Data, left: np.ndarray, learned: Learned | None, count: int, seed: int) -> np.ndarray:
    """Any."""
    return np.random.default_rng([seed, len(left)]).choice(left, count, replace=False)


def by_choice(data: Data, left: np.ndarray, learned: Learned | None, count: int, seed: int) -> np.ndarray:
    """As `python -m pipeline.labels next`."""
    vectors = data.vectors[left]
    unsure = None if learned is None else data.task.uncertainty(learned.predict(vectors))
    return left[choose(vectors, count, seed, unsure)]


def labelled(data: Data, size: int, rounds: list[int], rule: Rule, seed: int) -> dict[str, float]:
    """Test accuracy after each round."""
    pool = np.random.default_rng(seed).choice(len(data.train), size, replace=False)
    rows, learned, found = np.zeros(0, np.int64), None, {}
    for total in rounds:
        rows = np.concatenate([rows, rule(data, np.setdiff1d(pool, rows), learned, total - len(rows), seed)])
        learned = data.learned(rows, seed)
        found[f"{total} labels"] = data.accuracy(learned)
    return found


def report(name: str, found: list[dict[str, float]]) -> None:
    """Means, and the values of each seed."""
    for key in found[0]:
        values = [one[key] for one in found]
        form = ".1f" if max(values) > 1 else ".3f"
        print(
            f"{name}: {key} {statistics.mean(values):{form}} ({', '.join(f'{v:{form}}' for v in values)})", flush=True
        )


if __name__ == "__main__":
    main()
