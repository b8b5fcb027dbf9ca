"""Thresholds of decisions, tuned on rows."""

from collections.abc import Sequence

import numpy as np

from pipeline.evaluation.formatting import listed, quoted
from pipeline.tasks.label_scores import ratio

# Rows of a label from which a tuned threshold is taken without a remark.
FEW_ROWS = 10


def best_f1_threshold(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """The threshold with the best F1 of "at least that probable", as a float32: halfway between two probabilities.

    Args:
        truth: bool [n], at least one of them true.
        probabilities: float32 [n].
    """
    probabilities = np.asarray(probabilities, np.float32)
    order = np.argsort(-probabilities, kind="stable")
    values, hits = probabilities[order], np.cumsum(truth[order])
    # The row behind which a threshold may lie: the last of equally probable ones.
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    f1 = 2 * hits[last] / (last + 1 + truth.sum())
    cut = last[int(np.argmax(f1))]
    below = values[cut + 1] if cut + 1 < len(values) else np.float32(0.0)
    middle = np.float32((np.float64(values[cut]) + np.float64(below)) / 2)
    # Between neighbours among float32 the middle may be rounded to the lower one.
    return float(middle if middle > below else values[cut])


def tuning_warnings(names: Sequence[str], rows: Sequence[int]) -> list[str]:
    """Sentences on labels of which so few validation rows were there that a threshold says little.

    Args:
        names: labels whose thresholds were tuned.
        rows: validation rows of each.
    """
    found = []
    if missing := [name for name, count in zip(names, rows, strict=True) if not count]:
        found.append(f"No validation row has the label {listed(missing)}: no threshold could be tuned for it.")
    few = [f"{quoted(name)} ({count})" for name, count in zip(names, rows, strict=True) if 0 < count < FEW_ROWS]
    if few:
        more = f" and {len(few) - 8} more" if len(few) > 8 else ""
        found.append(f"Tuned thresholds rest on few validation rows of {', '.join(few[:8])}{more}: they may be chance.")
    return found


def best_common_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, dict[str, float]]:
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
        "micro_f1": ratio(2 * hits.sum(axis=0), predictions.sum(axis=0) + support.sum()),
        "macro_f1": ratio(2 * hits, predictions + support).mean(axis=0),
    }
    best = {}
    for name, values in f1.items():
        # Of equally good thresholds the one nearest to 0.5.
        equals = np.flatnonzero(values >= values.max() - 1e-12)
        choice = equals[np.abs(grid[equals] - 0.5).argmin()]
        best[name] = {"threshold": grid[choice].item(), "score": values[choice].item()}
    return best
