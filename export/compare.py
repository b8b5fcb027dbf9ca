"""Is a new version of a model good enough to take the place of the old one?

    python -m export.compare runs/a/saved_model/1 runs/a/saved_model/2 --data held_out.csv
    python -m export.compare runs/a runs/b --data held_out.csv --min_agreement 0.95 --max_accuracy_drop 0.005 --json

Both answer the same texts: how many labels are the same, which changed, what that does to each class, to accuracy and
F1 where the file has labels, and to latency. The exit status is 0, 1 where a gate failed, and 2 after one sentence on
what is wrong with the input. The file is .csv, .tsv or .jsonl, or has one text a line.
"""

import argparse
import csv
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from export.command_line import command_parser
from export.texts import read_columns, read_records, read_texts

SHOWN = 10


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, 1 where a gate failed, 2 after one sentence on what is wrong."""
    parser = command_parser("export.compare", __doc__)

    def add(name: str, **settings) -> None:
        # With hyphens as in the other commands of export, or with underscores as in pipeline.run.
        parser.add_argument(f"--{name}", f"--{name.replace('_', '-')}", **settings)

    parser.add_argument("old", help="run directory, directory of versions, or one version")
    parser.add_argument("new", help="the same, of the model that is to replace it")
    add("data", type=Path, required=True, help="file of texts")
    add("text_column", action="append", help="column of the texts; twice for pairs (default: the model's inputs)")
    add("label_column", help="column of the right labels (default: label, if there is one)")
    add("min_agreement", type=float, default=0.99, help="share of equal labels to pass (default: 0.99; 0: any)")
    add("max_accuracy_drop", type=float, help="how much accuracy may fall to pass, as 0.005 (default: any)")
    add("max_slowdown", type=float, help="median time of one text, new / old, to pass, as 1.2 (default: any)")
    add("batch_size", type=int, default=32, help="texts a forward pass (default: 32)")
    add("latency_requests", type=int, default=200, help="requests of one text to time; 0: none (default: 200)")
    add("json", action="store_true", help="print everything, with all changed rows, as JSON")
    options = parser.parse_args(arguments)
    try:
        found = _compare(options)
    except (ValueError, OSError, csv.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found, indent=1, ensure_ascii=False) if options.json else _table(found))
    return 0 if found["passed"] else 1


def _compare(options: argparse.Namespace) -> dict:
    if not 0 <= options.min_agreement <= 1:
        raise ValueError(f"--min_agreement {options.min_agreement}: it is a share, from 0 to 1.")
    if options.batch_size < 1 or options.latency_requests < 0:
        raise ValueError("--batch_size must be at least 1 and --latency_requests at least 0.")
    if options.max_slowdown is not None and not options.latency_requests:
        raise ValueError("--max_slowdown needs --latency_requests.")
    if not options.data.is_file():
        raise ValueError(f"--data {options.data}: no such file.")
    # TensorFlow takes seconds to import: only when the options are known to be good.
    from export.loading import Classifier, find_version

    for path in (options.old, options.new):
        find_version(path)
    old, new = Classifier(options.old), Classifier(options.new)
    if old.inputs != new.inputs:
        raise ValueError(f"{old.version} takes {' and '.join(old.inputs)}, {new.version} {' and '.join(new.inputs)}.")
    texts, labels = _read(options, new.inputs)
    if labels is None and options.max_accuracy_drop is not None:
        raise ValueError(f"--max_accuracy_drop needs labels: {options.data} has no column for --label_column.")
    columns = list(zip(*texts, strict=True))
    answers = [predictor(*columns, batch_size=options.batch_size) for predictor in (old, new)]

    same = np.array(answers[0].labels) == np.array(answers[1].labels)
    changed = [
        {
            "row": int(row) + 1,
            **dict(zip(new.inputs, texts[row], strict=True)),
            **({} if labels is None else {"label": labels[row]}),
            "old": answers[0].labels[row],
            "old_score": round(float(answers[0].scores[row]), 4),
            "new": answers[1].labels[row],
            "new_score": round(float(answers[1].scores[row]), 4),
        }
        for row in np.flatnonzero(~same)
    ]
    moves = Counter((row["old"], row["new"]) for row in changed)
    found = {
        "old": str(old.version),
        "new": str(new.version),
        "rows": len(texts),
        "agreement": float(same.mean()),
        "moves": [{"old": a, "new": b, "count": count} for (a, b), count in moves.most_common()],
        "largest_probability_change": float(np.abs(answers[0].probabilities - answers[1].probabilities).max())
        if old.label_names == new.label_names
        else None,
        **_scores([old, new], [answer.labels for answer in answers], labels),
        "changed": changed,
    }
    if options.latency_requests:
        found["latency_ms"] = _latency([old, new], texts, options.latency_requests)
    found["gates"] = _gates(found, options)
    found["passed"] = all(gate["passed"] for gate in found["gates"])
    return found


def _read(options: argparse.Namespace, names: list[str]) -> tuple[list[tuple[str, ...]], list[str] | None]:
    """Texts, one or two a row, and the right labels, if there are any."""
    path, columns = options.data, options.text_column or names
    label = options.label_column
    if path.suffix in (".csv", ".tsv", ".jsonl"):
        if label is None and "label" in next(read_records(path), {}) and "label" not in columns:
            label = "label"
        if len(columns) != len(names):
            raise ValueError(f"the models take {' and '.join(names)}; --text_column names {len(columns)} column(s).")
        rows = list(read_columns(path, columns if label is None else [*columns, label]))
    elif label is not None:
        raise ValueError(f"--label_column is for .csv, .tsv and .jsonl files; {path} has one text a line.")
    else:
        rows = list(read_texts(argparse.Namespace(text=[], input=path, text_column=options.text_column), names))
    if not rows:
        raise ValueError(f"{path}: there is no text in it.")
    if label is None:
        return rows, None
    return [row[:-1] for row in rows], [row[-1] for row in rows]


def _scores(predictors: list, answers: list[list[str]], labels: list[str] | None) -> dict:
    """Of each class how often it was answered and, where there are labels, how well; and accuracy and macro F1."""
    from sklearn.metrics import precision_recall_fscore_support

    described = [predictor.metadata for predictor in predictors]
    separators = [d["separator"] if d["task"] == "multi_label" else None for d in described]
    names = list(dict.fromkeys([*predictors[1].label_names, *predictors[0].label_names]))
    given = [_indicators(column, names, separator) for column, separator in zip(answers, separators, strict=True)]
    per_class = [
        {"label": name, "old_count": int(given[0][:, i].sum()), "new_count": int(given[1][:, i].sum())}
        for i, name in enumerate(names)
    ]
    if labels is None:
        return {"per_class": per_class}
    true = _indicators(labels, names, separators[1])
    if not true.any():
        known = ", ".join(names[:10])
        raise ValueError(f"no label of the data, such as {labels[0]!r}, is one of the models': {known}.")
    # A label that a model cannot give is a row that it gets wrong, though no column stands for it.
    known = np.array([all(part in names for part in _parts(label, separators[1])) for label in labels])
    right = [known & (column == true).all(axis=1) for column in given]
    sides = {}
    for side, column, hit in zip(("old", "new"), given, right, strict=True):
        f1 = precision_recall_fscore_support(true, column, average=None, zero_division=0)[2]
        for row, value in zip(per_class, f1, strict=True):
            row[f"{side}_f1"] = float(value)
        present = true.any(axis=0) | column.any(axis=0)
        sides[side] = {"accuracy": float(hit.mean()), "macro_f1": float(f1[present].mean())}
    for row, support in zip(per_class, true.sum(axis=0), strict=True):
        row["support"] = int(support)
    return {
        "scores": {
            **sides,
            "fixed": int((right[1] & ~right[0]).sum()),
            "broken": int((right[0] & ~right[1]).sum()),
            "unknown_labels": int((~known).sum()),
        },
        "per_class": per_class,
    }


def _parts(label: str, separator: str | None) -> list[str]:
    return [label] if separator is None else [part.strip() for part in label.split(separator) if part.strip()]


def _indicators(labels: list[str], names: list[str], separator: str | None) -> np.ndarray:
    """bool [n, names]: which names a label holds."""
    place = {name: i for i, name in enumerate(names)}
    indicators = np.zeros((len(labels), len(names)), bool)
    for row, label in zip(indicators, labels, strict=True):
        row[[place[part] for part in _parts(label, separator) if part in place]] = True
    return indicators


def _latency(predictors: list, texts: list[tuple[str, ...]], count: int) -> dict:
    """Milliseconds of requests of one text. Old and new take turns; each text is asked once before, unmeasured."""
    chosen = [texts[i] for i in np.linspace(0, len(texts) - 1, min(count, len(texts))).astype(int)]
    seconds = [[], []]
    for measured in (False, True):
        for row in chosen:
            for predictor, times in zip(predictors, seconds, strict=True):
                begin = time.perf_counter()
                predictor(*([text] for text in row))
                if measured:
                    times.append(time.perf_counter() - begin)
    sides = {
        side: {f"p{q}": round(float(np.percentile(times, q)) * 1000, 3) for q in (50, 95, 99)}
        for side, times in zip(("old", "new"), seconds, strict=True)
    }
    return {**sides, "slowdown": sides["new"]["p50"] / sides["old"]["p50"]}


def _gates(found: dict, options: argparse.Namespace) -> list[dict]:
    agreement = found["agreement"]
    gates = [("agreement", agreement, "at least", options.min_agreement, agreement >= options.min_agreement)]
    if options.max_accuracy_drop is not None:
        drop = found["scores"]["old"]["accuracy"] - found["scores"]["new"]["accuracy"]
        # Differences of shares of few rows are not exact.
        passed = drop <= options.max_accuracy_drop + 1e-9
        gates.append(("accuracy_drop", drop, "at most", options.max_accuracy_drop, passed))
    if options.max_slowdown is not None:
        slowdown = found["latency_ms"]["slowdown"]
        gates.append(("slowdown", slowdown, "at most", options.max_slowdown, slowdown <= options.max_slowdown))
    names = ("gate", "value", "bound", "limit", "passed")
    return [dict(zip(names, gate, strict=True)) for gate in gates]


def _table(found: dict) -> str:
    lines = [f"{found['rows']} rows", f"  old  {found['old']}", f"  new  {found['new']}", ""]
    lines.append(f"agreement {found['agreement']:.2%}, {len(found['changed'])} labels changed")
    if found["largest_probability_change"] is not None:
        lines[-1] += f"; largest change of a probability {found['largest_probability_change']:.4f}"
    scores = found.get("scores")
    if scores:
        for name in ("accuracy", "macro_f1"):
            old, new = scores["old"][name], scores["new"][name]
            lines.append(f"{name:9} {old:.4f} -> {new:.4f} ({new - old:+.4f})")
        lines.append(f"fixed {scores['fixed']} rows, broke {scores['broken']}")
        if scores["unknown_labels"]:
            lines.append(f"{scores['unknown_labels']} rows have a label that neither model knows")
    if "latency_ms" in found:
        sides = (found["latency_ms"][side] for side in ("old", "new"))
        shown = ["/".join(f"{side[q]:.1f}" for q in ("p50", "p95", "p99")) for side in sides]
        lines.append(f"one text, p50/p95/p99 in ms: {shown[0]} -> {shown[1]}")

    width = max(5, *(len(row["label"]) for row in found["per_class"]))
    lines += ["", f"{'':{width}}  answered: old     new" + ("   F1: old     new  support" if scores else "")]
    # Where most changed first.
    order = sorted(found["per_class"], key=lambda row: -abs(row["new_count"] - row["old_count"]))
    for row in order[: 3 * SHOWN]:
        line = f"{row['label']:{width}}  {row['old_count']:13} {row['new_count']:7}"
        lines.append(line + (f"   {row['old_f1']:7.3f} {row['new_f1']:7.3f} {row['support']:8}" if scores else ""))
    if len(order) > 3 * SHOWN:
        lines.append(f"... {len(order) - 3 * SHOWN} more; --json has all")
    if found["moves"]:
        lines += ["", "changed from and to"]
        lines += [f"  {move['old']} -> {move['new']}: {move['count']}" for move in found["moves"][:SHOWN]]
        lines += ["", "for example"]
        for row in found["changed"][:SHOWN]:
            texts = " | ".join(row[name] for name in ("text", "text_a", "text_b") if name in row)
            text = " ".join(texts.split())[:70]
            right = f" (right: {row['label']})" if "label" in row else ""
            lines.append(
                f"  row {row['row']}: {row['old']} {row['old_score']:.3f} -> "
                f"{row['new']} {row['new_score']:.3f}{right}  {text}"
            )
    lines.append("")
    for gate in found["gates"]:
        verdict = "passed" if gate["passed"] else "FAILED"
        lines.append(f"{gate['gate']} {gate['value']:.4f}, {gate['bound']} {gate['limit']:g}: {verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    from pipeline.entry import run_command

    # This process never trains: see export.loading.Classifier.
    os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")
    run_command(main)
