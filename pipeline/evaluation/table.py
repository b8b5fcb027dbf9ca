"""The scores as a table for the terminal, also when the output goes to a file."""

import sys
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Columns where the output has no width of its own (a file, a pipe).
WIDTH_OF_A_FILE = 100
LONGEST_LABEL = 48


def print_table(scores: dict, split: str = "", *, limit: int = 40, file: TextIO | None = None) -> None:
    """Print precision, recall, F1 and support of each class (worst F1 first), averages and the baseline.

    Args:
        scores: of one set of rows, from `classification_metrics`.
        split: the set's name, printed above.
        limit: show at most this many classes.
        file: where to print; None: standard output. Escape codes are written only to a terminal.
    """
    file = file or sys.stdout
    width = None if file.isatty() else WIDTH_OF_A_FILE
    # Not left to rich: FORCE_COLOR and the like would put escape codes into files.
    console = Console(file=file, force_terminal=file.isatty(), width=width, highlight=False, markup=False, emoji=False)
    names = worst_first(scores["per_class"])
    table = Table(title=split or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("", no_wrap=True, overflow="ellipsis", max_width=LONGEST_LABEL)
    for column in ("precision", "recall", "F1", "support"):
        table.add_column(column, justify="right", no_wrap=True, min_width=len(column), header_style="dim")
    for name in names[:limit]:
        row = scores["per_class"][name]
        shares = ("–" if row["support"] == 0 else f"{row[key]:.3f}" for key in ("precision", "recall", "f1"))
        table.add_row(Text(_one_line(name)), *shares, str(row["support"]))
    if len(names) > limit:
        table.add_row(Text(f"... {len(names) - limit} more in report.html", style="dim"))
    table.add_row()
    support = sum(row["support"] for row in scores["per_class"].values())
    for average in ("micro", "macro", "weighted") if "hamming_loss" in scores else ("macro", "weighted"):
        shares = (f"{scores[f'{average}_{key}']:.3f}" for key in ("precision", "recall", "f1"))
        table.add_row(Text(f"{average} average", style="bold"), *shares, str(support))
    with console.capture() as capture:
        console.print(table)
        console.print()
        for line in summary_lines(scores):
            console.print(Text(line))
    # A label in a script that the output's encoding lacks must not end a run that has just succeeded.
    encoding = getattr(file, "encoding", None) or "utf-8"
    file.write(capture.get().encode(encoding, "replace").decode(encoding))
    file.flush()


def summary_lines(scores: dict) -> list[str]:
    """Accuracy with its interval, the baseline beside it, loss and calibration, in a few short lines."""
    low, high = scores["accuracy_interval"]
    baseline = scores["majority_baseline"]
    multi_label = "hamming_loss" in scores
    kind = "accuracy of whole label sets" if multi_label else "accuracy"
    micro = f", micro F1 {baseline['micro_f1']:.3f}" if multi_label else ""
    lines = [
        f"{kind} {scores['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}) on {scores['rows']} rows",
        f"always {_one_line(baseline['label'])!r}: accuracy {baseline['accuracy']:.1%}{micro}, "
        f"macro F1 {baseline['macro_f1']:.3f}",
        f"loss {scores['loss']:.4f}, calibration error (ECE) {scores['ece']:.4f}",
    ]
    if multi_label:
        best = scores["best_threshold"]["micro_f1"]
        lines.append(
            f"threshold {scores['threshold']:g}; micro F1 on these rows is best at {best['threshold']:g} "
            f"({best['score']:.3f}, tuned on them)"
        )
    return lines


def worst_first(per_class: dict) -> list[str]:
    """Names by F1, then by support, the weakest and largest first; classes without rows last."""
    return sorted(
        per_class,
        key=lambda name: (per_class[name]["support"] == 0, per_class[name]["f1"], -per_class[name]["support"]),
    )


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
