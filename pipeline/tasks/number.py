"""A number a row: stars, severity, price."""

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from pipeline.errors import UserError
from pipeline.labels.confident import Doubts, doubt_numbers
from pipeline.tasks import number_page as shown
from pipeline.tasks.label_scores import refuse_not_numbers
from pipeline.tasks.outside import Outside
from pipeline.tasks.page import Page, ScoreTable
from pipeline.tasks.targets import Groups
from pipeline.tasks.task import Outputs, RowScores, Task

# A split takes its share of the rows of each of so many parts of the training values' range.
STRATA = 10
POINTS_SHOWN = 1000


class Reader:
    """The number of a row, float64."""

    @property
    def dtypes(self) -> dict[str, type]:
        return {"values": np.float64}

    def read(self, cells: Sequence[Any]) -> float:
        (cell,) = cells
        if isinstance(cell, bytes):
            cell = cell.decode("utf-8", "replace")
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            raise ValueError("has no value to predict")
        if isinstance(cell, (bool, np.bool_)) or not isinstance(cell, (str, numbers.Real)):
            raise ValueError(f"has a {type(cell).__name__} where a number is expected")
        try:
            value = float(cell)
        except ValueError:
            raise ValueError(f"has {cell!r} where a number is expected") from None
        if not math.isfinite(value):
            raise ValueError(f"has {value} where a finite number is expected")
        return value

    def add(self, target: float, arrays: dict[str, list]) -> None:
        arrays["values"].append(target)

    def summary(self) -> dict[str, Any]:
        return {}


class Values:
    """The numbers of a store's rows."""

    def __init__(self, store):
        self.all = store.arrays["values"]

    def values(self, rows: np.ndarray) -> np.ndarray:
        """float64 [n]"""
        return np.asarray(self.all)[rows]

    def probabilities(self, rows: np.ndarray) -> None:
        """There are none."""

    def strata(self, rows: np.ndarray) -> np.ndarray:
        """int [n]: in which tenth of the rows' sorted values."""
        values = self.values(rows)
        bounds = np.unique(np.quantile(values, np.linspace(0, 1, STRATA + 1)[1:-1]))
        return np.digitize(values, bounds)


