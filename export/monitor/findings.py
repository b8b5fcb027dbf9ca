"""What windows of a log say about a reference: what has moved, since when, and how many answers are likely right."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from export.monitor.accuracy import estimate
from export.monitor.drift import SAFETY, Comparison, Limits, compare, moved_since
from export.monitor.reference import Reference
from export.monitor.sketch import Sketch
from export.monitor.watch import Watch, Window

# Bins that are shown of a feature with many.
BINS_SHOWN = 12


@dataclass(frozen=True)
class _Compared:
    """A feature in all windows, and in all rows together."""

    sketch: Sketch
    counts: np.ndarray
    windows: Comparison
    whole: Comparison


def find(reference: Reference, watch: Watch, limits: Limits) -> dict[str, Any]:
    """What is reported, JSON-able.

    Raises:
        ValueError: no row was counted, or none has anything of the reference.
    """
    windows = watch.in_order()
    if not windows:
        before = f", and {watch.passed_over} are before --since" if watch.passed_over else ""
        count = watch.without_time
        untimed = f", and {count} have no time, which {watch.needs_time} needs" if count else ""
        raise ValueError(f"the logs hold no row to look at{before}{untimed}.")
    compared = _compared(reference, windows)
    if not compared:
        raise ValueError("nothing that the reference has is in the logs.")
    looks = len(compared)
    moved = {one.sketch.name: one.windows.moved(limits, looks) for one in compared}
    of_whole = [one.sketch.name for one in compared if one.whole.moved(limits, looks)[0]]
    known = {one.sketch.name for one in compared}
    return {
        "reference": {"made_from": reference.made_from, "rows": reference.rows},
        "rows": watch.rows,
        "passed_over": watch.passed_over,
        "without_time": watch.without_time,
        "limits": asdict(limits) | {"p_of_a_feature": SAFETY * limits.level / looks},
        "moved": bool(of_whole) or any(found.any() for found in moved.values()),
        "features": [_feature(one, moved[one.sketch.name], windows, limits, looks) for one in compared],
        "not_in_logs": [sketch.name for sketch in reference.sketches if sketch.name not in known],
        "windows": [_window(reference, windows, i, moved) for i in range(len(windows))],
        "accuracy": _accuracy(reference, windows),
        "least_fitting_by": watch.least.by,
        "least_fitting": watch.least.rows(),
    }


def _compared(reference: Reference, windows: list[Window]) -> list[_Compared]:
    found = []
    for sketch in reference.sketches:
        none = np.zeros(sketch.size, np.int64)
        counts = np.stack([window.counts.get(sketch.name, none) for window in windows])
        if not counts.sum():
            continue
        theirs = np.array(sketch.counts)
        whole = counts.sum(axis=0, keepdims=True)
        found.append(_Compared(sketch, counts, *(compare(some, theirs, sketch.numeric) for some in (counts, whole))))
    return found


def _feature(one: _Compared, moved: np.ndarray, windows: list[Window], limits: Limits, looks: int) -> dict[str, Any]:
    """A feature of the report."""
    sketch, of_whole = one.sketch, bool(one.whole.moved(limits, looks)[0])
    alarms = np.flatnonzero(moved)
    theirs, until = np.array(sketch.counts), int(alarms[-1]) + 1 if len(alarms) else len(windows)
    since = moved_since(one.counts[:until], theirs) if len(alarms) or of_whole else None
    return {
        "name": sketch.name,
        "moved": of_whole or bool(len(alarms)),
        "since": None if since is None else windows[since].begins,
        "first_alarm": windows[alarms[0]].begins if len(alarms) else None,
        "windows_moved": len(alarms),
        "largest_psi": _number(np.nanmax(one.windows.psi)) if np.isfinite(one.windows.psi).any() else None,
        "whole": {key: _number(values[0]) for key, values in vars(one.whole).items()} | {"moved": of_whole},
        "psi": [_number(value) for value in one.windows.psi],
        "bins": _bins(sketch, one.counts[slice(since, until) if since is not None else slice(None)].sum(axis=0)),
    }


def _bins(sketch: Sketch, counts: np.ndarray) -> list[dict[str, Any]]:
    """Shares then and now; of many bins those that differ most."""
    then, now = np.array(sketch.counts) / sum(sketch.counts), counts / max(counts.sum(), 1)
    shown = np.flatnonzero((then > 0) | (now > 0))
    if len(shown) > BINS_SHOWN + 3:
        shown = shown[np.argsort(-np.abs(now - then)[shown], kind="stable")[:BINS_SHOWN]]
    names = sketch.bin_names()
    return [{"bin": names[i], "reference": float(then[i]), "now": float(now[i])} for i in shown.tolist()]


def _window(reference: Reference, windows: list[Window], i: int, moved: dict[str, np.ndarray]) -> dict[str, Any]:
    window = windows[i]
    accuracy = _estimated(reference, window.counts, window.sums)
    return {
        "begins": window.begins,
        "rows": window.rows,
        "moved": [name for name, found in moved.items() if found[i]],
        **({"estimated_accuracy": accuracy["calibrated"]} if accuracy else {}),
    }


def _accuracy(reference: Reference, windows: list[Window]) -> dict[str, Any] | None:
    """Of all rows."""
    if reference.accuracy is None:
        return None
    counts = {"score": sum(window.counts["score"] for window in windows if "score" in window.counts)}
    sums = [window.sums["score"] for window in windows if "score" in window.sums]
    together = (sum(total for total, _ in sums), sum(count for _, count in sums))
    found = _estimated(reference, counts, {"score": together})
    return found and {"reference": reference.accuracy.share, "reference_rows": reference.accuracy.rows, **found}


def _estimated(reference: Reference, counts: dict, sums: dict) -> dict[str, float] | None:
    """None: the reference does not know its accuracy, or no row has a score."""
    sketch = next((sketch for sketch in reference.sketches if sketch.name == "score"), None)
    if reference.accuracy is None or sketch is None or not sums.get("score", (0.0, 0))[1]:
        return None
    total, rows = sums["score"]
    return asdict(estimate(counts["score"], total / rows, reference.accuracy, sketch))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
