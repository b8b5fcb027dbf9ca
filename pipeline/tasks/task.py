"""What every kind of task brings: from a cell of the data to the answer of a server."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from pipeline.tasks.outside import FIT, Outside
from pipeline.tasks.page import Page, ScoreTable
from pipeline.tasks.targets import Groups, TargetReader, Targets

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from pipeline.config import Config, DataConfig, EvaluationConfig, ExportConfig
    from pipeline.data.store import Store
    from pipeline.labels.confident import Doubts

Outputs = dict[str, Any]
"""What a signature gives, by name: arrays or nested lists, strings as str."""


@dataclass(frozen=True)
class RowScores:
    """One score of which every row has its part.

    Attributes:
        name: of their mean.
        values: float [n].
        share: whether each is 0 or 1.
        higher_is_better: of the mean.
    """

    name: str
    values: np.ndarray
    share: bool
    higher_is_better: bool


@dataclass(frozen=True)
class Task(ABC):
    """One kind of task with what the training rows say about it; immutable.

    Predictions are what the model gives for a row once its activation is applied, float32 [n, K]; values are the
    targets of rows as `Targets.values` gives them.
    """

    fit: Outside | None = field(default=None, kw_only=True)
    """Of the answers of serving_default; None: they do not say how well a text fits."""
    name: ClassVar[str]
    problem_type: ClassVar[str]
    """What transformers calls this kind, in config.json."""
    labelled: ClassVar[bool]
    """Whether the outputs of the last layer are labels, as data.labels names them."""
    independent: ClassVar[bool] = False
    """Whether each output is a decision of its own."""
    monitors: ClassVar[Mapping[str, bool]]
    """The scores that can choose an epoch: whether higher is better; the first is the default."""
    curves: ClassVar[Mapping[str, str]]
    """Validation scores that the report draws over the epochs: line to key of the history."""
    shown: ClassVar[tuple[str, ...]]
    """Scores that are printed after each epoch."""

    @classmethod
    def monitored(cls, name: str | None) -> str:
        """The score that training.monitor means; None: the default."""
        return name or next(iter(cls.monitors))

    # From the data.

    @classmethod
    @abstractmethod
    def fits(cls, data: "DataConfig") -> bool:
        """Whether a data section that names no task means this one."""

    @classmethod
    @abstractmethod
    def check(cls, config: "Config") -> None:
        """Refuse settings that do not go with the task.

        Raises:
            UserError: naming the setting.
        """

    @classmethod
    def columns(cls, data: "DataConfig") -> list[str]:
        """The columns that hold the target."""
        return [data.label_column]

    @classmethod
    @abstractmethod
    def reader(cls, data: "DataConfig") -> TargetReader:
        """How the target's cells are read."""

    @classmethod
    @abstractmethod
    def of(cls, data: "DataConfig", train: "Store") -> Self:
        """The task that the training source describes.

        Raises:
            UserError: it describes none.
        """

    @classmethod
    @abstractmethod
    def stand_in(cls, data: "DataConfig") -> Self:
        """A task of the like where there is no data yet: its model has the same shapes wherever they are known."""

    @classmethod
    def outputs_fault(cls, outputs: int) -> str | None:
        """Why a finished model with so many outputs does not do this task, as a sentence's end behind the model; None:
        it may."""
        return None

    @abstractmethod
    def targets(self, store: "Store", known: str) -> Targets:
        """The targets of a source.

        Args:
            store: the converted source.
            known: where the task is known from, for messages.

        Raises:
            UserError: a row has a target that the task does not know.
        """

    @abstractmethod
    def fitted(self, values: np.ndarray) -> Self:
        """The task with what the values of the training rows decide (baselines, scales)."""

    def calibrated(self, values: np.ndarray, predictions: np.ndarray) -> Self:
        """The task with what the predictions on validation rows decide; they were not trained on."""
        return self

    @abstractmethod
    def describe(self) -> str:
        """A few words for the terminal, such as "5 labels"."""

    @abstractmethod
    def data_summary(self, values: np.ndarray) -> dict[str, Any]:
        """Numbers about the values of a split, for the report."""

    @abstractmethod
    def groups(self, values: np.ndarray) -> Groups:
        """The labels of rows, by which findings about texts are told apart."""

    def data_warnings(self) -> list[str]:
        """Sentences about the training rows that the user should read."""
        return []

    def unseen_notes(self, values: np.ndarray, name: str) -> list[str]:
        """Sentences on what the rows of the set `name`, with these values, can tell nothing about."""
        return []

    # To the model.

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Width of the model's last layer."""

    @property
    def scale(self) -> float:
        """How large a difference of predictions is that counts as 1: tolerances are meant in it."""
        return 1.0

    @abstractmethod
    def training_targets(self, values: np.ndarray) -> np.ndarray:
        """float32 [n, outputs], as the loss takes them."""

    def example_weights(self, values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """For training.class_weights balanced: from values to weights, float32 [n]; `values` are the training rows'."""
        raise NotImplementedError

    @abstractmethod
    def loss(self, label_smoothing: float = 0.0) -> "keras.losses.Loss":
        """From targets and the last layer's outputs to one value a row."""

    def likeness(self, targets: "tf.Tensor", others: "tf.Tensor") -> "tf.Tensor":
        """float32 [n, m], from 0 to 1: how alike rows are, by their training targets, [n, outputs] and [m, outputs]."""
        raise NotImplementedError

    @abstractmethod
    def soft_loss(self, teacher: "tf.Tensor", student: "tf.Tensor", temperature: float) -> "tf.Tensor":
        """float32 [batch], of the last layers' outputs of a teacher and a student."""

    @abstractmethod
    def teacher_fault(self, teacher: "Task") -> str | None:
        """Why a model of the task `teacher` cannot teach one of this task; None: it can."""

    @abstractmethod
    def last_layer(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """The last layer, [hidden, outputs] and [outputs], as programs take it that do not know what else the task
        has: its outputs are logits, or numbers in the units of the data; and names of the outputs."""

    @abstractmethod
    def activation(self, logits: "tf.Tensor") -> "tf.Tensor":
        """Predictions, float32 [batch, K], of the last layer's outputs, float32 [batch, outputs]."""

    @property
    @abstractmethod
    def activation_steps(self) -> tuple[tuple[str, float | None], ...]:
        """The activation as operations of ONNX, one after the other, each with the number that it takes beside."""

    # Scores.

    @abstractmethod
    def scores(self, values: np.ndarray, predictions: np.ndarray) -> dict[str, Any]:
        """All scores of a set of rows: plain numbers, ready for JSON; "rows" and "loss" among them.

        Raises:
            UserError: no rows, or predictions that are not numbers.
        """

    @abstractmethod
    def row_scores(self, values: np.ndarray, predictions: np.ndarray) -> RowScores:
        """The score by which groups of rows are compared."""

    def logits_of(self, predictions: np.ndarray) -> np.ndarray:
        """float64 [n, K], logits that have these predictions, of tasks with labels."""
        raise NotImplementedError

    def predictions_of_logits(self, logits: np.ndarray) -> np.ndarray:
        """float32 [n, K], as `activation`, without TensorFlow, of tasks with labels."""
        raise NotImplementedError

    def row_losses(self, values: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """float64 [n], the cross-entropy of each row in nats, of tasks with labels."""
        raise NotImplementedError

    @property
    def baseline_outputs(self) -> int:
        """How many outputs the linear model of `baseline_predictions` learns together; others one after the other."""
        return 1

    @abstractmethod
    def baseline_predictions(
        self, features: Any, values: np.ndarray, others: Sequence[Any], boosted: bool = False
    ) -> list[np.ndarray]:
        """What scikit-learn's linear model predicts, or its gradient boosting, float [m, K] each.

        Args:
            features: of the training rows, [n, F], sparse for the linear model.
            values: theirs.
            others: features, [m, F] each, of the rows to predict.
            boosted: whether it is gradient boosting, which takes NaN for what is missing.
        """

    @abstractmethod
    def headline(self, scores: dict[str, Any]) -> dict[str, Any]:
        """The scores that a model's metadata has."""

    def headline_of_group(self, scores: dict[str, Any]) -> dict[str, Any]:
        """The same for a group of the rows, which may lack what others have."""
        return self.headline(scores)

    group_note: ClassVar[str] = ""
    """What `headline_of_group` does otherwise than `headline`."""

    @abstractmethod
    def mistakes(self, values: np.ndarray, predictions: np.ndarray, limit: int) -> list[dict[str, Any]]:
        """The rows where the model is most wrong: dicts with "row" and what `page` shows of them."""

    # The care of labels: pipeline/labels.

    @abstractmethod
    def doubts(self, values: np.ndarray, predictions: np.ndarray) -> "Doubts":
        """Which values the predictions of a model that has not learned them contradict."""

    @abstractmethod
    def uncertainty(self, predictions: np.ndarray) -> np.ndarray | None:
        """float [n], the larger the less sure predictions are; None: they do not tell."""

    @abstractmethod
    def written(self, values: np.ndarray) -> list[str]:
        """Values as a cell of the data has them."""

    @abstractmethod
    def table(self, scores: dict[str, Any]) -> ScoreTable:
        """The scores for the terminal."""

    @abstractmethod
    def findings(self, scores: dict[str, Any], name: str, validation: dict | None) -> tuple[list[str], list[str]]:
        """Warnings (why not to trust the scores of the set `name`, or the model) and notes (where it is weak)."""

    @abstractmethod
    def page(self, scores: dict[str, Any], validation: dict | None, mistakes: Sequence[dict]) -> Page:
        """The task's part of the report."""

    # To a served model.

    @abstractmethod
    def served(self, evaluation: "EvaluationConfig", export: "ExportConfig") -> Self:
        """The task with the settings of its answers.

        Raises:
            UserError: they do not go with it.
        """

    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """JSON-able: "task" and what `from_metadata` needs."""

    @classmethod
    @abstractmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> Self:
        """The inverse of `metadata`; other keys are passed over."""

    def too_few(self, validation_rows: int) -> str | None:
        """Why so few validation rows cannot decide the answers that the settings ask for; None: they can."""
        return None

    @property
    def fault(self) -> str | None:
        """Why the answers cannot be what the settings ask for, once `calibrated`; None: they can."""
        return None

    @abstractmethod
    def answer(self, predictions: "tf.Tensor") -> dict[str, "tf.Tensor"]:
        """The outputs of serving_default, but for `fit`."""

    def answered(self, predictions: "tf.Tensor", fit: "tf.Tensor | None" = None) -> dict[str, "tf.Tensor"]:
        """The outputs of serving_default, with the fit of the rows, float32 [batch], where the task has it."""
        answer = self.answer(predictions)
        return answer if self.fit is None else self.fit.applied(answer, fit)

    @abstractmethod
    def answer_of(self, predictions: np.ndarray) -> Outputs:
        """As `answer`, without TensorFlow, strings as str."""

    @property
    @abstractmethod
    def row_outputs(self) -> tuple[str, ...]:
        """Of the outputs that `answer` gives, those with one value a text, in the order of a table's columns."""

    @property
    def answer_names(self) -> tuple[str, ...]:
        """Of the outputs of serving_default, those with one value a text, in the order of a table's columns."""
        return (*self.row_outputs, *((FIT,) if self.fit else ()))

    example_signature: ClassVar[str]
    """Name of the signature that takes serialized tf.Examples, as TensorFlow Serving's APIs ask."""

    @property
    @abstractmethod
    def answer_specs(self) -> "dict[str, dict[str, tuple[str, tuple[int, ...]]]]":
        """dtype and shape behind the batch of what `answer` and `example_answer` give, by signature and output."""

    @property
    def output_specs(self) -> "dict[str, dict[str, tuple[str, tuple[int, ...]]]]":
        """The same of the outputs of serving_default and `example_signature`."""
        specs = self.answer_specs
        fit = {FIT: ("float32", ())} if self.fit else {}
        return specs | {"serving_default": specs["serving_default"] | fit}

    @abstractmethod
    def example_answer(self, predictions: "tf.Tensor") -> dict[str, "tf.Tensor"]:
        """The outputs of that signature."""

    @property
    def optional_signatures(self) -> tuple[str, ...]:
        """Signatures over texts that only this kind of task has."""
        return ()

    def optional_answer(self, name: str, predictions: "tf.Tensor", top_k: int) -> dict[str, "tf.Tensor"]:
        """The outputs of one of `optional_signatures`."""
        raise NotImplementedError

    @abstractmethod
    def explained(self, predictions: "tf.Tensor") -> tuple["tf.Tensor", dict[str, "tf.Tensor"]]:
        """What an explanation is about: int32 [batch], for `contribution`, and outputs of the signature explain."""

    @abstractmethod
    def contribution(self, logits: "tf.Tensor", about: "tf.Tensor") -> "tf.Tensor":
        """float32 [batch]: the quantity to whose change the attributions of an explanation add up."""

    @abstractmethod
    def predictions_of(self, signature: str, outputs: Outputs) -> np.ndarray | None:
        """float32 [n, K] out of what a signature gave; None where it does not give predictions."""

    @abstractmethod
    def inconsistency(
        self, signature: str, outputs: Outputs, predictions: np.ndarray, tolerance: float
    ) -> tuple[int, str] | None:
        """(row, what is wrong) where outputs do not follow from the model's own predictions; None: they do."""

    @abstractmethod
    def same_answers(self, old: Outputs, new: Outputs) -> np.ndarray:
        """bool [n]: where two models of this kind of task answer alike."""

    @abstractmethod
    def gives(self, outputs: Outputs, label: str) -> np.ndarray:
        """bool [n]: which answers, outputs of serving_default, have a label.

        Raises:
            UserError: the task has no labels, or not this one.
        """

    @abstractmethod
    def quantity(self, outputs: Outputs, label: str | None) -> np.ndarray:
        """float64 [n]: the probability of a label in answers, outputs of serving_default; None: the number that an
        answer is.

        Raises:
            UserError: the task has no labels, or not this one; or it has, and none is given.
        """

    @abstractmethod
    def truth(self, cells: Sequence[Any], columns: Sequence[str]) -> Any:
        """What the cells of the target's columns say, as `compare` takes it; JSON-able.

        Raises:
            ValueError: it is no target; the message is the end of a sentence about the row.
        """

    @abstractmethod
    def compare(self, old: "Task", answers: Sequence[Outputs], truth: Sequence[Any] | None) -> dict[str, Any]:
        """What becomes of an old model's answers with one of this task.

        Args:
            old: the old model's, of the same kind.
            answers: outputs of serving_default of the old and of this model.
            truth: `truth` of each row; None: unknown.

        Returns:
            JSON-able; with `truth`, "scores" has those of "old" and "new".

        Raises:
            UserError: no row's target is one that the models know.
        """

    @abstractmethod
    def comparison_lines(self, found: dict[str, Any]) -> list[str]:
        """What `compare` found, for the terminal."""

    @abstractmethod
    def answer_notes(self) -> str:
        """Markdown for who asks the model: what its answers mean."""

    @abstractmethod
    def shown_prediction(self, prediction: np.ndarray) -> str:
        """One row of predictions in a few characters."""
