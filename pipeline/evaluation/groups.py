"""Scores by group of the rows, such as their language or region, and which differences are more than chance."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data.extra_columns import scored_roles, shown_names
from pipeline.evaluation.formatting import NAMES_SHOWN, number, one_line, percent, quoted
from pipeline.evaluation.interval import interval_of
from pipeline.tasks.page import ScoreTable
from pipeline.tasks.task import RowScores, Task

if TYPE_CHECKING:
    from pipeline.data.split import Split

# The largest groups are scored, so many of them.
MOST_GROUPS = 100
# Probability of naming a difference where there is none, over all groups of a column.
CHANCE = 0.05


def scores_by_group(task: Task, split: "Split", predictions: np.ndarray) -> dict[str, dict[str, Any]]:
    """Of each column by whose values a split's rows are scored, what its groups score.

    Args:
        task: with all that decides its answers.
        split: the rows.
        predictions: of them, float32 [n, K].

    Returns:
        By column: "score", the name of the score of single rows, "share", whether it is one, "higher_is_better",
        "of_all", that score of all rows, "note", what is to be said of the groups' scores, "groups_left_out", and
        "groups", by name: rows, that score, its 95 % "interval" (Wilson's for shares, else Student's; None for one
        row), the task's headline scores, and "p_value" of the difference to the other rows
        (Fisher's exact test for shares, else Welch's), corrected for the number of groups (Holm); None: not compared.
    """
    found = {}
    for role in scored_roles(split.store.columns):
        column, codes = split.store.columns[role], split.extra(role)
        found[column.column] = scores_of_groups(task, split.targets(), predictions, column.names, codes)
    return found


def scores_of_groups(
    task: Task, values: np.ndarray, predictions: np.ndarray, names: Sequence[str], codes: np.ndarray
) -> dict[str, Any]:
    """What groups of rows score.

    Args:
        task: with all that decides its answers.
        values, predictions: of the rows, as the task has them.
        names: of groups, all different.
        codes: int [n], the place of each row's group among the names.

    Returns:
        As `scores_by_group` of a column.
    """
    of_rows, shown = task.row_scores(values, predictions), shown_names(names)
    counts = np.bincount(codes, minlength=len(names))
    order = [code for code in np.argsort(-counts, kind="stable").tolist() if counts[code]]
    groups, p_values, note = {}, [], ""
    for code in order[:MOST_GROUPS]:
        own = codes == code
        scores = task.scores(values[own], predictions[own])
        headline = task.headline_of_group(scores)
        note = note if headline == task.headline(scores) else task.group_note
        groups[shown[code]] = {
            "rows": int(counts[code]),
            of_rows.name: float(of_rows.values[own].mean()),
            "interval": interval_of(of_rows.values[own], of_rows.share),
            **headline,
        }
        p_values.append(_p_value(of_rows, own))
    for group, p_value in zip(groups.values(), _corrected(p_values), strict=True):
        group["p_value"] = p_value
    return {
        "score": of_rows.name,
        "share": of_rows.share,
        "higher_is_better": of_rows.higher_is_better,
        "of_all": float(of_rows.values.mean()),
        "groups_left_out": max(len(order) - MOST_GROUPS, 0),
        "note": note,
        "groups": groups,
    }


def _p_value(of_rows: RowScores, own: np.ndarray) -> float | None:
    """Of the difference between the rows of a group and all others."""
    from scipy.stats import fisher_exact, ttest_ind

    inside, outside = of_rows.values[own], of_rows.values[~own]
    if not len(outside):
        return None
    if of_rows.share:
        table = [[int(side.sum()), int(len(side) - side.sum())] for side in (inside, outside)]
        return float(np.asarray(fisher_exact(table))[1])
    if min(len(inside), len(outside)) < 2 or max(np.ptp(inside), np.ptp(outside)) == 0:
        return None
    return float(np.asarray(ttest_ind(inside, outside, equal_var=False))[1])


def _corrected(p_values: list[float | None]) -> list[float | None]:
    """Holm's correction: the chance of any wrong finding stays what it is for one."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for number_before, (p, place) in enumerate(known):
        largest = max(largest, min((len(known) - number_before) * p, 1.0))
        corrected[place] = largest
    return corrected


