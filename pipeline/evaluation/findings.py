"""What a reader of the report should know first: what makes the scores doubtful, then what they say."""

# Half the width of the accuracy's interval from which a set counts as small.
WIDE_INTERVAL = 0.05
POOR_CALIBRATION = 0.1
# The gap is not looked at on fewer rows: there the calibration error is mostly noise.
CALIBRATION_ROWS = 200
NAMES_SHOWN = 8


def findings(metrics: dict | None, name: str, validation: dict | None = None) -> tuple[list[str], list[str]]:
    """Plain sentences about one set's scores.

    Args:
        metrics: from `classification_metrics`; None: nothing was evaluated.
        name: of the set, "test" or "validation".
        validation: the validation set's metrics when `metrics` is the test set's.

    Returns:
        warnings (why not to trust the scores or the model) and notes (where it is weak).
    """
    if metrics is None:
        return ["There were neither test nor validation rows: nothing is known about how good this model is."], []
    if "hamming_loss" in metrics:
        warnings, notes = _multi_label(metrics)
    else:
        warnings, notes = _single_label(metrics, name, validation)
    if metrics["without_support"]:
        names = listed(metrics["without_support"])
        warnings.append(f"No {name} row has the label {names}: nothing is known about how well it is recognised.")
    # A class without rows is rightly never predicted.
    never = [label for label in metrics["never_predicted"] if metrics["per_class"][label]["support"] > 0]
    if never:
        warnings.append(f"Never predicted, though {name} rows have it: {listed(never)}.")
    scored = {label: s for label, s in metrics["per_class"].items() if s["support"] > 0 and label not in never}
    if len(scored) > 2:
        weakest = sorted(scored, key=lambda label: scored[label]["f1"])[:3]
        described = ", ".join(f"{quoted(label)} ({scored[label]['f1']:.1%})" for label in weakest)
        notes.append(f"The weakest classes by F1 are {described}.")
    return warnings, notes


def confused_pairs(metrics: dict, limit: int) -> list[dict]:
    """The most frequent confusions: dicts of true, predicted, count and share (of the rows of the true class)."""
    labels = list(metrics["per_class"])
    pairs = [
        {"true": labels[i], "predicted": labels[j], "count": count, "share": count / sum(row)}
        for i, row in enumerate(metrics.get("confusion_matrix", []))
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: (-pair["count"], -pair["share"]))[:limit]


def listed(names: list[str]) -> str:
    """Quoted names, the first few of many."""
    shown = ", ".join(quoted(name) for name in names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"


def quoted(name: str) -> str:
    return f"“{name}”"


def _single_label(metrics: dict, name: str, validation: dict | None) -> tuple[list[str], list[str]]:
    warnings, notes = [], []
    low, high = metrics["accuracy_interval"]
    baseline = metrics["majority_baseline"]
    if low <= baseline["accuracy"]:
        warnings.append(
            f"The accuracy is not clearly better than always answering {quoted(baseline['label'])}, "
            f"which scores {baseline['accuracy']:.1%}."
        )
    if (high - low) / 2 > WIDE_INTERVAL:
        warnings.append(
            f"The {name} set is small ({metrics['rows']} rows): the accuracy is known only to within "
            f"{(high - low) * 50:.0f} points or so."
        )
    if validation is not None:
        other_low, other_high = validation["accuracy_interval"]
        if low > other_high or other_low > high:
            warnings.append(
                f"Accuracy is {validation['accuracy']:.1%} on validation and {metrics['accuracy']:.1%} on {name} rows, "
                "more than chance explains: the two sets differ in kind."
            )
    if metrics["ece"] > POOR_CALIBRATION and metrics["rows"] >= CALIBRATION_ROWS:
        confidence = sum(b["confidence"] * b["rows"] for b in metrics["calibration_bins"]) / metrics["rows"]
        kind = "sure of itself" if confidence > metrics["accuracy"] else "unsure of itself"
        warnings.append(
            f"The model is too {kind}: it expects to be right on {confidence:.1%} of the rows and is on "
            f"{metrics['accuracy']:.1%}. Do not read its probabilities as such."
        )
    for pair in confused_pairs(metrics, 1):
        if pair["count"] > 1:
            notes.append(
                f"The most frequent mistake is {quoted(pair['true'])} taken for {quoted(pair['predicted'])} "
                f"({pair['count']} rows, {pair['share']:.1%} of that class)."
            )
    return warnings, notes


def _multi_label(metrics: dict) -> tuple[list[str], list[str]]:
    warnings = []
    baseline = metrics["majority_baseline"]
    if metrics["micro_f1"] <= baseline["micro_f1"]:
        warnings.append(
            f"Micro F1 is no better than always giving {quoted(baseline['label'])} alone, "
            f"which scores {baseline['micro_f1']:.1%}."
        )
    best = metrics["best_threshold"]["micro_f1"]
    note = (
        f"The threshold is {metrics['threshold']:g}. On these rows micro F1 would be best at {best['threshold']:g} "
        f"({best['score']:.1%} instead of {metrics['micro_f1']:.1%}), which flatters: it is tuned on them. "
        "Choose a threshold by the validation rows."
    )
    return warnings, [note]
