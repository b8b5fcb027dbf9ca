"""What is shown of the scores of one label a row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.evaluation.formatting import number, one_line, percent, quoted
from pipeline.tasks import label_page as pages
from pipeline.tasks.assurance import assurance_lines, assurance_tiles, assurance_warnings
from pipeline.tasks.confusions import confused_pairs, shown_matrix
from pipeline.tasks.page import Headline, Page, ScoreTable, Tile
from pipeline.tasks.thresholds import tuning_warnings

if TYPE_CHECKING:
    from pipeline.tasks.single_label import SingleLabel

# Half the width of the accuracy's interval from which a set counts as small.
WIDE_INTERVAL = 0.05
POOR_CALIBRATION = 0.1
# The gap is not looked at on fewer rows: there the calibration error is mostly noise.
CALIBRATION_ROWS = 200
# From this many classes on, confusions are hard to find in the matrix by eye.
PAIRS_CLASSES = 8
PAIRS_SHOWN = 12


def table(task: "SingleLabel", scores: dict[str, Any]) -> ScoreTable:
    low, high = scores["accuracy_interval"]
    baseline = scores["majority_baseline"]
    lines = [
        f"accuracy {scores['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%}) on {scores['rows']} rows",
        f"always {one_line(baseline['label'])!r}: accuracy {baseline['accuracy']:.1%}, "
        f"macro F1 {baseline['macro_f1']:.3f}",
        f"loss {scores['loss']:.4f}, calibration error (ECE) {scores['ece']:.4f}",
        *_decision_lines(task),
        *assurance_lines(scores),
        *pages.left_out_of_averages(scores),
    ]
    return pages.score_table(scores, ("macro", "weighted"), lines)


def _decision_lines(task: "SingleLabel") -> list[str]:
    if task.decision is None:
        return []
    label, threshold = one_line(task.names[task.decision[0]]), task.decision[1]
    return [f"{label!r} is answered from a probability of {threshold:.3g} on, tuned on the validation rows"]


def findings(
    task: "SingleLabel", scores: dict[str, Any], name: str, validation: dict | None
) -> tuple[list[str], list[str]]:
    warnings, notes = [], []
    low, high = scores["accuracy_interval"]
    baseline = scores["majority_baseline"]
    if low <= baseline["accuracy"]:
        warnings.append(
            f"The accuracy is not clearly better than always answering {quoted(baseline['label'])}, "
            f"which scores {baseline['accuracy']:.1%}."
        )
    if (high - low) / 2 > WIDE_INTERVAL:
        warnings.append(
            f"The {name} set is small ({scores['rows']} rows): the accuracy is known only to within "
            f"{(high - low) * 50:.0f} points or so."
        )
    warnings += _differing_sets(scores, name, validation) + _calibration_finding(scores)
    for pair in confused_pairs(scores, 1):
        if pair["count"] > 1:
            notes.append(
                f"The most frequent mistake is {quoted(pair['true'])} taken for {quoted(pair['predicted'])} "
                f"({pair['count']} rows, {pair['share']:.1%} of that class)."
            )
    if task.tuned_on is not None:
        rare, rows = task.tuned_on
        warnings += tuning_warnings([task.names[rare]], [rows])
    kept = task.guarantees
    warnings += assurance_warnings(scores, name, kept.abstention, kept.without_threshold(task.names))
    of_classes = pages.class_findings(scores, name)
    return warnings + of_classes[0], notes + of_classes[1]


def page(task: "SingleLabel", scores: dict[str, Any], validation: dict | None, mistakes: Sequence[dict]) -> Page:
    base, (low, high) = scores["majority_baseline"], scores["accuracy_interval"]
    headline = Headline(
        "Accuracy",
        percent(scores["accuracy"]),
        "%",
        f"Always answering {quoted(base['label'])} scores {percent(base['accuracy'])} (the grey mark).",
        f"{percent(low)} to {percent(high)}",
        {"score": scores["accuracy"], "low": low, "high": high, "baseline": base["accuracy"]},
    )
    tiles = [
        Tile("Macro F1", percent(scores["macro_f1"]), f"baseline {percent(base['macro_f1'])}"),
        Tile("Weighted F1", percent(scores["weighted_f1"]), f"baseline {percent(base['weighted_f1'])}"),
    ]
    if "roc_auc" in scores:
        second = f"for {task.names[1]}"
        tiles.append(Tile("ROC AUC", percent(scores["roc_auc"]), second))
        tiles.append(Tile("Average precision", percent(scores["average_precision"]), second))
    elif "top_5_accuracy" in scores:
        tiles.append(Tile("Right among top 5", percent(scores["top_5_accuracy"])))
    tiles.append(Tile("Calibration error", percent(scores["ece"]), "points, ECE of 15 bins"))
    tiles.append(Tile("Loss", number(scores["loss"]), "cross-entropy, nats"))
    if task.decision is not None:
        label = quoted(task.names[task.decision[0]])
        tiles.append(Tile("Threshold", number(task.decision[1]), f"of {label}, tuned on the validation rows"))
    tiles += assurance_tiles(scores)
    if validation:
        note = f"accuracy; macro F1 {percent(validation['macro_f1'])}"
        tiles.append(Tile("Validation", percent(validation["accuracy"]), note))
    context = {
        "one": "class",
        "classes": pages.worst_first(scores["per_class"]),
        "scores": scores,
        "matrix": shown_matrix(scores),
        "pairs": confused_pairs(scores, PAIRS_SHOWN) if len(task.names) >= PAIRS_CLASSES else [],
        "mistakes": [pages.mistake(item, task.names) for item in mistakes],
        "sure": "",
    }
    keys = "how often the model is right when it says so with this probability"
    figure = pages.calibration_figure(scores, keys, ("probability of the predicted class", "right"), "rows")
    return Page(f"{len(task.names)} classes", headline, tiles, pages.TEMPLATE, context, [figure])


def _differing_sets(scores: dict, name: str, validation: dict | None) -> list[str]:
    if validation is None:
        return []
    (low, high), (other_low, other_high) = scores["accuracy_interval"], validation["accuracy_interval"]
    if low <= other_high and other_low <= high:
        return []
    return [
        f"Accuracy is {validation['accuracy']:.1%} on validation and {scores['accuracy']:.1%} on {name} rows, "
        "more than chance explains: the two sets differ in kind."
    ]


def _calibration_finding(scores: dict) -> list[str]:
    if scores["ece"] <= POOR_CALIBRATION or scores["rows"] < CALIBRATION_ROWS:
        return []
    confidence = sum(b["confidence"] * b["rows"] for b in scores["calibration_bins"]) / scores["rows"]
    kind = "sure of itself" if confidence > scores["accuracy"] else "unsure of itself"
    return [
        f"The model is too {kind}: it expects to be right on {confidence:.1%} of the rows and is on "
        f"{scores['accuracy']:.1%}. Do not read its probabilities as such."
    ]
