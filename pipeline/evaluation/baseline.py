"""What a linear model over TF-IDF learns from the same rows, beside the score: whether BERT is worth its price."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.data.folds import part
from pipeline.data.formats import whole_file
from pipeline.data.split import Split
from pipeline.evaluation.boosting import column_matrix, with_texts
from pipeline.evaluation.interval import interval_of
from pipeline.features.columns import Column
from pipeline.tasks.task import RowScores, Task

NAME = "TF-IDF with a linear model"
COLUMNS_NAME, TOGETHER_NAME = "gradient boosting on the columns", "gradient boosting on the columns and TF-IDF"
# With more training rows, or rows times classes, it takes longer than people wait for it.
MOST_ROWS, MOST_DECISIONS = 50_000, 5_000_000
# A tree a label is grown of all rows, a hundred times: 20 to 35 seconds a fit on one core at the limit, of which there
# are two.
MOST_BOOSTED = 100_000
# The optimizer of logistic regression keeps some 25 copies of the weights, features times classes.
MOST_FEATURES, MOST_WEIGHTS = 200_000, 8_000_000
SAMPLE = 1000
# Scripts that put no spaces between words: Thai to Khmer, Japanese, Chinese.
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0002fa1f]")

# Texts of a column, bytes [n], to a string tensor of what is read of them.
Redacted = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class Baseline:
    """What it scores.

    Attributes:
        scores: Task.scores of each split, by its name.
        better: by how much the model is better than it on the rows of a split, by its name: the mean difference of
            Task.row_scores, and its 95 % interval.
        name: what it is.
    """

    scores: dict[str, dict[str, Any]]
    better: dict[str, tuple[float, float, float]]
    name: str = NAME

    def metrics(self, task: Task) -> dict[str, Any]:
        """For metrics.json."""
        found = {name: task.headline(scores) for name, scores in self.scores.items()}
        better = {name: dict(zip(("by", "from", "to"), values, strict=True)) for name, values in self.better.items()}
        return {"name": self.name, "scores": found, "model_is_better": better}

    @classmethod
    def of_metrics(cls, found: dict[str, Any]) -> "Baseline":
        """What `metrics` has given, with no other scores than these."""
        better = {name: (one["by"], one["from"], one["to"]) for name, one in found["model_is_better"].items()}
        return cls(found["scores"], better, found["name"])

    def line(self, task: Task, name: str) -> str:
        """For the terminal, of one split."""
        return f"{self.name} on the same rows: {headline(task, self.scores[name])}"

    def warning(self, name: str) -> str | None:
        """Where the model is not clearly better."""
        by, low, high = self.better[name]
        if low > 0:
            return None
        kind = "worse than" if high < 0 else "not clearly better than"
        return (
            f"The model is {kind} {self.name} on the {name} rows: the difference is {by:+.3f} a row (95 % interval "
            f"{low:+.3f} to {high:+.3f})."
        )


def baselines(
    predicted: dict[str, np.ndarray],
    train: Split,
    splits: list[Split],
    task: Task,
    columns: tuple[Column, ...] = (),
    redacted: Redacted | None = None,
) -> list[Baseline]:
    """Learn from the training rows, and compare with a model: a linear one over TF-IDF, and where there are columns
    beside the text gradient boosting on them, alone and with TF-IDF.

    Args:
        predicted: the model's predictions, float32 [n, K], by the name of a split.
        train: the rows.
        splits: to score.
        task: with the settings of its answers, before validation rows decide anything: they do for each by its own
            predictions.
        columns: of the rows.
        redacted: what a baseline reads of texts, as the model does; None: all.
    """
    vectors = Tfidf(train, MOST_WEIGHTS // task.baseline_outputs, redacted)
    texts = [vectors(split) for split in (train, *splits)]
    made = task.baseline_predictions(texts[0], train.targets(), texts[1:])
    # With fewer features than it would have it is a weaker baseline, which its name says.
    name = f"TF-IDF of {texts[0].shape[1]:,} features with a linear model" if vectors.cut else NAME
    served = calibrated(task, splits, predicted)
    of_model = {split.name: served.row_scores(split.targets(), predicted[split.name]) for split in splits}
    found = [_scored(name, made, of_model, splits, task)]
    if not columns:
        return found
    matrix = column_matrix(train, columns)
    alone = [matrix(split) for split in (train, *splits)]
    for name, (rows, *others) in ((COLUMNS_NAME, alone), (TOGETHER_NAME, with_texts(alone, texts))):
        # On a busy machine its threads wait for each other, many times as long as one works.
        with threadpool_limits(1):
            made = task.baseline_predictions(rows, train.targets(), others, boosted=True)
        found.append(_scored(name, made, of_model, splits, task))
    return found


def out_of_fold_baseline(
    predicted: np.ndarray,
    rows: Split,
    folds: np.ndarray,
    taught: np.ndarray | None,
    task: Task,
    redacted: Redacted | None = None,
    kept: Path | None = None,
) -> Baseline:
    """The linear model over TF-IDF, learned without each fold in turn, compared with a model's predictions.

    Args:
        predicted: the model's, float32 [n, K].
        rows: n of them; their name is that of the scores.
        folds: int [n], from 0.
        taught: bool [folds, n], the rows that may be learned from where a fold is asked about; None: all others.
        task: with the settings of its answers.
        redacted: what the baseline reads of texts, as the model does; None: all.
        kept: file of its predictions, for the next time; None: they are not kept.
    """
    if kept is not None and kept.is_file():
        with np.load(kept) as found:
            made, name = found["made"], str(found["name"])
    else:
        made, name = _out_of_fold(rows, folds, taught, task, redacted, predicted.shape[1])
        if kept is not None:
            with whole_file(kept) as file:
                np.savez(file, made=made, name=name)
    return _scored(name, [made], {rows.name: task.row_scores(rows.targets(), predicted)}, [rows], task)


def _out_of_fold(
    rows: Split, folds: np.ndarray, taught: np.ndarray | None, task: Task, redacted: Redacted | None, outputs: int
) -> tuple[np.ndarray, str]:
    """Predictions of models that have not seen a row, float64 [n, outputs], and what they are called."""
    made, name = np.zeros((len(rows), outputs)), NAME
    for fold in np.unique(folds):
        out = folds == fold
        known = ~out if taught is None else ~out & taught[fold]
        if known.any():
            learned, asked = part(rows, known), part(rows, out)
            vectors = Tfidf(learned, MOST_WEIGHTS // task.baseline_outputs, redacted)
            made[out] = task.baseline_predictions(vectors(learned), learned.targets(), [vectors(asked)])[0]
            name = f"{NAME}, of fewer features" if vectors.cut else name
    return made, name


def headline(task: Task, scores: dict[str, Any]) -> str:
    """The task's main scores on one line, those that are defined."""
    return ", ".join(
        f"{key.replace('_', ' ')} {value:.3f}" for key, value in task.headline(scores).items() if value is not None
    )


