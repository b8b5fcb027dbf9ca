"""What is shown of the scores of any number of labels a row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.evaluation.formatting import number, one_line, percent, quoted
from pipeline.tasks import label_page as pages
from pipeline.tasks.page import Headline, Page, ScoreTable, Tile
from pipeline.tasks.thresholds import tuning_warnings

if TYPE_CHECKING:
    from pipeline.tasks.multi_label import MultiLabel


def table(task: "MultiLabel", scores: dict[str, Any]) -> ScoreTable:
    low, high = scores["accuracy_interval"]
    baseline, best = scores["majority_baseline"], scores["best_threshold"]["micro_f1"]
    lines = [
        f"accuracy of whole label sets {scores['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}) on "
        f"{scores['rows']} rows",
        f"always {one_line(baseline['label'])!r}: accuracy {baseline['accuracy']:.1%}, "
        f"micro F1 {baseline['micro_f1']:.3f}, macro F1 {baseline['macro_f1']:.3f}",
        f"loss {scores['loss']:.4f}, calibration error (ECE) {scores['ece']:.4f}",
        f"{_thresholds_in_words(task)}; micro F1 on these rows is best at {best['threshold']:g} for all "
        f"({best['score']:.3f}, tuned on them)",
    ]
    if absent := scores["without_support"]:
        lines.append(
            f"macro averages are over all {len(task.names)} labels, of which {len(absent)} without a row count as 0"
        )
    return pages.score_table(scores, ("micro", "macro", "weighted"), lines)


def findings(
    task: "MultiLabel", scores: dict[str, Any], name: str, validation: dict | None
) -> tuple[list[str], list[str]]:
    warnings = []
    baseline, best = scores["majority_baseline"], scores["best_threshold"]["micro_f1"]
    if scores["micro_f1"] <= baseline["micro_f1"]:
        warnings.append(
            f"Micro F1 is no better than always giving {quoted(baseline['label'])} alone, "
            f"which scores {baseline['micro_f1']:.1%}."
        )
    warnings += tuning_warnings(task.names, task.tuned_on) if task.tuned_on else []
    note = (
        f"The threshold is {task.threshold:g}. On these rows micro F1 would be best at {best['threshold']:g} "
        f"({best['score']:.1%} instead of {scores['micro_f1']:.1%}), which flatters: it is tuned on them. "
        "Choose a threshold by the validation rows: evaluation.threshold tuned does."
    )
    if task.thresholds is not None:
        note = (
            f"The {_thresholds_in_words(task)}, are for the best F1 of each label; the scores of the validation "
            "rows themselves flatter by it."
        )
    of_classes = pages.class_findings(scores, name)
    return warnings + of_classes[0], [note, *of_classes[1]]


def page(task: "MultiLabel", scores: dict[str, Any], validation: dict | None, mistakes: Sequence[dict]) -> Page:
    base, (low, high) = scores["majority_baseline"], scores["accuracy_interval"]
    headline = Headline(
        "Micro F1",
        percent(scores["micro_f1"]),
        "%",
        f"Always answering {quoted(base['label'])} scores {percent(base['micro_f1'])} (the grey mark).",
        strip={"score": scores["micro_f1"], "low": None, "high": None, "baseline": base["micro_f1"]},
    )
    tiles = [
        Tile("Macro F1", percent(scores["macro_f1"]), f"baseline {percent(base['macro_f1'])}"),
        Tile("Weighted F1", percent(scores["weighted_f1"]), f"baseline {percent(base['weighted_f1'])}"),
        Tile("Micro precision", percent(scores["micro_precision"]), "of given labels are right"),
        Tile("Micro recall", percent(scores["micro_recall"]), "of labels are found"),
        Tile(
            "Whole rows right",
            percent(scores["accuracy"]),
            f"{percent(low)} to {percent(high)}, baseline {percent(base['accuracy'])}",
        ),
        Tile("Hamming loss", f"{percent(scores['hamming_loss'])} %", "of single decisions are wrong"),
        _threshold_tile(task),
        Tile("Calibration error", percent(scores["ece"]), "points, ECE of 15 bins"),
        Tile("Loss", number(scores["loss"]), "binary cross-entropy, nats"),
    ]
    if validation:
        note = f"micro F1; macro F1 {percent(validation['macro_f1'])}"
        tiles.append(Tile("Validation", percent(validation["micro_f1"]), note))
    context = {
        "one": "label",
        "classes": pages.worst_first(scores["per_class"]),
        "scores": scores,
        "matrix": None,
        "pairs": [],
        "mistakes": [pages.mistake(item, task.names) for item in mistakes],
        "sure": " sure of its mistake",
    }
    keys = "how often a label is given when the model says so with this probability"
    figure = pages.calibration_figure(scores, keys, ("probability of a label", "given"), "decisions")
    about = f"{len(task.names)} labels, any number a row"
    return Page(about, headline, tiles, pages.TEMPLATE, context, [figure])


def _threshold_tile(task: "MultiLabel") -> Tile:
    if task.thresholds is None:
        return Tile("Threshold", number(task.threshold))
    low, high = number(min(task.thresholds)), number(max(task.thresholds))
    return Tile("Thresholds", f"{low} to {high}", "tuned on the validation rows")


def _thresholds_in_words(task: "MultiLabel") -> str:
    if task.thresholds is None:
        return f"threshold {task.threshold:g}"
    low, high = min(task.thresholds), max(task.thresholds)
    return f"thresholds tuned on the validation rows, from {low:.3g} to {high:.3g}"
