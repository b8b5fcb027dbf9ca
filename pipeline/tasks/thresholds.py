"""Thresholds of decisions, tuned on rows that nothing was trained on."""

from collections.abc import Sequence

import numpy as np

from pipeline.evaluation.formatting import listed, quoted

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
