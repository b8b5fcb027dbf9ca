"""What a run leaves behind for its reader: metrics.json, report.html, and the scores on the terminal."""

import json
import platform
import time
from pathlib import Path

import keras
import tensorflow as tf

from pipeline.data.split import Split
from pipeline.evaluation.groups import tables_of_groups
from pipeline.evaluation.report import ReportContent, write_report
from pipeline.evaluation.table import print_table
from pipeline.files import write_text
from pipeline.training.checkpoint import Progress


def environment() -> dict[str, str]:
    """Names and versions."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def write_results(run_dir: Path, content: ReportContent) -> None:
    """Write both files into a run's folder; print the scores that the report shows, and all its warnings."""
    metrics = {**content.metrics, "environment": content.environment}
    write_text(run_dir / "metrics.json", json.dumps(metrics, indent=1, allow_nan=False))
    warnings = write_report(run_dir / "report.html", content)
    if content.task and content.shown:
        scores = content.metrics[content.shown]
        print_table(content.task.table(scores), content.shown)
        for line in content.compared():
            print(line)
        for table in tables_of_groups(scores):
            print_table(table)
    if warnings:
        print("warnings:", *warnings, sep="\n  ")


def training_summary(progress: Progress, train: Split | None) -> dict[str, dict]:
    """What metrics.json says of a finished training on these rows, as "train"; {} where nothing was trained."""
    if train is None or not progress.history:
        return {}
    seconds = sum(row["seconds"] for row in progress.history)
    summary = {
        "seconds": seconds,
        "examples_per_second": sum(row["examples_per_second"] * row["seconds"] for row in progress.history)
        / max(seconds, 1e-9),
        "epochs": len(progress.history),
        "best_epoch": None if progress.best_epoch is None else progress.best_epoch + 1,
        "history": progress.history,
    }
    return {"train": summary}
