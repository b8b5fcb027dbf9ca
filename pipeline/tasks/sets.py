"""Sets of labels that hold the right one as often as was asked for: split conformal prediction.

Sadinle, Lei and Wasserman, 2019 (LAC): a label is in the set where its probability is at least a threshold, the k-th
smallest probability of the right label among n rows that nothing was trained on, k being floor((n + 1)(1 - coverage)).
A new row of the same kind then has its right label in the set with a probability of at least the coverage, whatever the
model: on average over all rows; class by class where each label has its own threshold, of its own rows. Sets that are
adaptive in place of that (APS) were 34 times as large on 150 intents.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.formatting import listed
from pipeline.evaluation.interval import wilson

# What rounding may add to the sum of probabilities.
SLACK = 1e-3


@dataclass(frozen=True)
class Sets:
    """Which labels are in a row's set.

    Attributes:
        coverage: share of rows whose set shall hold the right label.
        thresholds: the smallest probability in a set, as a float32: one for all labels, or one a label.
        rows: validation rows that have chosen them.
    """

    coverage: float
    thresholds: tuple[float, ...]
    rows: int

    def members(self, probabilities: np.ndarray) -> np.ndarray:
        """bool [n, C], as the exported model decides."""
        return np.asarray(probabilities, np.float32) >= np.asarray(self.thresholds, np.float32)

    def width(self, classes: int) -> int:
        """Labels of the largest set that there can be, as probabilities add up to 1."""
        least = np.resize(np.sort(np.asarray(self.thresholds, np.float64)), classes)
        return max(1, int((np.cumsum(np.sort(least)) <= 1 + SLACK).sum()))

    def answer(self, names: Sequence[str], predictions) -> dict[str, Any]:
        """The outputs of the signature `set`: `set_labels`, string [batch, width], the most probable first and ""
        behind the last, and `set_size`, int32 [batch]."""
        import tensorflow as tf

        members = predictions >= tf.constant(self.thresholds, tf.float32)
        ranked, classes = tf.math.top_k(tf.where(members, predictions, -1.0), self.width(len(names)))
        labels = tf.where(ranked >= 0, tf.gather(tf.constant(list(names)), classes), "")
        return {"set_labels": labels, "set_size": tf.reduce_sum(tf.cast(members, tf.int32), axis=1)}

    def scores(self, values: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
        """asked and covered, the shares of rows whose set should hold and holds the right label, with the interval of
        the latter; least, down to which chance explains it, in these rows and in those that chose; mean_size; single
        and empty, the shares of sets with one label and with none."""
        members = self.members(probabilities)
        covered, sizes = members[np.arange(len(values)), values], members.sum(axis=1)
        spread = self.coverage * (1 - self.coverage)
        return {
            "asked": self.coverage,
            "covered": float(covered.mean()),
            "covered_interval": wilson(float(covered.mean()), len(values)),
            "least": self.coverage - 2 * math.sqrt(spread * (1 / len(values) + 1 / self.rows)),
            "mean_size": float(sizes.mean()),
            "single": float((sizes == 1).mean()),
            "empty": float((sizes == 0).mean()),
        }

    def fault(
        self, names: Sequence[str], outputs: dict[str, Any], predictions: np.ndarray, tolerance: float
    ) -> tuple[int, str] | None:
        """(row, what is wrong) where outputs of `set` do not follow from the model's own probabilities."""
        limits = np.broadcast_to(np.asarray(self.thresholds, np.float32), (len(names),))
        for row, (labels, size, known) in enumerate(
            zip(outputs["set_labels"], outputs["set_size"], predictions, strict=False)
        ):
            found = {label for label in labels if label}
            sure = {names[int(c)] for c in np.flatnonzero(known >= limits + tolerance)}
            possible = {names[int(c)] for c in np.flatnonzero(known >= limits - tolerance)}
            if not (sure <= found <= possible and int(size) == len(found)):
                return row, f"gives the set {listed(sorted(found))} of {size} where {listed(sorted(sure))} pass"
        return None

    def metadata(self) -> dict[str, Any]:
        """JSON-able."""
        return {"coverage": self.coverage, "thresholds": list(self.thresholds), "rows": self.rows}

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> "Sets":
        """The inverse of `metadata`."""
        return cls(metadata["coverage"], tuple(metadata["thresholds"]), metadata["rows"])

    def notes(self) -> str:
        """A sentence for who asks the model: what is guaranteed and what is not."""
        whose = "of each label" if len(self.thresholds) > 1 else "of all rows"
        return (
            f"`set` gives the labels that together hold the right one in at least {self.coverage:.1%} {whose}: on "
            f"average over texts of the same kind as the {self.rows} validation rows that chose the threshold, and "
            "over the choice of those rows; not for a single text or a group of texts, nor once the texts change in "
            "kind. The same rows chose the epoch and the temperature, which the guarantee does not count. A set may be "
            "empty: then no label is probable enough."
        )


def find_sets(values: np.ndarray, probabilities: np.ndarray, coverage: float, by_label: bool = False) -> Sets:
    """Thresholds of rows that nothing was trained on.

    Args:
        values: int [n], the right classes.
        probabilities: float32 [n, C].
        coverage: from 0 to 1, share of rows whose set shall hold the right label.
        by_label: a threshold for each label; one with fewer than `fewest_rows` rows is in every set.
    """
    values = np.asarray(values)
    right = np.asarray(probabilities, np.float32)[np.arange(len(values)), values]
    groups = [right[values == c] for c in range(probabilities.shape[1])] if by_label else [right]
    return Sets(coverage, tuple(_threshold(group, coverage) for group in groups), len(values))


def fewest_rows(coverage: float) -> int:
    """Rows from which a threshold above 0 follows."""
    return math.ceil(round(1 / (1 - coverage), 9)) - 1


def _rank(rows: int, coverage: float) -> int:
    # Not floor((n + 1) * (1 - 0.9)), which in floating point is one less.
    return math.floor(round((rows + 1) * (1 - coverage), 9))


def _threshold(right: np.ndarray, coverage: float) -> float:
    rank = _rank(len(right), coverage)
    return float(np.sort(right)[rank - 1]) if rank else 0.0
