"""Scores of a classifier from its labels and probabilities: plain numbers, ready for JSON.

Decisions are made as the exported model makes them: the first class of the largest probability, or, with
several labels a row, every label whose float32 probability is at least the threshold.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.errors import UserError

# Probabilities are kept this far from 0 and 1 in the loss, as Keras does, so that it is always finite.
EPSILON = 1e-7
CALIBRATION_BINS = 15
# Two-sided 95 % quantile of the normal distribution.
Z_95 = 1.959963984540054
# From this many classes on the top-5 accuracy says something that the accuracy does not.
TOP_5_CLASSES = 11


def classification_metrics(
    labels: np.ndarray,
    probabilities: np.ndarray,
    label_names: Sequence[str],
    *,
    multi_label: bool = False,
    threshold: float = 0.5,
    train_counts: Sequence[int] | None = None,
) -> dict:
    """All scores of one set of rows.

    Precision, recall and F1 are 0 where they are undefined. Averages are scikit-learn's: `macro_*` is the plain mean
    over the classes that occur among labels or predictions (with several labels a row: over all labels), `weighted_*`
    weights by support, `micro_*` counts all decisions together.

    Args:
        labels: int [n]; with multi_label a multi-hot array [n, C].
        probabilities: float [n, C].
        label_names: C distinct names in the order of the columns.
        multi_label: any number of labels a row.
        threshold: with multi_label, the probability from which a label counts as given.
        train_counts: rows of each class in the training set [C], which decide the baseline's answer; None: it is
            decided on these rows, which flatters it a little.

    Returns:
        Both kinds of task: rows, accuracy (with multi_label: of whole label sets) and its 95 % Wilson interval,
        {macro,weighted,micro}_{precision,recall,f1}, loss (mean cross-entropy in nats; with multi_label the mean over
        rows and labels of the binary one), per_class, never_predicted, without_support, ece, calibration_bins and
        majority_baseline.
        One label a row: also confusion_matrix (rows true, columns predicted) and matthews; two classes: roc_auc and
        average_precision of the second one (None where only one class occurs); more than ten: top_5_accuracy.
        multi_label: also threshold, hamming_loss and best_threshold, which is tuned on these very rows.

    Raises:
        UserError: no rows, or a probability that is not a number.
        ValueError: shapes, labels or probabilities that do not fit together.
    """
    labels, probabilities = _checked(labels, probabilities, label_names, multi_label)
    rows, classes = probabilities.shape
    predicted = decide(probabilities, multi_label=multi_label, threshold=threshold)
    scores = _scores(labels, predicted, classes, multi_label)
    per_class, predictions = scores.pop("per_class"), scores.pop("predictions")
    metrics = {
        "rows": rows,
        **scores,
        "accuracy_interval": wilson_interval(round(scores["accuracy"] * rows), rows),
        "loss": _loss(labels, probabilities, multi_label),
        **_calibration(labels, probabilities, predicted, multi_label),
        "majority_baseline": _baseline(labels, label_names, train_counts, multi_label),
        "never_predicted": [name for name, n in zip(label_names, predictions, strict=True) if n == 0],
        "without_support": [name for name, n in zip(label_names, per_class["support"], strict=True) if n == 0],
    }
    if multi_label:
        metrics["threshold"] = float(threshold)
        metrics["hamming_loss"] = float(np.mean(labels != predicted))
        metrics["best_threshold"] = _best_threshold(labels, probabilities)
    else:
        confusion = np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes**2)
        confusion = confusion.reshape(classes, classes)
        metrics["matthews"] = _matthews_correlation(confusion)
        if classes == 2:
            both = 0 < labels.sum() < rows
            positive = probabilities[:, 1]
            metrics["roc_auc"] = float(roc_auc_score(labels, positive)) if both else None
            metrics["average_precision"] = float(average_precision_score(labels, positive)) if both else None
        if classes >= TOP_5_CLASSES:
            metrics["top_5_accuracy"] = _top_accuracy(labels, probabilities, 5)
        metrics["confusion_matrix"] = confusion.tolist()
    metrics["per_class"] = {
        name: {key: values[i].item() for key, values in per_class.items()} for i, name in enumerate(label_names)
    }
    return metrics


def decide(probabilities: np.ndarray, *, multi_label: bool = False, threshold: float = 0.5) -> np.ndarray:
    """The answers of the exported model: int [n], or with multi_label bool [n, C]."""
    # Not in float64: 0.7 as float32 lies below 0.7, and the exported model compares in float32.
    probabilities = np.asarray(probabilities, np.float32)
    return probabilities >= np.float32(threshold) if multi_label else probabilities.argmax(axis=1)


def selective_accuracy(labels: np.ndarray, probabilities: np.ndarray, abstain_below: float) -> dict:
    """What is left to answer, and how well, where answers of a lower probability are withheld; one label a row.

    Returns:
        abstain_below; coverage, the share of rows answered; accuracy of these, None where there are none.
    """
    probabilities = np.asarray(probabilities, np.float32)
    answered = probabilities.max(axis=1) >= np.float32(abstain_below)
    right = decide(probabilities)[answered] == np.asarray(labels)[answered]
    accuracy = float(right.mean()) if answered.any() else None
    return {"abstain_below": abstain_below, "coverage": float(answered.mean()), "accuracy": accuracy}


def confident_mistakes(labels: np.ndarray, probabilities: np.ndarray, limit: int, threshold: float = 0.5) -> list[dict]:
    """Wrong answers, those first of which the model is surest: where wrong labels and hard texts show.

    Args:
        labels: int [n], or multi-hot [n, C] with several labels a row.
        probabilities: float [n, C].
        limit: at most this many rows.
        threshold: of multi-label decisions.

    Returns:
        Dicts of row, label and predicted (lists of class numbers) and probability: how sure the model is of its
        mistake, that is the probability of the wrong class, or with several labels a row that of the surest wrong
        decision (p of a label given wrongly, 1 - p of a label missed). One label a row: also label_probability.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    multi_label = labels.ndim == 2
    predicted = decide(probabilities, multi_label=multi_label, threshold=threshold)
    wrong = predicted != labels
    if multi_label:
        sureness = np.where(wrong, np.where(predicted, probabilities, 1 - probabilities), -1).max(axis=1, initial=-1)
    else:
        sureness = np.where(wrong, probabilities[np.arange(len(labels)), predicted], -1)
    # A stable sort of the negated values keeps equally sure rows in order.
    rows = np.argsort(-sureness, kind="stable")[: min(limit, int((sureness >= 0).sum()))]
    mistakes = []
    for row in rows.tolist():
        mistake = {"row": row, "probability": float(sureness[row])}
        if multi_label:
            mistake["label"] = np.flatnonzero(labels[row]).tolist()
            mistake["predicted"] = np.flatnonzero(predicted[row]).tolist()
        else:
            mistake["label"], mistake["predicted"] = [int(labels[row])], [int(predicted[row])]
            mistake["label_probability"] = float(probabilities[row, labels[row]])
        mistakes.append(mistake)
    return mistakes


