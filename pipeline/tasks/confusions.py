"""Which classes are taken for which: from a confusion matrix to what the report shows."""

from typing import Any

from pipeline.evaluation import plots

# A table of cells up to here, one small square a cell above.
MATRIX_CLASSES = 30


def confused_pairs(scores: dict, limit: int) -> list[dict]:
    """The most frequent confusions: dicts of true, predicted, count and share (of the rows of the true class)."""
    labels = list(scores["per_class"])
    pairs = [
        {"true": labels[i], "predicted": labels[j], "count": count, "share": count / sum(row)}
        for i, row in enumerate(scores["confusion_matrix"])
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: (-pair["count"], -pair["share"]))[:limit]


def shown_matrix(scores: dict) -> dict[str, Any]:
    """The matrix as the template shows it: names, and rows of cells, or a picture of many classes."""
    names, counts = list(scores["per_class"]), scores["confusion_matrix"]
    if len(names) > MATRIX_CLASSES:
        return {"svg": plots.compact_matrix(counts, names), "names": names}
    rows = [
        [{"count": count, "share": count / max(sum(row), 1), "right": i == j} for j, count in enumerate(row)]
        for i, row in enumerate(counts)
    ]
    return {"svg": None, "names": names, "rows": rows}
