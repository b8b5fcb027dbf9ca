"""report.html of a search: the verdict, what it rests on, and how the trials went."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipeline.config import to_yaml
from pipeline.evaluation import plots
from pipeline.evaluation.formatting import number
from pipeline.evaluation.report import template
from pipeline.files import write_text
from pipeline.search.space import Setting
from pipeline.search.study import Study


def write_report(path: Path, study: Study, results: dict[str, Any]) -> None:
    """Write a self-contained page, as `pipeline.evaluation.report` does.

    Args:
        results: what search.json holds.
    """
    trials, (shown, tick) = results["trials"], _formats(results)
    scored = [trial for trial in trials if trial["score"] is not None]
    page = template("search.html.j2", Path(__file__).parent).render(
        title=f"Search of {study.folder.parent.name}",
        page=None,
        results=results,
        shown=shown,
        settings=[setting.key for setting in study.space],
        progress=_progress(results, scored, shown, tick) if len(scored) > 1 else None,
        charts_of_settings=_charts(study.space, scored, tick),
        config_yaml=to_yaml(study.config),
        finished=time.strftime("%Y-%m-%d %H:%M:%S"),
    )
    write_text(path, page, errors="replace")


def _formats(results: dict[str, Any]) -> tuple[Callable[[float | None], str], Callable[[float], str]]:
    """Scores as people read them, and at an axis: shares in percent, others as numbers."""
    known = [trial["score"] for trial in results["trials"] if trial["score"] is not None]
    share = results["higher_is_better"] and all(-1 <= score <= 1 for score in known)
    if not share:
        return number, "{:.4g}".format
    return lambda value: "–" if value is None else f"{100 * value:.2f}", lambda value: f"{100 * value:.4g}"


def _progress(results: dict[str, Any], scored: Sequence[dict], shown: Callable, tick: Callable) -> dict[str, Any]:
    """The best score so far, and what random order would have given, over the trials."""
    pick = max if results["higher_is_better"] else min
    scores = [trial["score"] for trial in scored]
    series = {
        "best so far": [(i, pick(scores[:i])) for i in range(1, len(scores) + 1)],
        "expected best of so many": list(enumerate(results["expected_best"], 1)),
    }
    svg = plots.line_chart(series, x_label="trials", y_format=shown, tick_format=tick)
    last = {name: shown(points[-1][1]) for name, points in series.items()}
    return {"title": f"Validation {results['monitor']} against budget", "last": last, "svg": Markup(svg)}


def _charts(space: Sequence[Setting], scored: Sequence[dict], tick: Callable[[float], str]) -> list[dict]:
    """The trials' scores over each setting that is a number."""
    found = []
    for setting in space:
        points = [
            (value, trial["score"])
            for trial in scored
            if isinstance(value := trial["settings"][setting.key], int | float) and (value > 0 or not setting.log)
        ]
        if len(points) > 1:
            svg = plots.dots(points, x_label=setting.key, y_format=tick, log=setting.log)
            found.append({"title": setting.key, "last": {}, "svg": Markup(svg)})
    return found
