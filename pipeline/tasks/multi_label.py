"""Any number of named classes a row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import expit

from pipeline.data.config import DataConfig
from pipeline.errors import UserError
from pipeline.evaluation.formatting import number, one_line, percent, quoted
from pipeline.evaluation.interval import wilson
from pipeline.labels.confident import Doubts, doubt_labels
from pipeline.tasks import label_answers as answers
from pipeline.tasks import label_page as pages
from pipeline.tasks import label_scores as metrics
from pipeline.tasks.label_task import BASELINE_C, LabelTask
from pipeline.tasks.labels import LabelReader, SeveralLabels, label_of, list_in, names_of
from pipeline.tasks.soft_labels import ColumnReader
from pipeline.tasks.task import Groups, Headline, Outputs, Page, ScoreTable, TargetReader, Tile
from pipeline.tasks.thresholds import best_f1_threshold, tuning_warnings

DEFAULT_SEPARATOR = "|"


class Reader(LabelReader):
    """Labels divided by a separator, or a list of them, in one cell."""

    def __init__(self, data):
        super().__init__(data)
        self.separator = data.label_separator
        self.names = [name.strip() for name in data.labels or ()]
        # Whether all cells so far may be multi-hot lists, and how long they are.
        self.hot_lengths: set[int] | None = set()

    def read(self, cells: Sequence[Any]) -> list[str]:
        (cell,) = cells
        found = list_in(cell)
        if found is None:
            self.hot_lengths = None
            text = label_of(cell)
            parts = text.split(self.separator) if self.separator else [text]
            # An empty cell is a row without any label.
            return sorted({name for name in map(label_of, parts) if name})
        if self._is_hot(found):
            if self.names and len(found) == len(self.names) and not set(self.names) <= {"0", "1"}:
                return sorted(name for name, given in zip(self.names, found, strict=True) if given)
            if self.hot_lengths is not None:
                self.hot_lengths.add(len(found))
        else:
            self.hot_lengths = None
        labels = sorted({name for name in map(label_of, found) if name})
        holding = [name for name in labels if (self.separator or DEFAULT_SEPARATOR) in name]
        if holding:
            raise ValueError(
                f"has a label {holding[0]!r} that holds {self.separator or DEFAULT_SEPARATOR!r}, which divides the "
                "labels of an answer: set data.label_separator to what no label holds"
            )
        return labels

    def _is_hot(self, found: list) -> bool:
        return len(found) > 1 and all(isinstance(value, (int, bool, np.integer)) and value in (0, 1) for value in found)

    def summary(self) -> dict[str, Any]:
        if self.hot_lengths and len(self.hot_lengths) == 1 and self.end:
            (length,) = self.hot_lengths
            raise UserError(
                f"the column {self.data.label_column!r} holds lists of {length} zeros and ones, one for each label: "
                f"name the {length} labels, in that order, with data.labels."
            )
        return {"labels": list(self.ids)}


@dataclass(frozen=True)
class MultiLabel(LabelTask):
    """Every class of at least its threshold, joined by `separator` in the order of `names`; "" where there is none.

    Predictions are probabilities of independent classes, float32 [n, C], in the order of `names`; values are multi-hot,
    [n, C].
    """

    threshold: float = 0.5
    separator: str = DEFAULT_SEPARATOR
    thresholds: tuple[float, ...] | None = None
    """Of each class, tuned; None: `threshold` is that of all."""
    tuning: bool = field(default=False, compare=False, kw_only=True)
    """Whether validation rows decide the thresholds."""
    tuned_on: tuple[int, ...] = field(default=(), compare=False, kw_only=True)
    """Validation rows of each class, once they have."""

    name = "multi_label"
    independent = True
    problem_type = "multi_label_classification"
    monitors: ClassVar = {"macro_f1": True, "micro_f1": True, "accuracy": True, "weighted_f1": True, "loss": False}
    curves: ClassVar = {
        "accuracy": "validation_accuracy",
        "macro F1": "validation_macro_f1",
        "micro F1": "validation_micro_f1",
    }

    # From the data.

    @classmethod
    def fits(cls, data) -> bool:
        return data.label_separator is not None or bool(data.label_columns)

    @classmethod
    def check(cls, config) -> None:
        for setting in ("abstain_below", "abstain_error", "coverage"):
            if getattr(config.export, setting):
                raise UserError(
                    f"export.{setting} is for one label a row; with several labels use evaluation.threshold."
                )
        if config.training.class_weights != "none":
            raise UserError("training.class_weights is for one label a row: unset it.")
        if config.data.label_separator is not None and config.data.label_columns:
            raise UserError("data.label_separator and data.label_columns: give one of them.")

    @classmethod
    def columns(cls, data) -> list[str]:
        return list(data.label_columns or [data.label_column])

    @classmethod
    def reader(cls, data) -> TargetReader:
        return ColumnReader(data) if data.label_columns else Reader(data)

    @classmethod
    def of(cls, data, train) -> Self:
        return cls._of(
            tuple(data.label_columns or ()) or names_of(data, train.meta.target["labels"], train.meta.sources), data
        )

    @classmethod
    def stand_in(cls, data) -> Self:
        return cls._of(tuple(data.label_columns or data.labels or ("no", "yes")), data)

    @classmethod
    def _of(cls, names: tuple[str, ...], data: DataConfig) -> Self:
        separator = data.label_separator or DEFAULT_SEPARATOR
        holding = [name for name in names if separator in name]
        if holding:
            raise UserError(
                f"the label {holding[0]!r} holds {separator!r}, which divides the labels of an answer: set "
                "data.label_separator to what no label holds."
            )
        return cls(names, separator=separator)

    def targets(self, store, known: str) -> SeveralLabels:
        return SeveralLabels(store, self.names, known)

    def class_counts(self, values: np.ndarray) -> np.ndarray:
        return values.sum(axis=0).astype(int)

    def calibrated(self, values: np.ndarray, predictions: np.ndarray) -> Self:
        """With the thresholds of the best F1 of each class, where they are tuned; a class that no row has keeps
        `threshold`."""
        if not self.tuning:
            return self
        metrics.refuse_not_numbers(predictions)
        given, counts = values.astype(bool), self.class_counts(values).tolist()
        thresholds = tuple(
            best_f1_threshold(given[:, i], predictions[:, i]) if counts[i] else self.threshold
            for i in range(len(self.names))
        )
        return replace(self, thresholds=thresholds, tuned_on=tuple(counts))

    def describe(self) -> str:
        return f"{len(self.names)} labels, any number a row"

    def groups(self, values: np.ndarray) -> Groups:
        return Groups(values.sum(axis=1).astype(np.int64), np.nonzero(values)[1], self.names)

    # The care of labels.

    def doubts(self, values: np.ndarray, predictions: np.ndarray) -> Doubts:
        return doubt_labels(values, predictions)

    def uncertainty(self, predictions: np.ndarray) -> np.ndarray:
        """Of the label that is nearest to its threshold."""
        return -np.abs(predictions - self._limits).min(axis=1)

    def written(self, values: np.ndarray) -> list[str]:
        names = np.array(self.names, object)
        return [self.separator.join(names[row > 0]) for row in values]

    # To the model.

    def training_targets(self, values: np.ndarray) -> np.ndarray:
        return values.astype(np.float32)

    def example_weights(self, values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        raise UserError("training.class_weights is for one label a row: unset it.")

    def loss(self, label_smoothing: float = 0.0):
        """The mean over the labels of binary cross-entropies; label_smoothing is between yes and no."""
        import keras

        return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=label_smoothing, reduction=None)

    def soft_loss(self, teacher, student, temperature: float):
        """As SingleLabel's, the mean over the labels of binary cross-entropies."""
        import tensorflow as tf

        teacher, student = tf.stop_gradient(teacher) / temperature, student / temperature
        losses = tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(teacher), student)
        return temperature**2 * tf.reduce_mean(losses, axis=-1)

    def activation(self, logits):
        import tensorflow as tf

        return tf.sigmoid(logits)

    @property
    def activation_steps(self):
        return (("Sigmoid", None),)

    # Scores.

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """bool [n, C], as the exported model decides."""
        # Not in float64: 0.7 as float32 lies below 0.7, and the exported model compares in float32.
        return np.asarray(probabilities, np.float32) >= self._limits

    @property
    def _limits(self) -> np.ndarray:
        """float32, [] or [C]: from where on a class is given."""
        return np.asarray(self.threshold if self.thresholds is None else self.thresholds, np.float32)

    def scores(self, values: np.ndarray, predictions: np.ndarray) -> dict[str, Any]:
        """See label_scores, accuracy being that of whole rows; also accuracy_interval, ece, calibration_bins,
        majority_baseline, never_predicted, without_support, threshold (tuned: thresholds, by class), hamming_loss, and
        best_threshold, which is tuned on these very rows."""
        from sklearn.metrics import hamming_loss

        probabilities = metrics.checked_probabilities(values, predictions, self.names)
        if np.shape(values) != probabilities.shape or not np.isin(values, (0, 1)).all():
            raise ValueError(f"labels must be 0 or 1, of shape {probabilities.shape}.")
        labels = np.asarray(values).astype(bool)
        predicted = self.decide(probabilities)
        found = self.decision_scores(labels, predicted)
        per_class = found.pop("per_class")
        return {
            "rows": len(labels),
            **found,
            "accuracy_interval": wilson(found["accuracy"], len(labels)),
            "loss": metrics.cross_entropy(np.where(labels, probabilities, 1 - probabilities)),
            **metrics.calibration(probabilities.ravel(), labels.ravel()),
            "majority_baseline": self.baseline(labels),
            "never_predicted": metrics.unseen(self.names, self.class_counts(predicted)),
            "without_support": metrics.unseen(self.names, per_class["support"]),
            **self._threshold_scores(),
            "hamming_loss": float(hamming_loss(labels, predicted)),
            "best_threshold": _best_threshold(labels, probabilities),
            "per_class": metrics.by_class(self.names, per_class),
        }

    def logits_of(self, predictions: np.ndarray) -> np.ndarray:
        # As far from 0 and 1 as float32 tells probabilities from these.
        known = np.asarray(predictions, np.float64).clip(np.finfo(np.float32).tiny, 1 - 2**-24)
        return np.log(known) - np.log1p(-known)

    def predictions_of_logits(self, logits: np.ndarray) -> np.ndarray:
        return expit(logits).astype(np.float32)

    def row_losses(self, values: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """The mean over the labels."""
        of_truth = np.where(values > 0, predictions, 1 - predictions).astype(np.float64)
        return -np.log(of_truth.clip(metrics.EPSILON, 1 - metrics.EPSILON)).mean(axis=1)

    def _threshold_scores(self) -> dict[str, Any]:
        if self.thresholds is None:
            return {"threshold": float(self.threshold)}
        return {"thresholds": dict(zip(self.names, self.thresholds, strict=True))}

    def _thresholds_in_words(self) -> str:
        if self.thresholds is None:
            return f"threshold {self.threshold:g}"
        low, high = min(self.thresholds), max(self.thresholds)
        return f"thresholds tuned on the validation rows, from {low:.3g} to {high:.3g}"

    def decision_scores(self, values: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
        """Macro averages are over all classes."""
        return metrics.decision_scores(values, predicted, np.ones(len(self.names), bool))

    def always(self, label: int, rows: int) -> np.ndarray:
        decisions = np.zeros((rows, len(self.names)), bool)
        decisions[:, label] = True
        return decisions

    def baseline_predictions(
        self, features, values: np.ndarray, others: Sequence[Any], boosted: bool = False
    ) -> list[np.ndarray]:
        """Of a logistic regression a label, or boosted trees; of one that all rows or none have that share."""
        from sklearn.base import clone
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression

        linear = LogisticRegression(C=BASELINE_C, solver="liblinear")
        kind: Any = HistGradientBoostingClassifier(random_state=0) if boosted else linear
        made = [np.tile(values.mean(axis=0), (other.shape[0], 1)) for other in others]
        for label, given in enumerate(values.T):
            if 0 < given.sum() < len(given):
                model: Any = clone(kind)
                model.fit(features, given)
                for probabilities, other in zip(made, others, strict=True):
                    probabilities[:, label] = model.predict_proba(other)[:, 1]
        return made

    def mistakes(self, values: np.ndarray, predictions: np.ndarray, limit: int) -> list[dict[str, Any]]:
        """The rows with the surest wrong decisions: row, label and predicted (lists of class numbers) and probability
        (p of a label given wrongly, 1 - p of a label missed)."""
        labels, probabilities = np.asarray(values).astype(bool), np.asarray(predictions)
        predicted = self.decide(probabilities)
        of_decisions = np.where(predicted, probabilities, 1 - probabilities)
        sureness = np.where(predicted != labels, of_decisions, -1).max(axis=1, initial=-1)
        return [
            {
                "row": row,
                "probability": float(sureness[row]),
                "label": np.flatnonzero(labels[row]).tolist(),
                "predicted": np.flatnonzero(predicted[row]).tolist(),
            }
            for row in answers.surest(sureness, limit)
        ]

    def table(self, scores: dict[str, Any]) -> ScoreTable:
        low, high = scores["accuracy_interval"]
        baseline, best = scores["majority_baseline"], scores["best_threshold"]["micro_f1"]
        lines = [
            f"accuracy of whole label sets {scores['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}) on "
            f"{scores['rows']} rows",
            f"always {one_line(baseline['label'])!r}: accuracy {baseline['accuracy']:.1%}, "
            f"micro F1 {baseline['micro_f1']:.3f}, macro F1 {baseline['macro_f1']:.3f}",
            f"loss {scores['loss']:.4f}, calibration error (ECE) {scores['ece']:.4f}",
            f"{self._thresholds_in_words()}; micro F1 on these rows is best at {best['threshold']:g} for all "
            f"({best['score']:.3f}, tuned on them)",
        ]
        if absent := scores["without_support"]:
            lines.append(
                f"macro averages are over all {len(self.names)} labels, of which {len(absent)} without a row count as 0"
            )
        return pages.score_table(scores, ("micro", "macro", "weighted"), lines)

    def findings(self, scores: dict[str, Any], name: str, validation: dict | None) -> tuple[list[str], list[str]]:
        warnings = []
        baseline, best = scores["majority_baseline"], scores["best_threshold"]["micro_f1"]
        if scores["micro_f1"] <= baseline["micro_f1"]:
            warnings.append(
                f"Micro F1 is no better than always giving {quoted(baseline['label'])} alone, "
                f"which scores {baseline['micro_f1']:.1%}."
            )
        warnings += tuning_warnings(self.names, self.tuned_on) if self.tuned_on else []
        note = (
            f"The threshold is {self.threshold:g}. On these rows micro F1 would be best at {best['threshold']:g} "
            f"({best['score']:.1%} instead of {scores['micro_f1']:.1%}), which flatters: it is tuned on them. "
            "Choose a threshold by the validation rows: evaluation.threshold tuned does."
        )
        if self.thresholds is not None:
            note = (
                f"The {self._thresholds_in_words()}, are for the best F1 of each label; the scores of the validation "
                "rows themselves flatter by it."
            )
        of_classes = pages.class_findings(scores, name)
        return warnings + of_classes[0], [note, *of_classes[1]]

    def page(self, scores: dict[str, Any], validation: dict | None, mistakes: Sequence[dict]) -> Page:
        base, (low, high) = scores["majority_baseline"], scores["accuracy_interval"]
        headline = Headline(
            "Micro F1",
            percent(scores["micro_f1"]),
            "%",
            f"Always answering {quoted(base['label'])} scores {percent(base['micro_f1'])} (the grey mark).",
            strip={"score": scores["micro_f1"], "low": None, "high": None, "baseline": base["micro_f1"]},
        )
        tiles = [
            Tile("Macro F1", percent(scores["macro_f1"]), f"baseline {percent(base['macro_f1'])}"),
            Tile("Weighted F1", percent(scores["weighted_f1"]), f"baseline {percent(base['weighted_f1'])}"),
            Tile("Micro precision", percent(scores["micro_precision"]), "of given labels are right"),
            Tile("Micro recall", percent(scores["micro_recall"]), "of labels are found"),
            Tile(
                "Whole rows right",
                percent(scores["accuracy"]),
                f"{percent(low)} to {percent(high)}, baseline {percent(base['accuracy'])}",
            ),
            Tile("Hamming loss", f"{percent(scores['hamming_loss'])} %", "of single decisions are wrong"),
            self._threshold_tile(),
            Tile("Calibration error", percent(scores["ece"]), "points, ECE of 15 bins"),
            Tile("Loss", number(scores["loss"]), "binary cross-entropy, nats"),
        ]
        if validation:
            note = f"micro F1; macro F1 {percent(validation['macro_f1'])}"
            tiles.append(Tile("Validation", percent(validation["micro_f1"]), note))
        context = {
            "one": "label",
            "classes": pages.worst_first(scores["per_class"]),
            "scores": scores,
            "matrix": None,
            "pairs": [],
            "mistakes": [pages.mistake(item, self.names) for item in mistakes],
            "sure": " sure of its mistake",
        }
        keys = "how often a label is given when the model says so with this probability"
        figure = pages.calibration_figure(scores, keys, ("probability of a label", "given"), "decisions")
        about = f"{len(self.names)} labels, any number a row"
        return Page(about, headline, tiles, pages.TEMPLATE, context, [figure])

    def _threshold_tile(self) -> Tile:
        if self.thresholds is None:
            return Tile("Threshold", number(self.threshold))
        low, high = number(min(self.thresholds)), number(max(self.thresholds))
        return Tile("Thresholds", f"{low} to {high}", "tuned on the validation rows")

    # To a served model.

    def served(self, evaluation, export) -> Self:
        fit = self.outside_of(export)
        if evaluation.threshold == "tuned":
            return replace(self, tuning=True, fit=fit)
        return replace(self, threshold=evaluation.threshold, fit=fit)

    def metadata(self) -> dict[str, Any]:
        tuned = {} if self.thresholds is None else {"thresholds": list(self.thresholds)}
        return {
            "task": self.name,
            "label_names": list(self.names),
            "threshold": self.threshold,
            **tuned,
            "separator": self.separator,
        }

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> Self:
        tuned = metadata.get("thresholds")
        thresholds = None if tuned is None else tuple(tuned)
        return cls(tuple(metadata["label_names"]), metadata["threshold"], metadata["separator"], thresholds)

    def answer(self, predictions) -> dict[str, Any]:
        import tensorflow as tf

        given = predictions >= self._limits
        rows = tf.RaggedTensor.from_row_lengths(
            tf.boolean_mask(tf.broadcast_to(tf.constant(self.names), tf.shape(predictions)), given),
            tf.reduce_sum(tf.cast(given, tf.int64), axis=1),
        )
        label = tf.strings.reduce_join(rows, axis=1, separator=self.separator)
        return {"label": label, "score": tf.reduce_max(predictions, axis=1), "probabilities": predictions}

    def answer_of(self, predictions: np.ndarray) -> Outputs:
        predictions = np.asarray(predictions, np.float32)
        labels = [
            self.separator.join(name for name, yes in zip(self.names, row, strict=True) if yes)
            for row in self.decide(predictions)
        ]
        return {"label": labels, "score": predictions.max(axis=1), "probabilities": predictions}

    def contribution(self, logits, about):
        """The log-odds of a class, which with independent classes is its logit."""
        import tensorflow as tf

        return tf.gather(logits, about, batch_dims=1)

    def answer_notes(self) -> str:
        notes = super().answer_notes()
        if self.thresholds is None:
            return f"{notes} A label is given from a probability of {self.threshold:g} on."
        return f"{notes} A label is given from its own probability on, `thresholds` in `assets.extra/metadata.json`."

    def truth(self, cells: Sequence[Any], columns: Sequence[str]) -> list[str]:
        """The names of the classes."""
        if len(columns) > 1:
            return list(ColumnReader(DataConfig(label_columns=list(columns))).read(cells))
        return Reader(DataConfig(label_separator=self.separator, labels=list(self.names))).read(cells)

    def labels_in(self, label: str) -> list[str]:
        return [name for name in label.split(self.separator) if name]


TASK = MultiLabel


def _best_threshold(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, dict[str, float]]:
    """The common thresholds, in steps of 0.01, with the best micro and macro F1 on these rows.

    Tuned on the rows it is scored on: a test set's value flatters; take the validation set's.
    """
    grid = np.linspace(0.01, 0.99, 99).round(2)
    classes, slots = labels.shape[1], len(grid) + 1
    # How many thresholds each probability reaches; counting from the top gives all decisions of all thresholds at once.
    reached = np.searchsorted(grid.astype(np.float32), probabilities.astype(np.float32), side="right")
    slot = (reached + np.arange(classes) * slots).ravel()

    def at_least(weights):
        counts = np.bincount(slot, weights, classes * slots).reshape(classes, slots)
        return counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]

    hits, predictions = at_least(labels.ravel()), at_least(None)
    support = labels.sum(axis=0)[:, None]
    f1 = {
        "micro_f1": metrics.ratio(2 * hits.sum(axis=0), predictions.sum(axis=0) + support.sum()),
        "macro_f1": metrics.ratio(2 * hits, predictions + support).mean(axis=0),
    }
    best = {}
    for name, values in f1.items():
        # Of equally good thresholds the one nearest to 0.5.
        equals = np.flatnonzero(values >= values.max() - 1e-12)
        choice = equals[np.abs(grid[equals] - 0.5).argmin()]
        best[name] = {"threshold": grid[choice].item(), "score": values[choice].item()}
    return best
