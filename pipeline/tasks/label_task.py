"""What the tasks with named classes have in common: their classes, their baseline, and what they answer."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pipeline.errors import UserError
from pipeline.evaluation.formatting import listed
from pipeline.evaluation.interval import wilson
from pipeline.tasks import label_answers as answers
from pipeline.tasks import label_comparison as comparisons
from pipeline.tasks import label_scores as metrics
from pipeline.tasks.labels import names_of
from pipeline.tasks.outside import Outside
from pipeline.tasks.task import Outputs, RowScores, Task

if TYPE_CHECKING:
    from export.config import ExportConfig
    from pipeline.data.config import DataConfig
    from pipeline.data.store import Store

# scikit-learn's, of the linear model over TF-IDF: its rows have norm 1.
BASELINE_C = 10.0


@dataclass(frozen=True)
class LabelTask(Task):
    """A task whose predictions are probabilities of named classes, float32 [n, C], in the order of `names`."""

    names: tuple[str, ...]
    train_counts: tuple[int, ...] | None = field(default=None, compare=False, kw_only=True)
    """Rows of each class in the training set, which decide the baseline's answer; None: the evaluated rows do, which
    flatters it a little."""

    labelled = True
    shown = ("loss", "accuracy")
    example_signature = "classify"
    group_note = "macro f1 is over the labels that the rows of a group have"

    @abstractmethod
    def class_counts(self, values: np.ndarray) -> np.ndarray:
        """int [C], how many of the values have each class."""

    @abstractmethod
    def decision_scores(self, values: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
        """See label_scores.decision_scores; `predicted` are decisions."""

    @abstractmethod
    def always(self, label: int, rows: int) -> np.ndarray:
        """The decisions of who gives one class for so many rows."""

    @abstractmethod
    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """What the exported model decides, in the form of values."""

    @abstractmethod
    def labels_in(self, label: str) -> list[str]:
        """The names of classes in an answer's label."""

    # From the data.

    @classmethod
    def columns(cls, data: "DataConfig") -> list[str]:
        return list(data.label_columns or [data.label_column])

    @classmethod
    def of(cls, data: "DataConfig", train: "Store") -> Self:
        names = tuple(data.label_columns or ()) or names_of(data, train.meta.target["labels"], train.meta.sources)
        return cls.named(names, data)

    @classmethod
    def stand_in(cls, data: "DataConfig") -> Self:
        return cls.named(tuple(data.label_columns or data.labels or ("no", "yes")), data)

    @classmethod
    def named(cls, names: tuple[str, ...], data: "DataConfig") -> Self:
        """The task with these classes.

        Raises:
            UserError: `data` does not go with them.
        """
        return cls(names)

    def describe(self) -> str:
        return "1 label" if len(self.names) == 1 else f"{len(self.names)} labels"

    def fitted(self, values: np.ndarray) -> Self:
        return replace(self, train_counts=tuple(self.class_counts(values).tolist()))

    def data_summary(self, values: np.ndarray) -> dict[str, Any]:
        return {"labels": dict(zip(self.names, self.class_counts(values).tolist(), strict=True))}

    def data_warnings(self) -> list[str]:
        if self.train_counts is None:
            return []
        missing = metrics.unseen(self.names, np.array(self.train_counts))
        return [f"no training row has the label {name!r}." for name in missing]

    def unseen_notes(self, values: np.ndarray, name: str) -> list[str]:
        missing = metrics.unseen(self.names, self.class_counts(values))
        if not missing:
            return []
        label, known = ("label", "it is") if len(missing) == 1 else ("labels", "they are")
        return [
            f"no {name} row has the {label} {listed(missing)}: the {name} scores say nothing about how well {known} "
            "recognised."
        ]

    # To the model.

    @property
    def outputs(self) -> int:
        return len(self.names)

    def likeness(self, targets, others):
        """The share of the labels of either that both have: 1 or 0 where each row has one."""
        import tensorflow as tf

        both = tf.matmul(targets, others, transpose_b=True)
        either = tf.reduce_sum(targets, 1)[:, None] + tf.reduce_sum(others, 1)[None] - both
        return tf.where(either > 0, both / tf.maximum(either, 1e-9), 1.0)

    def last_layer(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        return kernel, bias, self.names

    def teacher_fault(self, teacher: Task) -> str | None:
        return answers.same_labels(self, teacher)

    # Scores.

    def common_scores(
        self, values: np.ndarray, predicted: np.ndarray, loss: float, calibration: dict[str, Any]
    ) -> dict[str, Any]:
        """Those of decisions, with what stands beside them; "per_class" by the names of classes.

        Args:
            values: of rows.
            predicted: decisions, in the same form.
            loss: the rows' mean.
            calibration: of `label_scores.calibration`.
        """
        found = self.decision_scores(values, predicted)
        per_class = found.pop("per_class")
        return {
            "rows": len(values),
            **found,
            "accuracy_interval": wilson(found["accuracy"], len(values)),
            "loss": loss,
            **calibration,
            "majority_baseline": self.baseline(values),
            "never_predicted": metrics.unseen(self.names, self.class_counts(predicted)),
            "without_support": metrics.unseen(self.names, per_class["support"]),
            "per_class": metrics.by_class(self.names, per_class),
        }

    def baseline(self, values: np.ndarray) -> dict[str, Any]:
        """Scores of always giving the most frequent class (the first of equals)."""
        majority = int(np.argmax(self.class_counts(values) if self.train_counts is None else self.train_counts))
        scores = self.decision_scores(values, self.always(majority, len(values)))
        keys = ("accuracy", "macro_f1", "weighted_f1", "micro_f1")
        return {"label": self.names[majority]} | {key: scores[key] for key in keys}

    def row_scores(self, values: np.ndarray, predictions: np.ndarray) -> RowScores:
        right = (self.decide(predictions) == values).reshape(len(values), -1).all(axis=1)
        return RowScores("accuracy", right.astype(float), share=True, higher_is_better=True)

    def headline(self, scores: dict[str, Any]) -> dict[str, Any]:
        return {name: scores[name] for name in ("accuracy", "macro_f1")}

    def headline_of_group(self, scores: dict[str, Any]) -> dict[str, Any]:
        # A label that none of its rows has would count as 0, however right all answers are.
        own = [row["f1"] for row in scores["per_class"].values() if row["support"]]
        return self.headline(scores) | {"macro_f1": float(np.mean(own)) if own else None}

    # To a served model.

    def outside_of(self, export: "ExportConfig") -> Outside | None:
        """What the settings say of texts that do not fit.

        Raises:
            UserError: their label is one of the task's.
        """
        found = Outside.wanted(export)
        if found and found.below and found.label in self.names:
            raise UserError(f"export.outside_label {found.label!r} is the name of a label: give another.")
        return found

    @property
    def row_outputs(self) -> tuple[str, ...]:
        return "label", "score"

    @property
    def optional_signatures(self) -> tuple[str, ...]:
        return ("top_k",)

    @property
    def answer_specs(self) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
        return answers.label_specs(len(self.names))

    def example_answer(self, predictions) -> dict[str, Any]:
        return answers.all_classes(self.names, predictions)

    def optional_answer(self, name: str, predictions, top_k: int) -> dict[str, Any]:
        return answers.best_classes(self.names, predictions, top_k)

    def explained(self, predictions) -> tuple[Any, dict[str, Any]]:
        return answers.best_class(self.names, predictions)

    def predictions_of(self, signature: str, outputs: Outputs) -> np.ndarray | None:
        return answers.probabilities_of(outputs)

    def inconsistency(
        self, signature: str, outputs: Outputs, predictions: np.ndarray, tolerance: float
    ) -> tuple[int, str] | None:
        return answers.label_inconsistency(self, outputs, predictions, tolerance)

    def same_answers(self, old: Outputs, new: Outputs) -> np.ndarray:
        return np.array(old["label"]) == np.array(new["label"])

    def gives(self, outputs: Outputs, label: str) -> np.ndarray:
        self._place(label)
        return np.array([label in self.labels_in(given) for given in outputs["label"]], bool)

    def quantity(self, outputs: Outputs, label: str | None) -> np.ndarray:
        return np.asarray(outputs["probabilities"], np.float64)[:, self._place(label)]

    def _place(self, label: str | None) -> int:
        """Of a label in `names`."""
        if label in self.names:
            return self.names.index(label)
        known = f"the model's labels are {listed(self.names)}."
        raise UserError(f"no label is named; {known}" if label is None else f"there is no label {label!r}; {known}")

    def compare(self, old: Any, answers: Sequence[Outputs], truth: Sequence[Any] | None) -> dict[str, Any]:
        return comparisons.compare_labels([old, self], answers, truth)

    def comparison_lines(self, found: dict[str, Any]) -> list[str]:
        return comparisons.comparison_lines(found)

    def answer_notes(self) -> str:
        return answers.label_notes(self.names)

    def shown_prediction(self, prediction: np.ndarray) -> str:
        return f"{self.names[prediction.argmax()]} {prediction.max():.3f}"
