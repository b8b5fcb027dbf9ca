"""Which classes are taken for which: counted, and what the report shows of it."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.evaluation import plots

# A table of cells up to here, one small square a cell above.
MATRIX_CLASSES = 30
# The matrix is kept whole up to here: it grows with the square of the classes, the confusions that there are do not.
WHOLE_CLASSES = 500


def confusions(true: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, list]:
    """Counts of pairs of classes, for the scores.

    Args:
        true, predicted: int [n], below `classes`.

    Returns:
        "confusion_matrix", a list for each true class of counts by predicted class; of more than WHOLE_CLASSES classes
        "confusions", a list of [true, predicted, count] of the pairs that occur.
    """
    pairs, counts = np.unique(np.asarray(true, np.int64) * classes + predicted, return_counts=True)
    if classes > WHOLE_CLASSES:
        return {"confusions": np.column_stack([*divmod(pairs, classes), counts]).tolist()}
    matrix = np.zeros(classes * classes, np.int64)
    matrix[pairs] = counts
    return {"confusion_matrix": matrix.reshape(classes, classes).tolist()}


def _counted(scores: dict) -> Iterator[tuple[int, int, int]]:
    """The pairs that occur, in order: true class, predicted class, count."""
    if "confusions" in scores:
        yield from scores["confusions"]
        return
    for i, row in enumerate(scores["confusion_matrix"]):
        yield from ((i, j, count) for j, count in enumerate(row) if count)


def confused_pairs(scores: dict, limit: int) -> list[dict]:
    """The most frequent confusions: dicts of true, predicted, count and share (of the rows of the true class)."""
    labels = list(scores["per_class"])
    supports = [row["support"] for row in scores["per_class"].values()]
    pairs = [
        {"true": labels[i], "predicted": labels[j], "count": count, "share": count / supports[i]}
        for i, j, count in _counted(scores)
        if i != j
    ]
    return sorted(pairs, key=lambda pair: (-pair["count"], -pair["share"]))[:limit]


def shown_matrix(scores: dict) -> dict[str, Any]:
    """The matrix as the template shows it: names, and rows of cells, or a picture of many classes."""
    names = list(scores["per_class"])
    if len(names) > MATRIX_CLASSES:
        supports = [row["support"] for row in scores["per_class"].values()]
        return {"svg": plots.compact_matrix(_counted(scores), names, supports), "names": names}
    rows = [
        [{"count": count, "share": count / max(sum(row), 1), "right": i == j} for j, count in enumerate(row)]
        for i, row in enumerate(scores["confusion_matrix"])
    ]
    return {"svg": None, "names": names, "rows": rows}
