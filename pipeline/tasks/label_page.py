"""What all tasks with named classes show of their scores: terminal table, findings, sections of the report."""

from collections.abc import Sequence
from typing import Any

from pipeline.evaluation import plots
from pipeline.evaluation.formatting import listed, one_line, quoted
from pipeline.tasks.page import ScoreTable

TEMPLATE = "labels.html.j2"
TEXT_SHOWN = 700


def worst_first(per_class: dict) -> list[str]:
    """Names by F1, then by support, the weakest and largest first; classes without rows last."""
    return sorted(
        per_class,
        key=lambda name: (per_class[name]["support"] == 0, per_class[name]["f1"], -per_class[name]["support"]),
    )


def score_table(scores: dict, averages: Sequence[str], lines: list[str]) -> ScoreTable:
    """Precision, recall, F1 and support of each class, the worst first, and averages."""

    def shares(values: dict, keys: Sequence[str]) -> list[str]:
        return [f"{values[key]:.3f}" for key in keys]

    kinds = ("precision", "recall", "f1")
    rows = []
    for name in worst_first(scores["per_class"]):
        row = scores["per_class"][name]
        cells = shares(row, kinds) if row["support"] else ["–"] * 3
        rows.append((one_line(name), *cells, str(row["support"])))
    support = str(sum(row["support"] for row in scores["per_class"].values()))
    totals = [(f"{a} average", *shares(scores, [f"{a}_{kind}" for kind in kinds]), support) for a in averages]
    return ScoreTable(("", "precision", "recall", "F1", "support"), rows, totals, lines)


def left_out_of_averages(scores: dict) -> list[str]:
    """A line on the classes that macro averages pass over: they neither occur nor are predicted."""
    absent = [label for label in scores["without_support"] if label in scores["never_predicted"]]
    if not absent:
        return []
    count = len(scores["per_class"])
    have, of = "has" if len(absent) == 1 else "have", f"{count - len(absent)} of {count} classes"
    return [f"macro averages are over {of}: {listed(absent)} {have} no row and no prediction"]


def class_findings(scores: dict, name: str) -> tuple[list[str], list[str]]:
    """Warnings and notes about single classes in the scores of a set of rows."""
    warnings, notes = [], []
    if scores["without_support"]:
        names = listed(scores["without_support"])
        warnings.append(
            f"No {name} row has the label {names}: nothing is known about how well it is recognised, and averages such "
            f"as macro F1 ({scores['macro_f1']:.3f}) say nothing about it."
        )
    # A class without rows is rightly never predicted.
    never = [label for label in scores["never_predicted"] if scores["per_class"][label]["support"] > 0]
    if never:
        warnings.append(f"Never predicted, though {name} rows have it: {listed(never)}.")
    scored = {label: s for label, s in scores["per_class"].items() if s["support"] > 0 and label not in never}
    if len(scored) > 2:
        weakest = sorted(scored, key=lambda label: scored[label]["f1"])[:3]
        described = ", ".join(f"{quoted(label)} ({scored[label]['f1']:.1%})" for label in weakest)
        notes.append(f"The weakest classes by F1 are {described}.")
    return warnings, notes


def calibration_figure(scores: dict, keys: str, axes: tuple[str, str], unit: str) -> dict[str, Any]:
    """A figure of task.Page: the reliability diagram with its x and y labels; `unit` is what a bin counts."""
    return {
        "title": "Calibration",
        "keys": keys,
        "svg": plots.reliability_diagram(scores["calibration_bins"], x_label=axes[0], y_label=axes[1]),
        "caption": "On the dashed line a probability means what it says; below it the model is too sure. "
        f"Faint bars rest on few {unit}.",
    }


def mistake(item: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A mistake as the template shows it: its texts cut, its classes by name."""
    label, predicted = item["label"], item["predicted"]
    return {
        "texts": shown_texts(item["text"]),
        "label": [{"name": names[c], "wrong": c not in predicted} for c in label],
        "predicted": [{"name": names[c], "wrong": c not in label} for c in predicted],
        "probability": item["probability"],
        "label_probability": item.get("label_probability"),
    }


def shown_texts(texts: Sequence[str]) -> list[dict[str, Any]]:
    """The beginnings of texts, each with the number of characters left out."""
    return [{"shown": text[:TEXT_SHOWN], "left": max(len(text) - TEXT_SHOWN, 0)} for text in texts]