def wilson_interval(correct: int, rows: int) -> list[float]:
    """95 % interval of a proportion (Wilson 1927), which holds for small samples and near 0 and 1 too."""
    share, spread = correct / rows, Z_95**2 / rows
    centre = (share + spread / 2) / (1 + spread)
    half = Z_95 / (1 + spread) * np.sqrt(share * (1 - share) / rows + spread / (4 * rows))
    # At 0 and 1 the bound is exact, but for the last digit of the arithmetic.
    return [0.0 if correct == 0 else float(centre - half), 1.0 if correct == rows else float(centre + half)]


def _checked(labels, probabilities, label_names, multi_label) -> tuple[np.ndarray, np.ndarray]:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if len(labels) == 0:
        raise UserError("There are no rows to evaluate: give a validation or test set with at least one row.")
    classes = len(label_names)
    if len(set(label_names)) != classes:
        raise ValueError("label_names holds a name twice.")
    if probabilities.shape != (len(labels), classes):
        raise ValueError(f"probabilities has shape {probabilities.shape}, expected {(len(labels), classes)}.")
    if labels.shape != (probabilities.shape if multi_label else (len(labels),)):
        raise ValueError(f"labels has shape {labels.shape}, which does not fit multi_label={multi_label}.")
    bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if bad:
        raise UserError(
            f"The model's probabilities are not numbers on {bad} of {len(labels)} rows: training diverged; "
            "lower training.learning_rate or set training.dtype to float32."
        )
    # The slack is for the rounding of a softmax in bfloat16.
    if probabilities.min() < -0.01 or probabilities.max() > 1.01:
        raise ValueError("probabilities lie outside 0 to 1: these look like logits.")
    if multi_label:
        if not np.isin(labels, (0, 1)).all():
            raise ValueError("multi-label labels must be 0 or 1.")
        return labels.astype(bool), probabilities
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must be integers from 0 to {classes - 1}.")
    return labels, probabilities


