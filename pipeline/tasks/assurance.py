"""What is shown of answers with a guarantee: sets of labels, and abstaining."""

from collections.abc import Sequence
from typing import Any

from pipeline.evaluation.formatting import listed, number, percent
from pipeline.tasks.abstention import Abstention
from pipeline.tasks.page import Tile

# Rows given an answer from which its errors are compared with the promise.
FEW_ANSWERED = 50


def assurance_lines(scores: dict[str, Any]) -> list[str]:
    """For the terminal."""
    lines = []
    if sets := scores.get("sets"):
        low, high = sets["covered_interval"]
        lines.append(
            f"sets hold the right label in {sets['covered']:.1%} of the rows (95 % interval {low:.1%} to {high:.1%}; "
            f"asked for: {sets['asked']:.1%}), with {sets['mean_size']:.2f} labels on average, one in "
            f"{sets['single']:.1%} and none in {sets['empty']:.1%} of them"
        )
    if (selective := scores.get("selective")) and selective["accuracy"] is not None:
        lines.append(
            f"answered from a score of {selective['abstain_below']:.4g} on: {selective['coverage']:.1%} of the rows, "
            f"{selective['accuracy']:.1%} of them rightly"
        )
    return lines


def assurance_warnings(
    scores: dict[str, Any], name: str, abstention: Abstention | None, without_threshold: Sequence[str]
) -> list[str]:
    """Sentences on what the rows of the set `name` do not keep.

    Args:
        abstention: what was promised; None: nothing.
        without_threshold: labels that are in every set.
    """
    warnings = []
    sets, selective = scores.get("sets"), scores.get("selective")
    if sets and sets["covered"] < sets["least"]:
        warnings.append(
            f"The sets hold the right label in {sets['covered']:.1%} of the {name} rows where {sets['asked']:.1%} was "
            "asked for, less than chance explains: these rows differ from the validation rows."
        )
    if without_threshold:
        warnings.append(
            f"Of too few validation rows for a threshold, and so in every set: {listed(without_threshold)}."
        )
    if abstention and selective and _broken(scores["rows"], selective, abstention):
        warnings.append(
            f"Of the answers to the {name} rows {1 - selective['accuracy']:.1%} are wrong where at most "
            f"{abstention.error:.1%} was promised, more than chance explains: these rows differ from the validation "
            "rows."
        )
    return warnings


def assurance_tiles(scores: dict[str, Any]) -> list[Tile]:
    """For the report."""
    tiles = []
    if sets := scores.get("sets"):
        note = f"right label in {percent(sets['covered'])} % of sets, asked for {percent(sets['asked'])}"
        tiles.append(Tile("Labels a set", number(round(sets["mean_size"], 3)), note))
    if (selective := scores.get("selective")) and selective["accuracy"] is not None:
        note = f"of them {percent(selective['accuracy'])} % rightly"
        tiles.append(Tile("Rows answered", percent(selective["coverage"]), note))
    return tiles


def _broken(rows: int, selective: dict[str, Any], abstention: Abstention) -> bool:
    """Whether so many wrong answers would come by chance less than once in twenty times."""
    from scipy.stats import binom

    if selective["accuracy"] is None:
        return False
    answered = round(rows * selective["coverage"])
    wrong = round(answered * (1 - selective["accuracy"]))
    return answered >= FEW_ANSWERED and float(binom.sf(wrong - 1, answered, abstention.error)) < 0.05