@dataclass(frozen=True)
class Number(Task):
    """A number, learned in units of the training rows' standard deviation about their mean.

    Predictions are float32 [n, 1], values float64 [n], both in the units of the data.
    """

    mean: float = 0.0
    deviation: float = 1.0
    half_width: float | None = None
    """Half of the width of the prediction interval; None: there were no validation rows to tell."""
    coverage: float = 0.9
    """Share of values that the interval shall hold."""
    median: float | None = field(default=None, compare=False)
    """Of the training rows, whose absolute error is the baseline's; None: of the evaluated rows."""

    name = "number"
    problem_type = "regression"
    labelled = False
    monitors: ClassVar = {"mae": False, "rmse": False, "r2": True, "spearman": True, "loss": False}
    curves: ClassVar = {"R2": "validation_r2", "Spearman": "validation_spearman"}
    shown = ("loss", "mae")
    example_signature = "regress"

    # From the data.

    @classmethod
    def fits(cls, data) -> bool:
        return False

    @classmethod
    def check(cls, config) -> None:
        for setting, value in (
            ("data.label_separator", config.data.label_separator),
            ("data.label_columns", config.data.label_columns),
            ("data.labels", config.data.labels),
            ("training.label_smoothing", config.training.label_smoothing),
            ("export.abstain_below", config.export.abstain_below),
            ("export.abstain_error", config.export.abstain_error),
            ("export.coverage", config.export.coverage),
            ("export.outside", config.export.outside),
            ("evaluation.threshold tuned", config.evaluation.threshold == "tuned"),
        ):
            if value:
                raise UserError(f"{setting} is for labels, and data.task is number: unset one of the two.")
        if config.training.class_weights != "none":
            raise UserError("training.class_weights is for labels, and data.task is number: unset one of the two.")

    @classmethod
    def reader(cls, data) -> Reader:
        return Reader()

    @classmethod
    def of(cls, data, train) -> Self:
        return cls()

    @classmethod
    def stand_in(cls, data) -> Self:
        return cls()

    @classmethod
    def outputs_fault(cls, outputs: int) -> str | None:
        return f"predicts {outputs} numbers at once, and only one can be served." if outputs > 1 else None

    def targets(self, store, known: str) -> Values:
        return Values(store)

    def fitted(self, values: np.ndarray) -> Self:
        if values.min() == values.max():
            raise UserError(f"all training rows have the value {values[0]:g}: there is nothing to learn.")
        mean, deviation = float(values.mean()), float(values.std())
        return replace(self, mean=mean, deviation=deviation, median=float(np.median(values)))

    def calibrated(self, values: np.ndarray, predictions: np.ndarray) -> Self:
        """With the half width of a split conformal interval (Lei et al. 2018): the smallest so large that a new row of
        the same kind is inside with probability `coverage`, whatever the model."""
        residuals = np.sort(np.abs(values - predictions[:, 0]))
        rank = math.ceil((len(residuals) + 1) * self.coverage)
        # With too few rows no finite width is sure to do; the largest residual is the best guess.
        return replace(self, half_width=float(residuals[min(rank, len(residuals)) - 1]))

    def describe(self) -> str:
        if self.median is None:
            return "a number"
        return f"a number, {self.mean:.4g} ± {self.deviation:.4g} in training"

    def data_summary(self, values: np.ndarray) -> dict[str, Any]:
        quantiles = (0.0, 0.1, 0.5, 0.9, 1.0)
        return {
            "values": {f"{q:.0%}": float(np.quantile(values, q)) for q in quantiles}
            | {"mean": float(values.mean()), "standard deviation": float(values.std())}
        }

    def groups(self, values: np.ndarray) -> Groups:
        return Groups(np.zeros(len(values), np.int64), np.zeros(0, np.int64), ())

    # The care of labels.

    def doubts(self, values: np.ndarray, predictions: np.ndarray) -> Doubts:
        return doubt_numbers(values, predictions[:, 0])

    def uncertainty(self, predictions: np.ndarray) -> None:
        """A single number does not say how sure it is."""

    def written(self, values: np.ndarray) -> list[str]:
        # The shortest that is read back as the same number.
        return [str(value).removesuffix(".0") for value in np.asarray(values)]

    # To the model.

    @property
    def outputs(self) -> int:
        return 1

    @property
    def scale(self) -> float:
        return self.deviation

    def training_targets(self, values: np.ndarray) -> np.ndarray:
        return ((values - self.mean) / self.deviation).astype(np.float32)[:, np.newaxis]

    def loss(self, label_smoothing: float = 0.0):
        """Squared error in standard deviations."""
        import keras

        return keras.losses.MeanSquaredError(reduction=None)

    def soft_loss(self, teacher, student, temperature: float):
        """Squared error to the teacher's answer; a number has no temperature."""
        import tensorflow as tf

        return tf.reduce_mean(tf.square(tf.stop_gradient(teacher) - student), axis=-1)

    def teacher_fault(self, teacher: Task) -> str | None:
        if not isinstance(teacher, Number):
            return f"is of another task ({teacher.name}): give both runs data.task number."
        scales = [(task.mean, task.deviation) for task in (self, teacher)]
        if not np.allclose(*scales, rtol=1e-6):
            return (
                f"learned from other rows: their values are {scales[1][0]:.6g} ± {scales[1][1]:.6g}, this run's "
                f"{scales[0][0]:.6g} ± {scales[0][1]:.6g}; give both the same training rows."
            )
        return None

    def last_layer(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        return kernel * self.deviation, bias * self.deviation + self.mean, ("LABEL_0",)

    def activation(self, logits):
        return logits * self.deviation + self.mean

    @property
    def activation_steps(self):
        return ("Mul", self.deviation), ("Add", self.mean)

    # Scores.

    def scores(self, values: np.ndarray, predictions: np.ndarray) -> dict[str, Any]:
        """rows, mae and rmse in the data's units, r2, spearman (None where either is constant), loss (squared error in
        standard deviations), the baseline of always giving the training rows' median or mean, the interval's width and
        the share of rows inside it, and up to POINTS_SHOWN pairs of value and prediction."""
        from scipy.stats import spearmanr
        from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

        values = np.asarray(values, np.float64)
        if not len(values):
            raise UserError("There are no rows to evaluate: give a validation or test set with at least one row.")
        refuse_not_numbers(predictions)
        predicted = np.asarray(predictions, np.float64)[:, 0]
        varied = len(values) > 1 and np.ptp(values) > 0
        median = np.median(values) if self.median is None else self.median
        mean = values.mean() if self.median is None else self.mean
        squared = float(mean_squared_error(values, predicted))
        points = np.linspace(0, len(values) - 1, min(len(values), POINTS_SHOWN)).astype(int)
        return {
            "rows": len(values),
            "mae": float(mean_absolute_error(values, predicted)),
            "rmse": math.sqrt(squared),
            "r2": float(r2_score(values, predicted)) if varied else None,
            "spearman": float(np.asarray(spearmanr(values, predicted))[0])
            if varied and np.ptp(predicted) > 0
            else None,
            "loss": squared / self.deviation**2,
            "baseline": {
                "value": float(median),
                "mae": float(np.abs(values - median).mean()),
                "rmse": float(np.sqrt(np.square(values - mean).mean())),
            },
            **self._interval_scores(values, predicted),
            "points": np.stack([values, predicted], axis=1)[points].round(6).tolist(),
        }

    def _interval_scores(self, values: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
        if self.half_width is None:
            return {}
        inside = float((np.abs(values - predicted) <= self.half_width).mean())
        return {"interval": {"coverage_wanted": self.coverage, "half_width": self.half_width, "coverage": inside}}

    def row_scores(self, values: np.ndarray, predictions: np.ndarray) -> RowScores:
        errors = np.abs(values - np.asarray(predictions, np.float64)[:, 0])
        return RowScores("mae", errors, share=False, higher_is_better=False)

    def baseline_predictions(
        self, features, values: np.ndarray, others: Sequence[Any], boosted: bool = False
    ) -> list[np.ndarray]:
        """Of ridge regression, or boosted trees."""
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.linear_model import Ridge

        model = HistGradientBoostingRegressor(random_state=0) if boosted else Ridge(alpha=1.0)
        model.fit(features, values)
        return [np.asarray(model.predict(other))[:, np.newaxis] for other in others]

    def headline(self, scores: dict[str, Any]) -> dict[str, Any]:
        return {name: scores[name] for name in ("mae", "rmse", "r2")}

    def mistakes(self, values: np.ndarray, predictions: np.ndarray, limit: int) -> list[dict[str, Any]]:
        """The rows of the largest errors: row, value and predicted."""
        errors = np.abs(values - predictions[:, 0])
        rows = np.argsort(-errors, kind="stable")[:limit].tolist()
        return [
            {"row": row, "value": float(values[row]), "predicted": float(predictions[row, 0])}
            for row in rows
            if errors[row] > 0
        ]

    def table(self, scores: dict[str, Any]) -> ScoreTable:
        return shown.table(self, scores)

    def findings(self, scores: dict[str, Any], name: str, validation: dict | None) -> tuple[list[str], list[str]]:
        return shown.findings(self, scores, name, validation)

    def page(self, scores: dict[str, Any], validation: dict | None, mistakes: Sequence[dict]) -> Page:
        return shown.page(self, scores, validation, mistakes)

    # To a served model.

    def served(self, evaluation, export) -> Self:
        return replace(self, coverage=evaluation.interval, fit=Outside.wanted(export))

    def metadata(self) -> dict[str, Any]:
        names = ("mean", "deviation", "half_width", "coverage")
        return {"task": self.name, **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> Self:
        return cls(metadata["mean"], metadata["deviation"], metadata["half_width"], metadata["coverage"])

    @property
    def row_outputs(self) -> tuple[str, ...]:
        return ("value",) if self.half_width is None else ("value", "low", "high")

    @property
    def answer_specs(self) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
        return {
            "serving_default": dict.fromkeys(self.row_outputs, ("float32", ())),
            "regress": {"outputs": ("float32", (1,))},
        }

    def answer(self, predictions) -> dict[str, Any]:
        value = predictions[:, 0]
        return self._with_interval(value)

    def answer_of(self, predictions: np.ndarray) -> Outputs:
        return self._with_interval(np.asarray(predictions, np.float32)[:, 0])

    def _with_interval(self, value) -> dict[str, Any]:
        if self.half_width is None:
            return {"value": value}
        half = np.float32(self.half_width)
        return {"value": value, "low": value - half, "high": value + half}

    def example_answer(self, predictions) -> dict[str, Any]:
        return {"outputs": predictions}

    def explained(self, predictions) -> tuple[Any, dict[str, Any]]:
        import tensorflow as tf

        return tf.zeros_like(predictions[:, 0], tf.int32), {"value": predictions[:, 0]}

    def contribution(self, logits, about):
        """The value, in its own units."""
        return self.activation(logits)[:, 0]

    def predictions_of(self, signature: str, outputs: Outputs) -> np.ndarray | None:
        found = outputs.get("outputs", outputs.get("value"))
        return None if found is None else np.asarray(found, np.float32).reshape(-1, 1)

    def inconsistency(
        self, signature: str, outputs: Outputs, predictions: np.ndarray, tolerance: float
    ) -> tuple[int, str] | None:
        if "value" in outputs and self.half_width is not None and "low" in outputs:
            wanted = self.answer_of(np.asarray(outputs["value"], np.float32)[:, np.newaxis])
            for key in ("low", "high"):
                wrong = ~np.isclose(np.asarray(outputs[key], np.float32), wanted[key], rtol=1e-5)
                if wrong.any():
                    return int(np.argmax(wrong)), f"has a {key} end that is not {self.half_width:g} from its value"
        return None

    def same_answers(self, old: Outputs, new: Outputs) -> np.ndarray:
        """Alike is what lies within the prediction interval; without one, within a tenth of the deviation."""
        near = 0.1 * self.deviation if self.half_width is None else self.half_width
        return np.abs(np.asarray(old["value"]) - np.asarray(new["value"])) <= near

    def gives(self, outputs: Outputs, label: str) -> np.ndarray:
        raise UserError(f"the model answers numbers, which have no label {label!r}: give bounds in its place.")

    def quantity(self, outputs: Outputs, label: str | None) -> np.ndarray:
        if label is not None:
            raise UserError(f"the model answers numbers, which have no label {label!r}: leave it out.")
        return np.asarray(outputs["value"], np.float64)

    def truth(self, cells: Sequence[Any], columns: Sequence[str]) -> float:
        return Reader().read(cells)

    def compare(self, old: Any, answers: Sequence[Outputs], truth: Sequence[Any] | None) -> dict[str, Any]:
        values = [np.asarray(answer["value"], np.float64) for answer in answers]
        found: dict[str, Any] = {"mean_change": float((values[1] - values[0]).mean())}
        found["largest_change"] = float(np.abs(values[1] - values[0]).max())
        if truth is None:
            return found
        true = np.array(truth)
        names = ("mae", "rmse", "r2")
        scores = [self.scores(true, value.astype(np.float32)[:, np.newaxis]) for value in values]
        sides = zip(("old", "new"), scores, strict=True)
        return found | {"scores": {side: {name: score[name] for name in names} for side, score in sides}}

    def comparison_lines(self, found: dict[str, Any]) -> list[str]:
        lines = [f"change of a value: {found['mean_change']:+.4g} on average, {found['largest_change']:.4g} at most"]
        for name in ("mae", "rmse", "r2") if "scores" in found else ():
            old, new = found["scores"]["old"][name], found["scores"]["new"][name]
            lines.append(f"{name:9} {shown.share(old)} -> {shown.share(new)}")
        return lines

    def answer_notes(self) -> str:
        if self.half_width is None:
            return "`value` is the prediction, in the units of the training data."
        return (
            "`value` is the prediction, in the units of the training data; new values of the same kind lie between "
            f"`low` and `high` with a probability of {self.coverage:.0%}."
        )

    def shown_prediction(self, prediction: np.ndarray) -> str:
        return f"{prediction[0]:.4g}"


TASK = Number
