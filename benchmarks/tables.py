"""What a script of this folder has measured: as JSON, several of its runs together, and as tables in Markdown."""

import argparse
import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import load, processor, versions
from turns import ratios, spread, verdict

from pipeline.cores import cores

PACKAGES = ("tensorflow", "tensorflow-text", "keras", "keras-nlp", "tokenizers", "torch", "transformers", "accelerate",
            "onnxruntime", "openvino")  # fmt: skip


@dataclass
class Comparison:
    """Contenders, the first of them ours, and what each made in every turn.

    Attributes:
        title: what was measured, the same in each run of a script.
        unit: of the values, such as `texts/s`.
        values: by contender, one value a turn; None where it gave none.
        more_is_better: of rates; not of times.
        columns: further columns, by contender the factor that makes them of its median, of times of 1 / median. Titles
            that begin with `of peak` are of operations a second, shown as their share of the report's peak.
        facts: further columns, by contender their text.
    """

    title: str
    unit: str
    values: dict[str, list[float | None]]
    more_is_better: bool = True
    columns: dict[str, dict[str, float]] = field(default_factory=dict)
    facts: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass
class Report:
    """One run of a script.

    Attributes:
        comparisons: what was measured.
        left_out: why, by contender that was not asked.
        failed: why, by contender that was.
        notes: sentences on what is compared.
        machine: processor, cores, versions, load before and after.
        peak: operations a second of the fastest matrix product; 0: not measured.
    """

    comparisons: list[Comparison]
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    peak: float = 0.0


def add_arguments(parser: argparse.ArgumentParser, repeats: int) -> None:
    """What all scripts that take turns are told: --repeats, --first-turn, --json."""
    parser.add_argument("--repeats", type=int, default=repeats, help="turns")
    parser.add_argument("--first-turn", type=int, default=0, help="number of the first turn: decides the order")
    parser.add_argument("--json", type=Path, help="file that gets the results too")


def machine_before() -> dict[str, Any]:
    """To be called before the first turn."""
    return {"processor": processor(), "cores": cores(), "versions": versions(PACKAGES), "load": [load()]}


def publish(report: Report, options: argparse.Namespace) -> None:
    """Print the tables, and write the JSON where `options.json` says.

    Raises:
        SystemExit: a contender failed.
    """
    report.machine["load"].append(load())
    print("\n".join(lines_of(report)), flush=True)
    if options.json:
        options.json.write_text(json.dumps(dataclasses.asdict(report), indent=1), "utf-8")
    if report.failed:
        raise SystemExit(f"failed: {', '.join(report.failed)}")


def read(made: Mapping[str, Any]) -> Report:
    """A report of what `publish` wrote."""
    return Report(**{**made, "comparisons": [Comparison(**one) for one in made["comparisons"]]})


def joined(reports: Sequence[Report]) -> Report:
    """Several runs of a script as one: all turns, the medians of factors, the newest facts, the highest peak."""
    last = reports[-1]
    peak = max(report.peak for report in reports)
    # A run that was ended early may lack some of an earlier one's.
    newest = {one.title: one for report in reports for one in report.comparisons}
    found = Report([], notes=last.notes, machine=dict(last.machine), peak=peak)
    for report in reports:
        # What a later run did measure was no failure for good.
        there = {name for one in report.comparisons for name, values in one.values.items() if any(values)}
        for why, newer in ((found.left_out, report.left_out), (found.failed, report.failed)):
            why.update(newer)
            for name in there - set(newer):
                why.pop(name, None)
    found.machine["load"] = [value for report in reports for value in report.machine["load"]]
    for title, comparison in newest.items():
        same = [one for report in reports for one in report.comparisons if one.title == title]
        found.comparisons.append(_one_of(same, comparison))
    return found


def _one_of(same: Sequence[Comparison], last: Comparison) -> Comparison:
    """Comparisons of one title as one, with what stands in the last of them."""
    names = dict.fromkeys(name for one in same for name in one.values)
    return dataclasses.replace(
        last,
        values={name: [value for one in same for value in _turns(one, name)] for name in names},
        columns={title: _medians([one.columns.get(title, {}) for one in same]) for title in last.columns},
        facts={title: _newest([one.facts.get(title, {}) for one in same]) for title in last.facts},
    )


def _turns(comparison: Comparison, name: str) -> list[float | None]:
    """As long as those of the others, that turns stay side by side."""
    return comparison.values.get(name) or [None] * max(map(len, comparison.values.values()), default=0)


def _medians(factors: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in factors for name in one)
    return {name: statistics.median(one[name] for one in factors if name in one) for name in names}


def _newest(facts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {name: text for one in facts for name, text in one.items()}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    shown = [[cell.replace("|", "\\|") for cell in row] for row in (header, ["---"] * len(header), *rows)]
    return ["|" + "|".join(f" {cell} " if cell else " " for cell in row) + "|" for row in shown]


def table(comparison: Comparison, peak: float = 0.0) -> list[str]:
    """Lines of the table of a comparison: contenders that gave nothing are not in it."""
    names = [name for name, values in comparison.values.items() if any(value is not None for value in values)]
    if not names:
        return ["Nothing was measured."]
    first, rows = names[0], []
    for name in names:
        middle = spread(comparison.values[name])
        found = ratios(comparison.values[first], comparison.values[name], comparison.more_is_better)
        cells = [name, middle.show(_form(middle.median)), "" if name == first else verdict(found)]
        rate = middle.median if comparison.more_is_better else 1 / middle.median
        cells += [_cell(title, factors, name, rate, peak) for title, factors in comparison.columns.items()]
        rows.append([*cells, *(texts.get(name, "") for texts in comparison.facts.values())])
    return markdown(["", comparison.unit, f"{first} is", *comparison.columns, *comparison.facts], rows)


def _cell(title: str, factors: Mapping[str, float], name: str, rate: float, peak: float) -> str:
    share = title.startswith("of peak")
    if name not in factors or (share and not peak):
        return ""
    return f"{factors[name] * rate / peak:.1%}" if share else f"{factors[name] * rate:,.0f}"


def _form(value: float) -> str:
    return ",.0f" if value >= 1000 else ".1f" if value >= 10 else ".2f"


def lines_of(report: Report) -> list[str]:
    """All that is shown of a report, its tables below headings of the third level."""
    lines = []
    for comparison in report.comparisons:
        turns = max(map(len, comparison.values.values()), default=0)
        better = "more" if comparison.more_is_better else "less"
        lines += [
            f"### {comparison.title}",
            "",
            f"{comparison.unit}, {better} is better; {turns} turn{'s' * (turns != 1)}.",
            "",
        ]
        lines += [*table(comparison, report.peak), ""]
    lines += report.notes
    if report.peak:
        lines.append(f"Fastest matrix product of the threads: {report.peak / 1e9:.0f} GFLOP/s.")
    lines += [f"Left out: {name}, {why}." for name, why in report.left_out.items()]
    lines += [
        f"Failed: {name}: {why.splitlines()[-1] if why else 'without a word'}" for name, why in report.failed.items()
    ]
    known = [value for value in report.machine["load"] if value is not None]
    if known:
        lines.append(f"Load of the machine before and after: {min(known)} to {max(known)}.")
    return [*lines, ""]