def _scored(
    name: str, made: list[np.ndarray], of_model: dict[str, RowScores], splits: list[Split], task: Task
) -> Baseline:
    """What a baseline's predictions of the splits are worth beside a model's."""
    scores, better = {}, {}
    own = {split.name: predictions for split, predictions in zip(splits, made, strict=True)}
    # A threshold that was tuned for another's probabilities would make it look worse than it is.
    of_own = calibrated(task, splits, own)
    for split in splits:
        values, at = split.targets(), split.name
        scores[at] = of_own.scores(values, own[at])
        ours, theirs = of_model[at], of_own.row_scores(values, own[at])
        gained = (ours.values - theirs.values) * (1.0 if ours.higher_is_better else -1.0)
        mean = float(gained.mean())
        # Rows are paired, so the difference is known better than either score.
        low, high = interval_of(gained, share=False) or (mean, mean)
        better[at] = mean, low, high
    return Baseline(scores, better, name)


def calibrated(task: Task, splits: list[Split], predictions: dict[str, np.ndarray]) -> Task:
    """The task with what the validation rows decide about answers, where they are among the splits.

    Args:
        task: with the settings of its answers.
        splits: any.
        predictions: float32 [n, K], by the name of a split.
    """
    validation = next((split for split in splits if split.name == "validation"), None)
    return task if validation is None else task.calibrated(validation.targets(), predictions[validation.name])


class Tfidf:
    """From the rows of a split to a sparse matrix [n, features], learned from the training rows: one and two words, or
    one to three characters where most writing has no spaces; column by column, of each the most frequent.

    Args:
        train: the rows.
        most: features of all columns together, if not MOST_FEATURES of each.
        redacted: what is read of texts; None: all.

    Attributes:
        cut: whether `most` leaves a column less than it would have.
    """

    def __init__(self, train: Split, most: int | None = None, redacted: Redacted | None = None):
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._redacted, columns = redacted, _texts(train, redacted)
        kind: Any = {"analyzer": "char", "ngram_range": (1, 3)} if unspaced(columns[0]) else {"ngram_range": (1, 2)}
        # Words of one letter count too, and nothing is a stop word.
        kind |= {} if "analyzer" in kind else {"token_pattern": r"(?u)\b\w+\b|[^\w\s]"}
        limit = MOST_FEATURES if most is None else min(MOST_FEATURES, max(1, most // len(columns)))
        self._fitted = [
            TfidfVectorizer(sublinear_tf=True, max_features=limit, **kind).fit(column) if any(column) else None
            for column in columns
        ]
        full = any(len(made.vocabulary_) == limit for made in self._fitted if made is not None)
        self.cut = full and limit < MOST_FEATURES

    def __call__(self, split: Split) -> Any:
        from scipy.sparse import hstack

        pairs = zip(self._fitted, _texts(split, self._redacted), strict=True)
        return hstack([made.transform(column) for made, column in pairs if made is not None], format="csr")


def _texts(split: Split, redacted: Redacted | None) -> list[list[str]]:
    """Of each column."""
    columns = split.texts(slice(None))
    shown = columns if redacted is None else [redacted(column).numpy() for column in columns]
    return [[text.decode() for text in column] for column in shown]


def unspaced(texts: list[str]) -> bool:
    """Whether most letters of a sample are of a script without spaces between words."""
    sample = "".join(texts[:: -(-len(texts) // SAMPLE)])
    return 2 * len(UNSPACED.findall(sample)) > sum(map(str.isalpha, sample))