def _scores(labels, predicted, classes: int, multi_label: bool) -> dict:
    """Accuracy, averages, per_class arrays [C] and how often each class is predicted [C]."""
    if multi_label:
        hits = (labels & predicted).sum(axis=0)
        predictions, support = predicted.sum(axis=0), labels.sum(axis=0)
        accuracy = (labels == predicted).all(axis=1).mean()
        averaged = np.ones(classes, bool)
    else:
        hits = np.bincount(labels[labels == predicted], minlength=classes)
        predictions, support = np.bincount(predicted, minlength=classes), np.bincount(labels, minlength=classes)
        accuracy = (labels == predicted).mean()
        averaged = (predictions + support) > 0
    per_class = {
        "precision": _ratio(hits, predictions),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, predictions + support),
    }
    scores = {"accuracy": float(accuracy)}
    for name, values in per_class.items():
        scores[f"macro_{name}"] = float(values[averaged].mean())
        scores[f"weighted_{name}"] = float(_ratio(values @ support, support.sum()))
    scores["micro_precision"] = float(_ratio(hits.sum(), predictions.sum()))
    scores["micro_recall"] = float(_ratio(hits.sum(), support.sum()))
    scores["micro_f1"] = float(_ratio(2 * hits.sum(), predictions.sum() + support.sum()))
    return scores | {"per_class": per_class | {"support": support}, "predictions": predictions}


def _ratio(numerator, denominator) -> np.ndarray:
    """numerator / denominator, and 0 where the denominator is 0."""
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _loss(labels, probabilities, multi_label) -> float:
    probabilities = probabilities.astype(np.float64)
    if multi_label:
        of_label = np.where(labels, probabilities, 1 - probabilities)
    else:
        of_label = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(of_label.clip(EPSILON, 1 - EPSILON)).mean())


def _calibration(labels, probabilities, predicted, multi_label) -> dict:
    """Expected calibration error in equal-width bins (Guo et al. 2017, arXiv:1706.04599), and the bins.

    One label a row: probability of the predicted class against how often it is right. multi_label: probability of
    every label of every row against how often it is given.
    """
    if multi_label:
        confidence, right = probabilities.ravel(), labels.ravel()
    else:
        confidence, right = probabilities[np.arange(len(labels)), predicted], labels == predicted
    confidence = confidence.astype(np.float64).clip(0, 1)
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    # Bins are open below and closed above, as in the paper; the first also takes 0.
    index = np.searchsorted(edges[1:-1], confidence, side="left")
    rows = np.bincount(index, minlength=CALIBRATION_BINS)
    mean_confidence = _ratio(np.bincount(index, confidence, CALIBRATION_BINS), rows)
    accuracy = _ratio(np.bincount(index, right, CALIBRATION_BINS), rows)
    columns = {"low": edges[:-1], "high": edges[1:], "rows": rows, "confidence": mean_confidence, "accuracy": accuracy}
    bins = [{key: values[i].item() for key, values in columns.items()} for i in np.flatnonzero(rows)]
    ece = float((np.abs(accuracy - mean_confidence) * rows).sum() / rows.sum())
    return {"ece": ece, "calibration_bins": bins}


