"""report.html: one file that shows how good a model is, where it is weak and how it came about."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

import pipeline.tasks
from pipeline.evaluation import plots
from pipeline.evaluation.baseline import Baseline, headline
from pipeline.evaluation.evaluate import Evaluation
from pipeline.evaluation.formatting import number, percent
from pipeline.evaluation.groups import group_findings, tables_of_groups
from pipeline.files import write_text
from pipeline.tasks.task import Task

SPLITS = ("train", "validation", "test")
CROSS_VALIDATION = "cross_validation"
FINE_TUNING_CHARTS = {
    "Loss": {"training": "loss", "validation": "validation_loss"},
    # The lines are the task's.
    "Validation scores": {},
    "Learning rate": {"learning rate": "learning_rate"},
    "Speed": {"examples a second": "examples_per_second"},
}
PRETRAINING_CHARTS = {
    "Masked tokens, loss in nats": {
        "training": "masked_loss",
        "held out": "validation_masked_loss",
        "unigrams": "unigram_entropy",
    },
    "Held-out scores": {
        "masked tokens": "validation_masked_accuracy",
        "next sentence": "validation_next_sentence_accuracy",
    },
    "Speed": {"sequences a second": "examples_per_second"},
}
NOTHING_KNOWN = "There were neither test nor validation rows: nothing is known about how good this model is."


@dataclass
class ReportContent:
    """What report.html shows.

    Attributes:
        title: the run's name.
        metrics: as in metrics.json. "test" or else "validation" (of the task) is shown; either may be missing. "train":
            any numbers; its "best_epoch" is marked in the curves; its "history" has one dict an epoch with "epoch",
            "loss", "validation_..." and any other numbers. "pretraining": likewise, with "updates" in place of
            "epoch", and "unigram_entropy". Where there is nothing else, only that is shown.
        config_yaml: the resolved config.
        environment: names and versions.
        task: None: nothing was predicted.
        mistakes: Task.mistakes, each with "text", a list of its one or two texts.
        data_summary: any nested dict; train, validation and test are shown side by side.
        warnings: sentences about the data or the run, shown first.
        baselines: what a linear model scores on the same rows, and with columns beside the text gradient boosting.
    """

    title: str
    metrics: dict[str, Any]
    config_yaml: str
    environment: dict[str, Any]
    task: Task | None = None
    mistakes: Sequence[dict] = ()
    data_summary: dict[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    baselines: Sequence[Baseline] = ()

    def add(self, found: Evaluation, data_summary: dict[str, Any], warnings: Sequence[str]) -> None:
        """What is known once a model is evaluated."""
        self.task, self.mistakes = found.task, found.mistakes
        self.baselines = [*([found.baseline] if found.baseline else []), *found.boosted]
        if crossed := self.metrics.get(f"{CROSS_VALIDATION}_baseline"):
            self.baselines.append(Baseline.of_metrics(crossed))
        self.data_summary, self.warnings = data_summary, warnings
        if found.baseline is not None:
            self.metrics["baseline"] = found.baseline.metrics(found.task)
        if found.boosted:
            self.metrics["boosted_baselines"] = [one.metrics(found.task) for one in found.boosted]

    @property
    def shown(self) -> str | None:
        """The split whose scores are shown."""
        return next((split for split in ("test", "validation", CROSS_VALIDATION) if self.metrics.get(split)), None)

    def findings(self) -> tuple[list[str], list[str]]:
        """Warnings and notes about the scores."""
        if self.task is None:
            return [], []
        if self.shown is None:
            return [NOTHING_KNOWN], []
        validation = self.metrics.get("validation") if self.shown == "test" else None
        scores = self.metrics[self.shown]
        of_task = self.task.findings(scores, self.shown, validation)
        of_groups = group_findings(scores.get("by_group", {}), self.shown)
        shown = [one for one in self.baselines if self.shown in one.better]
        # The strongest is enough to know.
        strongest = min(shown, key=lambda one: one.better[self.shown or ""][0], default=None)
        warning = strongest.warning(self.shown) if strongest else None
        warnings = of_task[0] + of_groups[0] + ([warning] if warning else [])
        return warnings, self.compared() + of_task[1] + of_groups[1]

    def compared(self) -> list[str]:
        """Lines on what others score on the rows that are shown, and on the score of cross-validation beside them."""
        if self.task is None or self.shown is None:
            return []
        lines = [one.line(self.task, self.shown) for one in self.baselines if self.shown in one.scores]
        crossed = self.metrics.get(CROSS_VALIDATION, {})
        if crossed and self.shown != CROSS_VALIDATION:
            title = f"cross-validation of the {crossed['rows']} training rows in {crossed['folds']} folds"
            lines.append(f"{title}: {headline(self.task, crossed)}")
            lines += [one.line(self.task, CROSS_VALIDATION) for one in self.baselines if CROSS_VALIDATION in one.scores]
        return [*lines, crossed["note"]] if "note" in crossed else lines


def write_report(path: Path | str, content: ReportContent) -> list[str]:
    """Write a self-contained HTML page, beside, then renamed: no script, style, font or picture is fetched from
    anywhere.

    Returns:
        All warnings of the page: those given, then those that its scores give rise to.
    """
    metrics, name, task = content.metrics, content.shown, content.task
    validation = metrics.get("validation") if name == "test" else None
    train, pretraining = metrics.get("train") or {}, metrics.get("pretraining") or {}
    found, notes = content.findings()
    shown_warnings = [*content.warnings, *found]
    history, looks = (_numbers_of(part.get("history", [])) for part in (train, pretraining))
    for look in looks:
        look["unigram_entropy"] = pretraining["unigram_entropy"]
    charts = FINE_TUNING_CHARTS | ({"Validation scores": task.curves} if task else {})
    page = template("report.html.j2").render(
        title=content.title,
        name=name,
        rows=metrics[name]["rows"] if name else 0,
        page=task.page(metrics[name], validation, content.mistakes) if task and name else None,
        group_tables=tables_of_groups(metrics[name]) if name else [],
        training={key: value for key, value in train.items() if _is_number(value)},
        warnings=shown_warnings,
        notes=notes,
        curves=learning_curves(history, charts, "epoch", train.get("best_epoch")),
        only_pretrained=task is None,
        pretraining={key: value for key, value in pretraining.items() if _is_number(value)},
        pretraining_curves=learning_curves(looks, PRETRAINING_CHARTS, "updates"),
        last_look=looks[-1] if looks else {},
        best_epoch=train.get("best_epoch"),
        history_columns=list(dict.fromkeys(key for epoch in history for key in epoch)),
        history=history,
        data_tables=summary_tables(content.data_summary),
        config_yaml=content.config_yaml,
        environment=content.environment,
    )
    write_text(path, page, errors="replace")
    return shown_warnings


def learning_curves(
    history: list[dict], charts: Mapping[str, Mapping[str, str]], x: str, marked: float | None = None
) -> list[dict]:
    """Charts (title, series names with last value, svg) of whatever a history holds; none for a single point.

    Args:
        history: dicts of numbers.
        charts: title to {name of the line: key in the history}.
        x: the key along the axis.
        marked: draws a vertical line there.
    """
    if len(history) < 2:
        return []
    drawn = []
    for title, keys in charts.items():
        percentages = title.endswith("scores")
        y_format = percent if percentages else "{:.3g}".format
        series = {label: [(row[x], row[key]) for row in history if key in row] for label, key in keys.items()}
        series = {label: points for label, points in series.items() if points}
        if series:
            svg = plots.line_chart(
                series,
                x_label=x,
                y_format=y_format,
                tick_format=(lambda value: f"{100 * value:.3g}") if percentages else y_format,
                marked_x=marked,
            )
            last = {label: y_format(points[-1][1]) for label, points in series.items()}
            drawn.append({"title": title, "last": last, "svg": Markup(svg)})
    return drawn


def summary_tables(summary: dict) -> list[dict]:
    """Tables (caption, header, rows of text cells) that hold every value of a nested dict."""
    splits = {key: summary[key] for key in SPLITS if isinstance(summary.get(key), Mapping)}
    rest = {key: value for key, value in summary.items() if key not in splits}
    nested = {key: value for key, value in rest.items() if isinstance(value, Mapping) and value}
    tables = []
    if plain := [[_words(key), number(value)] for key, value in rest.items() if key not in nested]:
        tables.append({"caption": "", "header": [], "rows": plain})
    if splits:
        keys = list(dict.fromkeys(key for split in splits.values() for key in split))
        inner = [key for key in keys if any(isinstance(split.get(key), Mapping) for split in splits.values())]
        header = ["", *splits]
        rows = [[_words(key), *(number(s.get(key)) for s in splits.values())] for key in keys if key not in inner]
        if rows:
            tables.append({"caption": "", "header": header, "rows": rows})
        for key in inner:
            columns = [split[key] if isinstance(split.get(key), Mapping) else {} for split in splits.values()]
            names = dict.fromkeys(name for column in columns for name in column)
            rows = [[str(name), *(number(column.get(name)) for column in columns)] for name in names]
            tables.append({"caption": _words(key), "header": header, "rows": rows})
    for key, values in nested.items():
        rows = [[str(name), number(value)] for name, value in values.items()]
        tables.append({"caption": _words(key), "header": [], "rows": rows})
    return tables


def breakable(name: object) -> Markup:
    """A label, which may break after its underscores and slashes instead of within words."""
    return Markup(re.sub("(?<=[_/])", "<wbr>", str(escape(clean(name)))))


def clean(text: object) -> str:
    """Text that a browser accepts: other control characters than tab and line breaks are shown as U+FFFD."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", "\ufffd", str(text))


def template(name: str, *folders: Path) -> Template:
    """A template of this folder, of the tasks', or of one given, which may extend this folder's page.

    Args:
        name: of its file.
        folders: more to look in.
    """
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, Path(pipeline.tasks.__path__[0]), *folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number, "clean": clean, "breakable": breakable}
    return environment.get_template(name)


def _numbers_of(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if _is_number(value)} for row in history]


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _words(key: str) -> str:
    return str(key).replace("_", " ")
