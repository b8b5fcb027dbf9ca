"""One of several named classes a row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from pipeline.data.config import DataConfig
from pipeline.errors import UserError
from pipeline.labels.confident import Doubts, doubt_classes
from pipeline.markdown import code_span
from pipeline.tasks import label_answers as answers
from pipeline.tasks import label_scores as metrics
from pipeline.tasks import single_label_page as shown
from pipeline.tasks.confusions import confusions
from pipeline.tasks.guarantees import Guarantees
from pipeline.tasks.label_cells import OneLabelReader
from pipeline.tasks.label_task import BASELINE_C, LabelTask
from pipeline.tasks.labels import OneLabel
from pipeline.tasks.page import Page, ScoreTable
from pipeline.tasks.single_label_scores import matthews, ranking, top_accuracy
from pipeline.tasks.soft_labels import ColumnReader
from pipeline.tasks.targets import Groups, TargetReader
from pipeline.tasks.task import Outputs
from pipeline.tasks.thresholds import best_f1_threshold

# From this many classes on the top-5 accuracy says something that the accuracy does not.
TOP_5_CLASSES = 11


@dataclass(frozen=True)
class SingleLabel(LabelTask):
    """The most probable class, or `abstain_label` where its probability is below `abstain_below`; where there is a
    `decision`, its class from its threshold on, and else the other.

    Predictions are probabilities, float32 [n, C], in the order of `names`; values are int [n] classes.
    """

    abstain_below: float = 0.0
    abstain_label: str = ""
    decision: tuple[int, float] | None = None
    """Of two classes: number of the rarer one, and the probability from which it is the answer; None: 0.5."""
    tuning: bool = field(default=False, compare=False, kw_only=True)
    """Whether validation rows decide `decision`."""
    tuned_on: tuple[int, int] | None = field(default=None, compare=False, kw_only=True)
    """Number of the rarer class, and its validation rows, once they have."""
    guarantees: Guarantees = field(default=Guarantees(), kw_only=True)
    """What validation rows are asked to promise and do, `abstain_below` among it."""

    name = "single_label"
    problem_type = "single_label_classification"
    monitors: ClassVar = {"macro_f1": True, "accuracy": True, "micro_f1": True, "weighted_f1": True, "loss": False}
    curves: ClassVar = {"accuracy": "validation_accuracy", "macro F1": "validation_macro_f1"}

    def __post_init__(self) -> None:
        # A threshold that validation rows are still to choose will be one: it is known before the training.
        if (self.abstain_below or self.guarantees.abstain_error) and self.abstain_label in self.names:
            raise UserError(f"export.abstain_label {self.abstain_label!r} is the name of a label: give another.")

    # From the data.

    @classmethod
    def fits(cls, data) -> bool:
        return True

    @classmethod
    def check(cls, config) -> None:
        if config.data.label_separator is not None:
            raise UserError("data.task single_label: unset data.label_separator.")
        if config.data.label_columns and len(config.data.label_columns) < 2:
            raise UserError("data.label_columns names one label, and a classifier needs at least two.")

    @classmethod
    def reader(cls, data) -> TargetReader:
        return ColumnReader(data, one=True) if data.label_columns else OneLabelReader(data)

    @classmethod
    def outputs_fault(cls, outputs: int) -> str | None:
        return "has one output, which as one label a row is always the answer: set data.task." if outputs < 2 else None

    def targets(self, store, known: str) -> OneLabel:
        return OneLabel(store, self.names, known)

    def class_counts(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(values, minlength=len(self.names))

    def calibrated(self, values: np.ndarray, predictions: np.ndarray) -> Self:
        """With what the settings ask the validation rows for: the threshold of the best F1 of the rarer class, where a
        row has that class; a score from which to answer; sets."""
        if not (self.tuning or self.guarantees.asked):
            return self
        metrics.refuse_not_numbers(predictions)
        task = self._with_decision(values, predictions) if self.tuning else self
        kept = self.guarantees.found(values, predictions, task.decide(predictions))
        below = kept.abstention.threshold if kept.abstention else self.abstain_below
        return replace(task, guarantees=kept, abstain_below=below)

    def _with_decision(self, values: np.ndarray, predictions: np.ndarray) -> Self:
        rare = self._rarer(self.class_counts(values))
        truth = np.asarray(values) == rare
        found = best_f1_threshold(truth, predictions[:, rare]) if truth.any() else None
        decision = None if found is None else (rare, found)
        return replace(self, decision=decision, tuned_on=(rare, int(truth.sum())))

    def _rarer(self, counts: np.ndarray) -> int:
        """Number of the class with fewer training rows, or `counts` where these are unknown; of equals the second."""
        known = counts if self.train_counts is None else np.array(self.train_counts)
        return len(known) - 1 - int(np.argmin(known[::-1]))

    def groups(self, values: np.ndarray) -> Groups:
        return Groups(np.ones(len(values), np.int64), values, self.names)

    # The care of labels.

    def doubts(self, values: np.ndarray, predictions: np.ndarray) -> Doubts:
        return doubt_classes(values, predictions)

    def uncertainty(self, predictions: np.ndarray) -> np.ndarray:
        """1 less the margin: how much more probable the first class is than the second."""
        second, first = np.sort(predictions, axis=1)[:, -2:].T
        return 1 - (first - second)

    def written(self, values: np.ndarray) -> list[str]:
        return [self.names[value] for value in values]

    # To the model.

    def training_targets(self, values: np.ndarray) -> np.ndarray:
        targets = np.zeros((len(values), len(self.names)), np.float32)
        targets[np.arange(len(values)), values] = 1
        return targets

    def example_weights(self, values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """rows / (C * rows of the class), as scikit-learn's "balanced"; 0 for a class without rows."""
        counts = self.class_counts(values)
        each = np.where(counts > 0, len(values) / (len(counts) * np.maximum(counts, 1)), 0).astype(np.float32)
        return lambda chosen: each[chosen]

    def loss(self, label_smoothing: float = 0.0):
        """Softmax cross-entropy."""
        import keras

        return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=label_smoothing, reduction=None)

    def soft_loss(self, teacher, student, temperature: float):
        """Cross-entropy to the teacher's probabilities, both at a temperature (Hinton et al., 2015).

        Times temperature ** 2, as there, so that the size of its gradient does not depend on the temperature.
        """
        import tensorflow as tf

        teacher, student = tf.stop_gradient(teacher) / temperature, student / temperature
        return temperature**2 * tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(teacher), student)

    def activation(self, logits):
        import tensorflow as tf

        return tf.nn.softmax(logits)

    @property
    def activation_steps(self):
        return (("Softmax", None),)

    # Scores.

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """int [n]: the first class of the largest probability, or by `decision`, as the exported model decides."""
        probabilities = np.asarray(probabilities, np.float32)
        if self.decision is None:
            return probabilities.argmax(axis=1)
        rare, threshold = self.decision
        return np.where(probabilities[:, rare] >= np.float32(threshold), rare, 1 - rare)

    def scores(self, values: np.ndarray, predictions: np.ndarray) -> dict[str, Any]:
        """See label_scores; also accuracy_interval, ece, calibration_bins, majority_baseline, never_predicted,
        without_support, matthews and confusion_matrix (rows true, columns predicted) or, of many classes, confusions;
        of two classes roc_auc and average_precision of the second (None where only one occurs); of more than ten
        top_5_accuracy; with `abstain_below` "selective", with a tuned `decision` its "label" and "threshold"."""
        labels, probabilities = np.asarray(values), metrics.checked_probabilities(values, predictions, self.names)
        rows, classes = probabilities.shape
        if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"labels must be integers from 0 to {classes - 1}.")
        predicted = self.decide(probabilities)
        every, right = np.arange(rows), labels == predicted
        loss = metrics.cross_entropy(probabilities[every, labels])
        calibration = metrics.calibration(probabilities[every, predicted], right)
        scores = self.common_scores(labels, predicted, loss, calibration)
        # The longest comes last.
        per_class = scores.pop("per_class")
        scores["matthews"] = matthews(self.class_counts(labels), self.class_counts(predicted), int(right.sum()))
        if classes == 2:
            scores |= ranking(labels, probabilities[:, 1])
        if classes >= TOP_5_CLASSES:
            scores["top_5_accuracy"] = top_accuracy(labels, probabilities, 5)
        if self.abstain_below:
            scores["selective"] = self._selective(labels, probabilities)
        if sets := self.guarantees.sets:
            scores["sets"] = sets.scores(labels, probabilities)
        scores |= self._decision_scores()
        return scores | confusions(labels, predicted, classes) | {"per_class": per_class}

    def logits_of(self, predictions: np.ndarray) -> np.ndarray:
        # What float32 took for nothing has a logarithm too.
        return np.log(np.asarray(predictions, np.float64).clip(np.finfo(np.float32).tiny))

    def predictions_of_logits(self, logits: np.ndarray) -> np.ndarray:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)

    def row_losses(self, values: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        return -np.log(
            predictions[np.arange(len(values)), values].astype(np.float64).clip(metrics.EPSILON, 1 - metrics.EPSILON)
        )

    def _decision_scores(self) -> dict[str, Any]:
        if self.decision is None:
            return {}
        return {"decision": {"label": self.names[self.decision[0]], "threshold": self.decision[1]}}

    def decision_scores(self, values: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
        """Macro averages are over the classes that occur among values or predictions."""
        return metrics.decision_scores(values, predicted, self.class_counts(np.concatenate([values, predicted])) > 0)

    def always(self, label: int, rows: int) -> np.ndarray:
        return np.full(rows, label)

    @property
    def baseline_outputs(self) -> int:
        return self.outputs

    def baseline_predictions(
        self, features, values: np.ndarray, others: Sequence[Any], boosted: bool = False
    ) -> list[np.ndarray]:
        """Of logistic regression, or boosted trees; 0 for classes without a row."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression

        kind = (
            HistGradientBoostingClassifier(random_state=0)
            if boosted
            else LogisticRegression(C=BASELINE_C, max_iter=300)
        )
        made = [np.zeros((other.shape[0], len(self.names))) for other in others]
        known = np.unique(values)
        model = kind.fit(features, values) if len(known) > 1 else None
        for probabilities, other in zip(made, others, strict=True):
            probabilities[:, known] = 1.0 if model is None else model.predict_proba(other)
        return made

    def _selective(self, labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
        """coverage, the share of rows that are answered; accuracy of these, None where there are none."""
        decided = self.decide(probabilities)
        score = np.asarray(probabilities, np.float32)[np.arange(len(labels)), decided]
        answered = score >= np.float32(self.abstain_below)
        right = (decided == labels)[answered]
        return {
            "abstain_below": self.abstain_below,
            "coverage": float(answered.mean()),
            "accuracy": float(right.mean()) if answered.any() else None,
        }

    def mistakes(self, values: np.ndarray, predictions: np.ndarray, limit: int) -> list[dict[str, Any]]:
        """The wrong answers of which the model is surest: row, label and predicted (lists of class numbers),
        probability (of the wrong class) and label_probability (of the right one)."""
        labels, probabilities = np.asarray(values), np.asarray(predictions)
        predicted = self.decide(probabilities)
        sureness = np.where(predicted != labels, probabilities[np.arange(len(labels)), predicted], -1)
        return [
            {
                "row": row,
                "probability": float(sureness[row]),
                "label": [int(labels[row])],
                "predicted": [int(predicted[row])],
                "label_probability": float(probabilities[row, labels[row]]),
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
        tuning = evaluation.threshold == "tuned"
        if tuning and len(self.names) != 2:
            raise UserError(
                f"evaluation.threshold tuned is for two labels, or any number of labels a row; there are "
                f"{len(self.names)} labels here, one a row, and the most probable is the answer: unset it."
            )
        if tuning and export.abstain_below:
            raise UserError("evaluation.threshold tuned and export.abstain_below both decide the answer: unset one.")
        if export.abstain_below and export.abstain_error:
            raise UserError("export.abstain_below and export.abstain_error both say when to answer: unset one.")
        return replace(
            self,
            abstain_below=export.abstain_below,
            abstain_label=export.abstain_label,
            tuning=tuning,
            guarantees=Guarantees(export.abstain_error, export.coverage, export.coverage_by == "label"),
            fit=self.outside_of(export),
        )

    def too_few(self, validation_rows: int) -> str | None:
        return self.guarantees.too_few(validation_rows)

    @property
    def fault(self) -> str | None:
        return self.guarantees.fault

    def metadata(self) -> dict[str, Any]:
        abstain = {"abstain_below": self.abstain_below, "abstain_label": self.abstain_label}
        return {
            "task": self.name,
            "label_names": list(self.names),
            **(abstain if self.abstain_below else {}),
            **self.guarantees.metadata(),
            **self._decision_scores(),
        }

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> Self:
        names, decision = tuple(metadata["label_names"]), metadata.get("decision")
        if decision is not None:
            decision = (names.index(decision["label"]), decision["threshold"])
        below = metadata.get("abstain_below", 0.0)
        kept = Guarantees.from_metadata(metadata, below)
        return cls(names, below, metadata.get("abstain_label", ""), decision, guarantees=kept)

    @property
    def optional_signatures(self) -> tuple[str, ...]:
        return (*super().optional_signatures, *(("set",) if self.guarantees.sets else ()))

    def optional_answer(self, name: str, predictions, top_k: int) -> dict[str, Any]:
        if name == "set" and (sets := self.guarantees.sets):
            return sets.answer(self.names, predictions)
        return super().optional_answer(name, predictions, top_k)

    def answer(self, predictions) -> dict[str, Any]:
        import tensorflow as tf

        _, answer = self.explained(predictions)
        label, score = answer["label"], answer["score"]
        if self.abstain_below:
            label = tf.where(score < self.abstain_below, self.abstain_label, label)
        return {"label": label, "score": score, "probabilities": predictions}

    def answer_of(self, predictions: np.ndarray) -> Outputs:
        predictions = np.asarray(predictions, np.float32)
        decided = self.decide(predictions)
        score = predictions[np.arange(len(decided)), decided]
        # In float32, as the graph compares.
        sure = score >= np.float32(self.abstain_below)
        labels = [self.names[i] if yes else self.abstain_label for i, yes in zip(decided, sure, strict=True)]
        return {"label": labels, "score": score, "probabilities": predictions}

    def explained(self, predictions) -> tuple[Any, dict[str, Any]]:
        """The class that is answered, also where `abstain_below` withholds it."""
        import tensorflow as tf

        if self.decision is None:
            return super().explained(predictions)
        rare, threshold = self.decision
        decided = tf.where(predictions[:, rare] >= threshold, rare, 1 - rare)
        label = tf.gather(tf.constant(self.names), decided)
        return decided, {"label": label, "score": tf.gather(predictions, decided, batch_dims=1)}

    def inconsistency(
        self, signature: str, outputs: Outputs, predictions: np.ndarray, tolerance: float
    ) -> tuple[int, str] | None:
        if (sets := self.guarantees.sets) and "set_labels" in outputs:
            return sets.fault(self.names, outputs, predictions, tolerance)
        if self.decision is None or "probabilities" in outputs or "label" not in outputs:
            return super().inconsistency(signature, outputs, predictions, tolerance)
        return answers.decision_inconsistency(self.names, self.decision, outputs, predictions, tolerance)

    def answer_notes(self) -> str:
        notes = [super().answer_notes(), *self.guarantees.notes(self.abstain_label)]
        if self.decision is None:
            return " ".join(notes)
        rare, threshold = self.decision
        return (
            f"{' '.join(notes)} `label` is {code_span(self.names[rare])} from a probability of {threshold:.4g} "
            f"on, and else {code_span(self.names[1 - rare])}; `score` is the probability of the `label`."
        )

    def shown_prediction(self, prediction: np.ndarray) -> str:
        """The label, also the one that stands for none; where that is empty, which one was not sure enough."""
        answer = self.answer_of(prediction[np.newaxis])
        label, score = answer["label"][0], answer["score"][0]
        if label:
            return f"{label} {score:.3f}"
        return f"(no label; highest: {self.names[int(self.decide(prediction[np.newaxis])[0])]} {score:.3f})"

    def contribution(self, logits, about):
        """The log-odds of a class, log p / (1 - p): its logit minus the logsumexp of the others'."""
        import tensorflow as tf

        own = tf.gather(logits, about, batch_dims=1)
        is_own = tf.one_hot(about, logits.shape[-1], True, False, dtype=tf.bool)
        return own - tf.reduce_logsumexp(tf.where(is_own, -1e9, logits), axis=1)

    def truth(self, cells: Sequence[Any], columns: Sequence[str]) -> list[str]:
        """The name of the class, in a list."""
        if len(columns) > 1:
            return list(ColumnReader(DataConfig(label_columns=list(columns)), one=True).read(cells))
        return OneLabelReader(DataConfig()).read(cells)

    def labels_in(self, label: str) -> list[str]:
        return [label]


TASK = SingleLabel
