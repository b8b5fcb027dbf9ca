"""Two models with named classes beside each other: what changed, and what it does to each class."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.tasks.label_scores import by_class_scores
from pipeline.tasks.task import Outputs

SHOWN = 10


def compare_labels(
    tasks: Sequence[Any], answers: Sequence[Outputs], truth: Sequence[Sequence[str]] | None
) -> dict[str, Any]:
    """Of each class how often it was answered and, where there are right labels, how well.

    Args:
        tasks: of the old model and of the new one; `labels_in` divides a label of theirs into names of classes.
        answers: outputs of serving_default of both for the same rows.
        truth: the names of the right classes of each row; None: unknown.

    Returns:
        moves (changed labels with their numbers), largest_probability_change (None where the classes differ),
        per_class, and with `truth` scores: accuracy and macro_f1 of "old" and "new", how many rows were fixed and
        broken, and how many have labels that neither knows.

    Raises:
        UserError: no right label is one of the models'.
    """
    old, new = (answer["label"] for answer in answers)
    moves = Counter((a, b) for a, b in zip(old, new, strict=True) if a != b)
    names = list(dict.fromkeys([*tasks[1].names, *tasks[0].names]))
    given = [
        _indicators([task.labels_in(label) for label in answer["label"]], names)
        for task, answer in zip(tasks, answers, strict=True)
    ]
    per_class = [
        {"label": name, "old_count": int(given[0][:, i].sum()), "new_count": int(given[1][:, i].sum())}
        for i, name in enumerate(names)
    ]
    probabilities = [np.asarray(answer["probabilities"]) for answer in answers]
    same_classes = tasks[0].names == tasks[1].names
    found = {
        "moves": [{"old": a, "new": b, "count": count} for (a, b), count in moves.most_common()],
        "largest_probability_change": float(np.abs(probabilities[0] - probabilities[1]).max())
        if same_classes
        else None,
        "per_class": per_class,
    }
    if truth is not None:
        found["scores"] = _scores(given, names, truth, per_class)
    return found


def _scores(
    given: list[np.ndarray], names: list[str], truth: Sequence[Sequence[str]], per_class: list[dict]
) -> dict[str, Any]:
    """Accuracy and macro F1 of both; F1 and support of each class are added to `per_class`."""
    true = _indicators(truth, names)
    if not true.any():
        shown = next((label for label in truth if label), [""])
        raise UserError(f"no label of the data, such as {shown[0]!r}, is one of the models': {', '.join(names[:10])}.")
    # A label that a model cannot give is a row that it gets wrong, though no column stands for it.
    known = np.array([all(part in names for part in label) for label in truth])
    right = [known & (column == true).all(axis=1) for column in given]
    sides = {}
    for side, column, hit in zip(("old", "new"), given, right, strict=True):
        _, _, f1, _ = by_class_scores(true, column, range(len(names)))
        for row, value in zip(per_class, f1, strict=True):
            row[f"{side}_f1"] = float(value)
        present = true.any(axis=0) | column.any(axis=0)
        sides[side] = {"accuracy": float(hit.mean()), "macro_f1": float(f1[present].mean())}
    for row, support in zip(per_class, true.sum(axis=0), strict=True):
        row["support"] = int(support)
    return {
        **sides,
        "fixed": int((right[1] & ~right[0]).sum()),
        "broken": int((right[0] & ~right[1]).sum()),
        "unknown_labels": int((~known).sum()),
    }


def _indicators(labels: Sequence[Sequence[str]], names: list[str]) -> np.ndarray:
    """bool [n, names]: which names a row has."""
    place = {name: i for i, name in enumerate(names)}
    indicators = np.zeros((len(labels), len(names)), bool)
    for row, label in zip(indicators, labels, strict=True):
        row[[place[part] for part in label if part in place]] = True
    return indicators


def comparison_lines(found: dict[str, Any]) -> list[str]:
    """What `compare_labels` found, for the terminal."""
    lines, scores = [], found.get("scores")
    if found["largest_probability_change"] is not None:
        lines.append(f"largest change of a probability {found['largest_probability_change']:.4f}")
    if scores:
        for name in ("accuracy", "macro_f1"):
            old, new = scores["old"][name], scores["new"][name]
            lines.append(f"{name:9} {old:.4f} -> {new:.4f} ({new - old:+.4f})")
        lines.append(f"fixed {scores['fixed']} rows, broke {scores['broken']}")
        if scores["unknown_labels"]:
            lines.append(f"{scores['unknown_labels']} rows have a label that neither model knows")
    width = max(5, *(len(row["label"]) for row in found["per_class"]))
    lines += ["", f"{'':{width}}  answered: old     new" + ("   F1: old     new  support" if scores else "")]
    # Where most changed first.
    order = sorted(found["per_class"], key=lambda row: -abs(row["new_count"] - row["old_count"]))
    for row in order[: 3 * SHOWN]:
        line = f"{row['label']:{width}}  {row['old_count']:13} {row['new_count']:7}"
        lines.append(line + (f"   {row['old_f1']:7.3f} {row['new_f1']:7.3f} {row['support']:8}" if scores else ""))
    if len(order) > 3 * SHOWN:
        lines.append(f"... {len(order) - 3 * SHOWN} more; --json has all")
    if found["moves"]:
        lines += ["", "changed from and to"]
        lines += [f"  {move['old']} -> {move['new']}: {move['count']}" for move in found["moves"][:SHOWN]]
    return lines
