"""report.html: one file that shows how good a model is, where it is weak and how it came about."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from pipeline.evaluation import plots
from pipeline.evaluation.findings import confused_pairs, findings
from pipeline.evaluation.table import worst_first
from pipeline.files import write_text

SPLITS = ("train", "validation", "test")
# A table of cells up to here, one small square a cell above.
MATRIX_CLASSES = 30
# From this many classes on, confusions are hard to find in the matrix by eye.
PAIRS_CLASSES = 8
PAIRS_SHOWN = 12
TEXT_SHOWN = 700
FINE_TUNING_CHARTS = {
    "Loss": {"training": "loss", "validation": "validation_loss"},
    "Validation scores": {
        "accuracy": "validation_accuracy",
        "macro F1": "validation_macro_f1",
        "micro F1": "validation_micro_f1",
    },
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
THIN_SPACE = "\u202f"


def write_report(
    path: Path | str,
    *,
    title: str,
    metrics: dict,
    config_yaml: str,
    environment: dict,
    label_names: Sequence[str] = (),
    mistakes: Sequence[dict] = (),
    data_summary: dict | None = None,
    warnings: Sequence[str] = (),
) -> list[str]:
    """Write a self-contained HTML page: no script, style, font or picture is fetched from anywhere.

    Args:
        path: of the page; written beside, then renamed.
        title: the run's name.
        metrics: as in metrics.json. "test" or else "validation" (from `classification_metrics`) is shown; either may
            be missing. "train": any numbers; its "best_epoch" is marked in the curves; its "history" has one dict an
            epoch with "epoch", "loss", "validation_..." and any other numbers. "pretraining": likewise, with "updates"
            in place of "epoch", and "unigram_entropy". Where there is nothing else, only that is shown.
        config_yaml: the resolved config.
        environment: names and versions.
        label_names: of the class numbers in `mistakes`.
        mistakes: from `confident_mistakes`, each with "text", a list of its one or two texts.
        data_summary: any nested dict; train, validation and test are shown side by side.
        warnings: sentences about the data or the run, shown first.

    Returns:
        All warnings of the page: those given, then those that its scores give rise to.
    """
    name = next((split for split in ("test", "validation") if metrics.get(split)), None)
    shown = metrics[name] if name else None
    validation = metrics.get("validation") if name == "test" else None
    train, pretraining = metrics.get("train") or {}, metrics.get("pretraining") or {}
    only_pretrained = bool(pretraining) and not train
    found, notes = ([], []) if only_pretrained else findings(shown, name or "test", validation)
    history, looks = (_numbers_of(part.get("history", [])) for part in (train, pretraining))
    for look in looks:
        look["unigram_entropy"] = pretraining["unigram_entropy"]
    shown_warnings = [*warnings, *found]
    page = _template().render(
        title=title,
        name=name,
        metrics=shown,
        multi_label=bool(shown) and "hamming_loss" in shown,
        validation=validation,
        training={key: value for key, value in train.items() if _is_number(value)},
        warnings=shown_warnings,
        notes=notes,
        curves=learning_curves(history, FINE_TUNING_CHARTS, "epoch", train.get("best_epoch")),
        only_pretrained=only_pretrained,
        pretraining={key: value for key, value in pretraining.items() if _is_number(value)},
        pretraining_curves=learning_curves(looks, PRETRAINING_CHARTS, "updates"),
        last_look=looks[-1] if looks else {},
        best_epoch=train.get("best_epoch"),
        history_columns=list(dict.fromkeys(key for epoch in history for key in epoch)),
        history=history,
        classes=worst_first(shown["per_class"]) if shown else [],
        matrix=_matrix(shown),
        pairs=confused_pairs(shown, PAIRS_SHOWN) if shown and len(shown["per_class"]) >= PAIRS_CLASSES else [],
        reliability=_reliability(shown),
        mistakes=[_mistake(item, label_names) for item in mistakes],
        data_tables=summary_tables(data_summary or {}),
        config_yaml=config_yaml,
        environment=environment,
    )
    write_text(path, page, errors="replace")
    return shown_warnings


def learning_curves(
    history: list[dict], charts: dict[str, dict[str, str]], x: str, marked: float | None = None
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
        # With one label a row micro F1 is the accuracy.
        series = {k: v for k, v in series.items() if v and not (k == "micro F1" and v == series["accuracy"])}
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


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal, without the sign."""
    return "–" if value is None else f"{100 * value:.1f}"


def number(value: object) -> str:
    """Any JSON-able value for reading: grouped digits, four significant ones, JSON for lists and dicts."""
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, Real):
        whole = math.isfinite(value) and (abs(value) >= 10_000 or value == round(value))
        return f"{value:,.0f}".replace(",", THIN_SPACE) if whole else f"{value:.4g}"
    return json.dumps(value, ensure_ascii=False, default=str)


def breakable(name: object) -> Markup:
    """A label, which may break after its underscores and slashes instead of within words."""
    return Markup(re.sub("(?<=[_/])", "<wbr>", str(escape(clean(name)))))


def clean(text: object) -> str:
    """Text that a browser accepts: other control characters than tab and line breaks are shown as U+FFFD."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", "\ufffd", str(text))


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number, "clean": clean, "breakable": breakable}
    return environment.get_template("report.html.j2")


def _matrix(metrics: dict | None) -> dict | None:
    if not metrics or "confusion_matrix" not in metrics:
        return None
    names, counts = list(metrics["per_class"]), metrics["confusion_matrix"]
    if len(names) > MATRIX_CLASSES:
        return {"svg": Markup(plots.compact_matrix(counts, names)), "names": names}
    rows = [
        [{"count": count, "share": count / max(sum(row), 1), "right": i == j} for j, count in enumerate(row)]
        for i, row in enumerate(counts)
    ]
    return {"svg": None, "names": names, "rows": rows}


def _reliability(metrics: dict | None) -> Markup | None:
    if not metrics:
        return None
    multi_label = "hamming_loss" in metrics
    x_label = "probability of a label" if multi_label else "probability of the predicted class"
    y_label = "given" if multi_label else "right"
    return Markup(plots.reliability_diagram(metrics["calibration_bins"], x_label=x_label, y_label=y_label))


def _mistake(item: dict, label_names: Sequence[str]) -> dict:
    label, predicted = item["label"], item["predicted"]
    return {
        "texts": [{"shown": text[:TEXT_SHOWN], "left": max(len(text) - TEXT_SHOWN, 0)} for text in item["text"]],
        "label": [{"name": label_names[c], "wrong": c not in predicted} for c in label],
        "predicted": [{"name": label_names[c], "wrong": c not in label} for c in predicted],
        "probability": item["probability"],
        "label_probability": item.get("label_probability"),
    }


def _numbers_of(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if _is_number(value)} for row in history]


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _words(key: str) -> str:
    return str(key).replace("_", " ")
