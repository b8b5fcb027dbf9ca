"""Any number of named classes a row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import expit

from pipeline.data.config import DataConfig
from pipeline.errors import UserError
from pipeline.labels.confident import Doubts, doubt_labels
from pipeline.tasks import label_answers as answers
from pipeline.tasks import label_scores as metrics
from pipeline.tasks import multi_label_page as shown
from pipeline.tasks.label_cells import DEFAULT_SEPARATOR, SeveralLabelsReader
from pipeline.tasks.label_task import BASELINE_C, LabelTask
from pipeline.tasks.labels import SeveralLabels
from pipeline.tasks.page import Page, ScoreTable
from pipeline.tasks.soft_labels import ColumnReader
from pipeline.tasks.targets import Groups, TargetReader
from pipeline.tasks.task import Outputs
from pipeline.tasks.thresholds import best_common_thresholds, best_f1_threshold


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
    def reader(cls, data) -> TargetReader:
        return ColumnReader(data) if data.label_columns else SeveralLabelsReader(data)

    @classmethod
    def named(cls, names: tuple[str, ...], data: DataConfig) -> Self:
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
        return f"{super().describe()}, any number a row"

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
        loss = metrics.cross_entropy(np.where(labels, probabilities, 1 - probabilities))
        calibration = metrics.calibration(probabilities.ravel(), labels.ravel())
        scores = self.common_scores(labels, predicted, loss, calibration)
        # The longest comes last.
        per_class = scores.pop("per_class")
        return {
            **scores,
            **self._threshold_scores(),
            "hamming_loss": float(hamming_loss(labels, predicted)),
            "best_threshold": best_common_thresholds(labels, probabilities),
            "per_class": per_class,
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
        return shown.table(self, scores)

    def findings(self, scores: dict[str, Any], name: str, validation: dict | None) -> tuple[list[str], list[str]]:
        return shown.findings(self, scores, name, validation)

    def page(self, scores: dict[str, Any], validation: dict | None, mistakes: Sequence[dict]) -> Page:
        return shown.page(self, scores, validation, mistakes)

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

    def shown_prediction(self, prediction: np.ndarray) -> str:
        """The labels that are given, or that none is and which comes nearest to it by its probability."""
        given = np.flatnonzero(self.decide(prediction[np.newaxis])[0])
        if not len(given):
            return f"(no label; highest: {super().shown_prediction(prediction)})"
        return ", ".join(f"{self.names[label]} {prediction[label]:.3f}" for label in given)

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
        """The names of the classes; one column named as the only class holds whether a row has it."""
        if len(columns) > 1 or tuple(columns) == self.names:
            return list(ColumnReader(DataConfig(label_columns=list(columns))).read(cells))
        return SeveralLabelsReader(DataConfig(label_separator=self.separator, labels=list(self.names))).read(cells)

    def labels_in(self, label: str) -> list[str]:
        return [name for name in label.split(self.separator) if name]


TASK = MultiLabel