def _baseline(labels, label_names, train_counts, multi_label) -> dict:
    """Scores of always giving the most frequent class (the first of equals)."""
    classes = len(label_names)
    if train_counts is None:
        counts = labels.sum(axis=0) if multi_label else np.bincount(labels, minlength=classes)
    else:
        counts = np.asarray(train_counts)
        if counts.shape != (classes,):
            raise ValueError(f"train_counts has shape {counts.shape}, expected {(classes,)}.")
    majority = int(np.argmax(counts))
    if multi_label:
        predicted = np.zeros(labels.shape, bool)
        predicted[:, majority] = True
    else:
        predicted = np.full(len(labels), majority)
    scores = _scores(labels, predicted, classes, multi_label)
    keys = ("accuracy", "macro_f1", "weighted_f1", "micro_f1")
    return {"label": label_names[majority]} | {key: scores[key] for key in keys}


def _best_threshold(labels: np.ndarray, probabilities: np.ndarray) -> dict:
    """The common thresholds, in steps of 0.01, with the best micro and macro F1 on these rows.

    Tuned on the rows it is scored on: a test set's value flatters; take the validation set's.
    """
    grid = np.linspace(0.01, 0.99, 99).round(2)
    classes, slots = labels.shape[1], len(grid) + 1
    # How many thresholds each probability reaches; counting from the top gives all decisions of all thresholds at once.
    reached = np.searchsorted(grid.astype(np.float32), probabilities.astype(np.float32), side="right")
    slot = (reached + np.arange(classes) * slots).ravel()

    def at_least(weights):
        counts = np.bincount(slot, weights, classes * slots).reshape(classes, slots)
        return counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]

    hits, predictions = at_least(labels.ravel()), at_least(None)
    support = labels.sum(axis=0)[:, None]
    f1 = {
        "micro_f1": _ratio(2 * hits.sum(axis=0), predictions.sum(axis=0) + support.sum()),
        "macro_f1": _ratio(2 * hits, predictions + support).mean(axis=0),
    }
    best = {}
    for name, values in f1.items():
        # Of equally good thresholds the one nearest to 0.5.
        equals = np.flatnonzero(values >= values.max() - 1e-12)
        choice = equals[np.abs(grid[equals] - 0.5).argmin()]
        best[name] = {"threshold": grid[choice].item(), "score": values[choice].item()}
    return best


def _matthews_correlation(confusion: np.ndarray) -> float:
    """Correlation of labels and predictions for any number of classes (Gorodkin 2004); 0 where undefined."""
    confusion = confusion.astype(float)
    rows, true, predicted = confusion.sum(), confusion.sum(axis=1), confusion.sum(axis=0)
    spread = np.sqrt((rows**2 - true @ true) * (rows**2 - predicted @ predicted))
    return float(_ratio(np.trace(confusion) * rows - true @ predicted, spread))


def _top_accuracy(labels, probabilities, k: int) -> float:
    """Share of rows whose label is among the k most probable; of equal probabilities the first counts as larger."""
    probabilities = probabilities.astype(np.float32)
    own = probabilities[np.arange(len(labels)), labels][:, None]
    before = (probabilities == own) & (np.arange(probabilities.shape[1]) < labels[:, None])
    return float((((probabilities > own) | before).sum(axis=1) < k).mean())
