"""What is shown of the scores of numbers."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.evaluation import plots
from pipeline.evaluation.formatting import number
from pipeline.tasks.label_page import shown_texts
from pipeline.tasks.page import Headline, Page, ScoreTable, Tile

if TYPE_CHECKING:
    from pipeline.tasks.number import Number

SMALL_SET = 100


def table(task: "Number", scores: dict[str, Any]) -> ScoreTable:
    base = scores["baseline"]
    rows = [
        ("mean absolute error", f"{scores['mae']:.4g}", f"{base['mae']:.4g}"),
        ("root mean squared error", f"{scores['rmse']:.4g}", f"{base['rmse']:.4g}"),
        ("R2", share(scores["r2"]), "0"),
        ("Spearman correlation", share(scores["spearman"]), "–"),
    ]
    lines = [
        f"{scores['rows']} rows, loss {scores['loss']:.4f}; the baseline always gives the training rows' median "
        f"({base['value']:.4g}), or mean"
    ]
    if "interval" in scores:
        interval = scores["interval"]
        lines.append(
            f"prediction ± {interval['half_width']:.4g} holds {interval['coverage']:.1%} of the values "
            f"(asked for: {interval['coverage_wanted']:.0%}, from the validation rows' residuals)"
        )
    return ScoreTable(("", "model", "baseline"), rows, [], lines)


def findings(task: "Number", scores: dict[str, Any], name: str, validation: dict | None) -> tuple[list[str], list[str]]:
    warnings = []
    base = scores["baseline"]
    if scores["mae"] >= base["mae"]:
        warnings.append(
            f"The mean absolute error, {scores['mae']:.4g}, is no better than always answering "
            f"{base['value']:.4g}, which has {base['mae']:.4g}."
        )
    if scores["rows"] < SMALL_SET:
        warnings.append(f"The {name} set is small ({scores['rows']} rows): its scores are known only roughly.")
    interval = scores.get("interval")
    # Four standard errors: more than chance explains.
    if interval:
        wanted, rows = interval["coverage_wanted"], scores["rows"]
        if wanted - interval["coverage"] > 4 * math.sqrt(wanted * (1 - wanted) / rows):
            warnings.append(
                f"The prediction interval holds {interval['coverage']:.1%} of the {name} values where "
                f"{wanted:.0%} was asked for: these rows differ from the validation rows."
            )
    return warnings, []


def page(task: "Number", scores: dict[str, Any], validation: dict | None, mistakes: Sequence[dict]) -> Page:
    base = scores["baseline"]
    headline = Headline(
        "Mean absolute error",
        number(scores["mae"]),
        "",
        f"Always answering {number(base['value'])} has {number(base['mae'])}.",
    )
    tiles = [
        Tile("Root mean squared error", number(scores["rmse"]), f"baseline {number(base['rmse'])}"),
        Tile("R2", number(scores["r2"]), "share of the variance explained"),
        Tile("Spearman correlation", number(scores["spearman"]), "of ranks"),
        Tile("Loss", number(scores["loss"]), "squared error in standard deviations"),
    ]
    if "interval" in scores:
        interval = scores["interval"]
        note = f"holds {100 * interval['coverage']:.1f} % of the values"
        tiles.append(Tile("Prediction interval", f"± {number(interval['half_width'])}", note))
    if validation:
        tiles.append(Tile("Validation", number(validation["mae"]), "mean absolute error"))
    context = {"mistakes": [item | {"texts": shown_texts(item["text"])} for item in mistakes]}
    figure = {
        "title": "Predicted against true",
        "keys": "one dot a row; on the dashed line a prediction is right",
        "svg": plots.scatter(scores["points"], x_label="true value", y_label="predicted"),
        "caption": "" if scores["rows"] == len(scores["points"]) else f"{len(scores['points'])} rows, evenly spread.",
    }
    return Page("one number a row", headline, tiles, "number.html.j2", context, [figure])


def share(value: float | None) -> str:
    """A score such as R2, which may be unknown."""
    return "–" if value is None else f"{value:.3f}"