def worst_first(found: Mapping[str, Any]) -> list[str]:
    """The names of a column's groups."""
    sign, score = (1 if found["higher_is_better"] else -1), found["score"]
    return sorted(
        found["groups"], key=lambda name: (sign * found["groups"][name][score], -found["groups"][name]["rows"])
    )


def tables_of_groups(scores: Mapping[str, Any]) -> list[ScoreTable]:
    """Those of a split's scores: by group, then by length, whose bands stay in their order."""
    by_length = group_tables(scores.get("by_length", {}), worst_on_top=False)
    return [*group_tables(scores.get("by_group", {})), *by_length]


def group_tables(by_group: Mapping[str, Mapping[str, Any]], worst_on_top: bool = True) -> list[ScoreTable]:
    """A table a column, the worst group first, or as their names are, with "*" where a difference is more than
    chance."""
    tables = []
    for column, found in by_group.items():
        shown, score = (percent if found["share"] else number), found["score"]
        own = (score, "interval", "p_value", "rows")
        rows, more = [], []
        for name in worst_first(found) if worst_on_top else found["groups"]:
            group = found["groups"][name]
            more = [key for key in group if key not in own]
            low_high = " to ".join(map(shown, group["interval"])) if group["interval"] else "–"
            differs = "*" if _differs(group) else ""
            cells = [shown(group[score]) + differs, low_high, *(number(group[key]) for key in more)]
            rows.append((one_line(name), *cells, str(group["rows"])))
        unit = " %" if found["share"] else ""
        header = (f"by {one_line(column)}", f"{score}{unit}", "95 % interval", *(key.replace("_", " ") for key in more))
        lines = ["* differs from the other rows by more than chance"] if any("*" in row[1] for row in rows) else []
        if found["groups_left_out"]:
            lines.append(f"{found['groups_left_out']} smaller groups are not shown")
        lines += [found["note"]] if found["note"] else []
        tables.append(ScoreTable((*header, "rows"), rows, [], lines))
    return tables


def group_findings(by_group: Mapping[str, Mapping[str, Any]], name: str) -> tuple[list[str], list[str]]:
    """Warnings on groups of the set `name` that score worse than the others by more than chance, and notes."""
    warnings, notes = [], []
    for column, found in by_group.items():
        groups, score, order = found["groups"], found["score"], worst_first(found)
        if len(groups) < 2:
            continue
        shown = "{:.1%}".format if found["share"] else number
        said = {key: f"{quoted(key)} ({shown(group[score])}, {group['rows']} rows)" for key, group in groups.items()}
        differing = [key for key in order if _differs(groups[key])]
        worse = [key for key in differing if (groups[key][score] < found["of_all"]) == found["higher_is_better"]]
        of_all = f"By {quoted(column)}, the {score} of the {name} rows, {shown(found['of_all'])} in all, is"
        if worse:
            listed = ", ".join(said[key] for key in worse[:NAMES_SHOWN])
            more = f" and {len(worse) - NAMES_SHOWN} more" if len(worse) > NAMES_SHOWN else ""
            warnings.append(f"{of_all} worse on {listed}{more}: more than chance explains.")
        elif differing:
            listed = ", ".join(said[key] for key in differing[:NAMES_SHOWN])
            notes.append(f"{of_all} better on {listed}, by more than chance explains; the worst is {said[order[0]]}.")
        else:
            notes.append(
                f"{of_all} worst on {said[order[0]]}; the differences between the {len(groups)} groups may be chance."
            )
    return warnings, notes


def _differs(group: Mapping[str, Any]) -> bool:
    return group["p_value"] is not None and group["p_value"] < CHANCE
