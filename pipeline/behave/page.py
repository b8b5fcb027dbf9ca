"""What became of the tests, as people read it: on the terminal, on a page of its own, and in the run's report."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.formats import printable
from pipeline.evaluation.formatting import percent
from pipeline.evaluation.report import template
from pipeline.evaluation.table import print_table
from pipeline.files import write_text
from pipeline.tasks.label_page import shown_texts
from pipeline.tasks.page import ScoreTable

HEADER = ("", "kind", "tried", "failed", "failed, %", "95 % interval", "limit, %")
TEXT_SHOWN = 70
# In report.html; what is between them is replaced.
BEGIN, END = "<!-- behaviour -->", "<!-- end of behaviour -->"


def table_rows(tests: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Cells under HEADER, of tests that were tried, as behaviour.json has them."""
    rows = []
    for one in tests:
        low, high = map(percent, one["interval"])
        limit = "" if one["limit"] is None else percent(one["limit"]) + ("" if one["passed"] else " broken")
        counts = str(one["tried"]), str(one["failed"])
        rows.append((one["name"], one["kind"], *counts, percent(one["failure_rate"]), f"{low} to {high}", limit))
    return rows


def print_outcomes(found: Mapping[str, Any], shown: int, line_of: Callable[[Mapping[str, Any]], str]) -> None:
    """Print the table, and the worst failure of each of the tests that fail most.

    Args:
        found: what behaviour.json holds.
        shown: of so many tests.
        line_of: an answer on one line.
    """
    rows = table_rows(_tried(found))
    lines = notes(found)
    for one in sorted(found["tests"], key=lambda one: -(one["failure_rate"] or 0))[:shown]:
        for example in one["examples"][:1]:
            before = f"{line_of(example['before'])} -> " if "before" in example else ""
            text = " | ".join(example.get("changed", example["texts"]))
            short = printable(text)[:TEXT_SHOWN] + ("..." if len(text) > TEXT_SHOWN else "")
            lines.append(f"  {printable(one['name'])}: {before}{line_of(example['after'])}  {short}")
    print_table(ScoreTable(HEADER, rows, [], lines), limit=len(rows))


def notes(found: Mapping[str, Any]) -> list[str]:
    """Lines below the table."""
    lines = [
        f"on {about}" for about in dict.fromkeys(one["about"] for one in found["tests"]) if "templates" not in about
    ]
    if untried := [one["name"] for one in found["tests"] if not one["tried"]]:
        lines.append(f"nothing to try: {', '.join(untried)} (no text has what would be changed)")
    if found["private"]:
        lines.append("the run is private: none of its rows is shown")
    return lines


def write_page(path: Path, title: str, found: Mapping[str, Any]) -> None:
    """Write a self-contained page with the table and the worst failures."""
    page = template("behave.html.j2", Path(__file__).parent).render(
        title=f"Behaviour of {title}",
        page=None,
        **_table(found),
        failures=[(one, list(map(_shown, one["examples"]))) for one in found["tests"] if one["examples"]],
    )
    write_text(path, page, errors="replace")


def show_in_report(path: Path, found: Mapping[str, Any]) -> None:
    """Put the table into the run's report, in place of the one that is there; a report that has no room for it, of an
    earlier version of this project, stays as it is."""
    if not path.is_file():
        return
    report = path.read_text(encoding="utf-8")
    part = template("behave_table.html.j2", Path(__file__).parent).render(_table(found))
    changed = re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n{part}\n{END}", report, count=1, flags=re.DOTALL)
    if changed != report:
        write_text(path, changed, errors="replace")


def _tried(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in found["tests"] if one["tried"]]


def _table(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the template of the table needs."""
    tests = _tried(found)
    rows = [(one["passed"], cells) for one, cells in zip(tests, table_rows(tests), strict=True)]
    return {"found": found, "header": HEADER, "rows": rows, "notes": notes(found)}


def _shown(example: Mapping[str, Any]) -> dict[str, Any]:
    """An example as the template shows it: its texts cut, and its answers as cells."""
    texts = shown_texts(example["texts"])
    changed = shown_texts(example.get("changed", []))
    answers = {side: list(map(_cell, example[side].values())) for side in ("before", "after") if side in example}
    return {"texts": texts, "changed": changed, "answers": answers, "place": example.get("place", "")}


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"
