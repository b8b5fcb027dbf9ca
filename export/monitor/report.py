"""What was found, for people, for programs and for Prometheus."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipeline.data.formats import escaped
from pipeline.evaluation import plots
from pipeline.evaluation.formatting import percent
from pipeline.evaluation.report import template
from pipeline.files import write_text

# Points of a line that are drawn; of more windows the largest of neighbours is.
POINTS = 150
PREFIX = "bert_pipeline_monitor"


def lines(found: dict[str, Any]) -> Iterator[str]:
    """For the terminal."""
    windows, features = found["windows"], found["features"]
    yield (f"{found['rows']} rows in {len(windows)} windows from {windows[0]['begins']} on, against "
           f"{found['reference']['rows']} rows: {found['reference']['made_from']}")  # fmt: skip
    if found["passed_over"]:
        yield f"{found['passed_over']} rows before --since are passed over"
    if found["without_time"]:
        yield f"{found['without_time']} rows without a time are passed over"
    if found["not_in_logs"]:
        yield f"not in the logs, so not looked at: {', '.join(found['not_in_logs'])}"
    yield ""
    width = max(len(feature["name"]) for feature in features)
    yield f"{'':{width}}     PSI      JS         p  windows moved"
    for feature in features:
        whole, since = feature["whole"], ""
        if feature["moved"]:
            since = f"  MOVED since {feature['since']}"
        numbers = " ".join(f"{_short(whole[key]):>{size}}" for key, size in (("psi", 7), ("js", 7), ("p", 9)))
        yield f"{feature['name']:{width}} {numbers}  {feature['windows_moved']:13}{since}"
    for feature in features:
        if feature["moved"]:
            most = sorted(feature["bins"], key=lambda one: -abs(one["now"] - one["reference"]))[:3]
            shown = (f"{one['bin']} {percent(one['reference'])} -> {percent(one['now'])} %" for one in most)
            yield f"  {feature['name']}: {'; '.join(map(escaped, shown))}"
    yield ""
    if found["accuracy"]:
        accuracy = found["accuracy"]
        yield (f"accuracy, estimated from scores: {percent(accuracy['calibrated'])} % ({percent(accuracy['low'])} to "
               f"{percent(accuracy['high'])}), by difference of confidences {percent(accuracy['doc'])} %; of the "
               f"reference {percent(accuracy['reference'])} %")  # fmt: skip
    if found["least_fitting"]:
        yield f"rows that fit least, by {found['least_fitting_by']}:"
    for row in found["least_fitting"]:
        others = " ".join(f"{name}={_short(value)}" for name, value in row.items() if name not in ("texts", "time"))
        yield f"  {row['time'] or ''} {escaped(others)}  {escaped(' | '.join(row['texts']))[:160]}"
    yield "something has moved" if found["moved"] else "nothing has moved"


def write_page(path: Path, found: dict[str, Any], model: str) -> None:
    """Write a self-contained page, as `pipeline.evaluation.report` does."""
    windows = found["windows"]
    figures = [_figure("PSI of windows", {f["name"]: f["psi"] for f in _strongest(found["features"])}, "{:.3g}".format)]
    estimates = [window.get("estimated_accuracy") for window in windows]
    figures.append(_figure("Estimated accuracy", {"by average confidence": estimates}, percent, lowest=True))
    page = template("drift.html.j2", Path(__file__).parent).render(
        title=f"Watching {model}",
        page=None,
        found=found,
        figures=[figure for figure in figures if figure],
        begins=windows[0]["begins"],
        written=time.strftime("%Y-%m-%d %H:%M:%S"),
    )
    write_text(path, page, errors="replace")


def _strongest(features: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many as a chart has colours for, those that moved most first."""
    return sorted(features, key=lambda one: -(one["largest_psi"] or 0))[:5]


def _figure(title: str, series: dict[str, list], y_format: Any, lowest: bool = False) -> dict[str, Any] | None:
    """A chart over the windows; None where no line has two points."""
    pick = min if lowest else max
    count = max(map(len, series.values()))
    step = -(-count // POINTS)
    drawn = {}
    for name, values in series.items():
        parts = [
            (start + 1, [v for v in values[start : start + step] if v is not None]) for start in range(0, count, step)
        ]
        points = [(number, pick(some)) for number, some in parts if some]
        if len(points) > 1:
            drawn[name] = points
    if not drawn:
        return None
    svg = plots.line_chart(drawn, x_label="window", y_format=y_format, tick_format=y_format)
    return {
        "title": title,
        "last": {name: y_format(points[-1][1]) for name, points in drawn.items()},
        "svg": Markup(svg),
    }


def write_prometheus(path: Path, found: dict[str, Any], model: str) -> None:
    """Write metrics for the textfile collector of Prometheus' node exporter, whole or not at all.

    Args:
        path: in the collector's folder; the name must end in .prom for it to be read.
        model: value of the label model_name.
    """
    features, accuracy = found["features"], found["accuracy"]
    of_features = {
        "psi": ("PSI against the reference, less what chance gives.", [f["whole"]["psi"] for f in features]),
        "jensen_shannon": ("Jensen-Shannon divergence from it, from 0 to 1.", [f["whole"]["js"] for f in features]),
        "moved": ("1 where a feature has moved in some window, or in all rows together.",
                  [int(f["moved"]) for f in features]),
    }  # fmt: skip
    single = {
        "rows": ("Rows that were looked at.", found["rows"]),
        "estimated_accuracy": ("Share of right answers, estimated from scores.", accuracy and accuracy["calibrated"]),
        "reference_accuracy": ("Share of right answers of the reference's rows.", accuracy and accuracy["reference"]),
        "report_time_seconds": ("When this report was made.", int(time.time())),
    }
    label = f'model_name="{_label(model)}"'
    written = []
    for name, (help, values) in of_features.items():
        known = [(f["name"], value) for f, value in zip(features, values, strict=True) if value is not None]
        written += _head(name, help)
        written += [f'{PREFIX}_{name}{{{label},feature="{_label(feature)}"}} {value:.6g}' for feature, value in known]
    for name, (help, value) in single.items():
        if value is not None:
            shown = value if isinstance(value, int) else f"{value:.6g}"
            written += [*_head(name, help), f"{PREFIX}_{name}{{{label}}} {shown}"]
    write_text(path, "\n".join(written) + "\n")


def _head(name: str, help: str) -> list[str]:
    return [f"# HELP {PREFIX}_{name} {help}", f"# TYPE {PREFIX}_{name} gauge"]


def _label(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _short(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
