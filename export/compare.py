"""Is a new version of a model good enough to take the place of the old one?

    python -m export.compare runs/a/saved_model/1 runs/a/saved_model/2 --data held_out.csv
    python -m export.compare runs/a runs/b --data held_out.csv --min_agreement 0.95 --max_accuracy_drop 0.005 --json

Both answer the same texts: how many labels are the same, which changed, what that does to each class, to accuracy and
F1 where the file has labels, and to latency. The exit status is 0, 1 where a gate failed, 2 after one sentence on what
is wrong with the input, and with --error 3 where the rows do not decide. The file is of any format that training reads,
and read as the new model's training rows were, or has one text a line.

    python -m export.compare runs/a runs/b --data held_out.csv --min_agreement 0.9 --max_accuracy_drop 0.02 --error 0.05

With --error, rows are answered in random order until agreement and accuracy are decided, for the population that they
are of and not only for themselves: a gate passes or fails wrongly with at most that probability, all gates together. To
compare versions by what both have answered in use, see export.shadow.
"""

import argparse
import json
import sys
import time
from collections import Counter

import numpy as np

from export.command_line import command_parser
from export.sequential import drop_bounds, share_bounds
from export.texts import Texts, add_text_arguments, check_text_arguments
from export.versions import find_version
from pipeline.data.formats import escaped
from pipeline.errors import UserError

SHOWN = 10
# With --error: rows between two looks.
LOOK = 64


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, 1 where a gate failed, 2 after one sentence on what is wrong, 3
    where rows do not decide."""
    parser = command_parser("export.compare", __doc__)

    def add(name: str, **settings) -> None:
        # With hyphens as in the other commands of export, or with underscores as in pipeline.run.
        parser.add_argument(f"--{name}", f"--{name.replace('_', '-')}", **settings)

    parser.add_argument("old", help="run directory, directory of versions, or one version")
    parser.add_argument("new", help="the same, of the model that is to replace it")
    add_text_arguments(parser, "data", keep=False)
    add("label_column", help="column of the right labels (default: the one trained with or label, if there is one)")
    add("min_agreement", type=float, default=0.99, help="share of equal labels to pass (default: 0.99; 0: any)")
    add("max_accuracy_drop", type=float, help="how much accuracy may fall to pass, as 0.005 (default: any)")
    add("max_mae_rise", type=float, help="how much the mean absolute error of a number may rise (default: any)")
    add("max_slowdown", type=float, help="median time of one text, new / old, to pass, as 1.2 (default: any)")
    add("error", type=float, help="decide agreement and accuracy for the population of the rows, wrongly with this "
        "probability, as 0.05, and stop when it is clear (default: for these rows alone)")  # fmt: skip
    add("batch_size", type=int, default=32, help="texts a forward pass (default: 32)")
    add("latency_requests", type=int, default=200, help="requests of one text to time; 0: none (default: 200)")
    add("json", action="store_true", help="print everything, with all changed rows, as JSON")
    options = parser.parse_args(arguments)
    try:
        found = _compare(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found, indent=1, ensure_ascii=False) if options.json else _table(found))
    return exit_status(found["gates"])


def exit_status(gates: list[dict]) -> int:
    """0 where all gates have passed, 1 where one has failed, 3 where rows do not decide one."""
    if all(gate["passed"] for gate in gates):
        return 0
    return 1 if any(gate.get("verdict", "failed") == "failed" for gate in gates if not gate["passed"]) else 3


def _compare(options: argparse.Namespace) -> dict:
    _check(options)
    for path in (options.old, options.new):
        find_version(path)
    # TensorFlow takes seconds to import: only when the options are known to be good.
    from export.loading import Classifier

    old, new = Classifier(options.old), Classifier(options.new)
    if old.inputs != new.inputs:
        raise ValueError(f"{old.version} takes {' and '.join(old.inputs)}, {new.version} {' and '.join(new.inputs)}.")
    if old.task.name != new.task.name:
        raise ValueError(f"{old.version} is of the task {old.task.name}, {new.version} of {new.task.name}.")
    texts, truth, numbers = _read(options, new)
    if options.error is None:
        outputs = _answers([old, new], texts, options.batch_size)
    else:
        order = np.random.default_rng(0).permutation(len(texts)).tolist()
        texts, numbers = [texts[row] for row in order], [numbers[row] for row in order]
        truth = None if truth is None else [truth[row] for row in order]
        outputs = _until_decided(options, [old, new], texts, truth)
        asked = len(next(iter(outputs[0].values())))
        texts, truth = texts[:asked], None if truth is None else truth[:asked]
    same = new.task.same_answers(*outputs)
    keys = _keys(old.task, new.task, new.inputs)
    changed = []
    for row in np.flatnonzero(~same).tolist():
        found = {"row": numbers[row], **dict(zip(keys["inputs"], texts[row], strict=True))}
        if truth is not None:
            found["label"] = truth[row][0] if isinstance(truth[row], list) and len(truth[row]) == 1 else truth[row]
        changed.append(found | _shown("old", old.task, outputs[0], row) | _shown("new", new.task, outputs[1], row))
    found = {
        "old": str(old.version),
        "new": str(new.version),
        "inputs": new.inputs,
        "rows": len(texts),
        "agreement": float(same.mean()),
        **new.task.compare(old.task, outputs, truth),
        "keys": keys,
        "changed": changed,
    }
    if options.latency_requests:
        found["latency_ms"] = _latency([old, new], texts, options.latency_requests)
    found["gates"] = _gates(found, options)
    found["passed"] = all(gate["passed"] for gate in found["gates"])
    found["lines"] = new.task.comparison_lines(found)
    return found


def _answers(models: list, texts: list[tuple[str, ...]], batch_size: int) -> list[dict[str, np.ndarray]]:
    """What each model gives."""
    columns = [list(column) for column in zip(*texts, strict=True)]
    return [model(*columns, batch_size=batch_size).outputs for model in models]


def _until_decided(
    options: argparse.Namespace, models: list, texts: list[tuple[str, ...]], truth: list | None
) -> list[dict[str, np.ndarray]]:
    """What each gives for the first rows, as many as it takes to decide the gates."""
    parts, counts = [], Counter()
    for start in range(0, len(texts), LOOK):
        look = slice(start, start + LOOK)
        parts.append(_answers(models, texts[look], options.batch_size))
        counts.update(_counted(models, parts[-1], None if truth is None else truth[look]))
        found = _so_far(counts, truth is not None)
        if all(gate["verdict"] != "undecided" for gate in _gates(found, options) if "verdict" in gate):
            break
    return [{name: np.concatenate([part[side][name] for part in parts]) for name in parts[0][side]}
            for side in range(2)]  # fmt: skip


def _counted(models: list, outputs: list[dict[str, np.ndarray]], truth: list | None) -> dict[str, int]:
    """Of the rows of one look: how many there are, have the same answers, and are right, fixed and broken where that
    is known of the task's answers."""
    same = models[1].task.same_answers(*outputs)
    found = {"rows": len(same), "same": int(same.sum())}
    if truth is None:
        return found
    try:
        scores = models[1].task.compare(models[0].task, outputs, truth)["scores"]
    except UserError:
        # No row of this look has a label that the models know; whether any has, is for all rows to say.
        return found
    if "accuracy" not in scores["new"]:
        return found
    right = {side: round(scores[side]["accuracy"] * len(same)) for side in ("old", "new")}
    return found | right | {name: scores[name] for name in ("fixed", "broken")}


def _so_far(counts: Counter, scored: bool) -> dict:
    """What `_gates` reads, of all looks."""
    found = {"rows": counts["rows"], "agreement": counts["same"] / counts["rows"]}
    if not scored:
        return found
    sides = {side: {"accuracy": counts[side] / counts["rows"]} for side in ("old", "new")}
    return found | {"scores": sides | {name: counts[name] for name in ("fixed", "broken")}}


def _check(options: argparse.Namespace) -> None:
    if options.error is not None and (not 0 < options.error < 1 or options.max_mae_rise is not None):
        raise ValueError(f"--error {options.error:g}: it is above 0 and below 1, and decides no --max_mae_rise.")
    if not 0 <= options.min_agreement <= 1:
        raise ValueError(f"--min_agreement {options.min_agreement}: it is a share, from 0 to 1.")
    if options.batch_size < 1 or options.latency_requests < 0:
        raise ValueError("--batch_size must be at least 1 and --latency_requests at least 0.")
    if options.max_slowdown is not None and not options.latency_requests:
        raise ValueError("--max_slowdown needs --latency_requests.")
    check_text_arguments(options, "data")


def _keys(old, new, inputs: list[str]) -> dict[str, list[str]]:
    """The keys of a changed row's texts and answers, of models of the tasks `old` and `new`: an input is called
    otherwise where its name is taken."""
    sides = {side: list(_names(side, task)) for side, task in (("old", old), ("new", new))}
    taken, found = {"row", "label", *sides["old"], *sides["new"]}, []
    for name in inputs:
        while name in taken:
            name = f"input_{name}"
        taken.add(name)
        found.append(name)
    return {"inputs": found, **sides}


def _names(side: str, task) -> dict[str, str]:
    """Outputs by the key of a side's answer: the first under the side's name, the others behind it."""
    first, *others = task.answer_names
    return {side: first, **{f"{side}_{name}": name for name in others}}


def _shown(side: str, task, outputs: dict, row: int) -> dict:
    """The answer of one side."""
    values = {key: outputs[name][row] for key, name in _names(side, task).items()}
    return {key: value if isinstance(value, str) else round(float(value), 4) for key, value in values.items()}


def _read(options: argparse.Namespace, model) -> tuple[list[tuple[str, ...]], list | None, list[int]]:
    """Texts, one or two a row, what is right, if the file has it, and the numbers of the rows, which are those that
    training would take."""
    trained = model.metadata.get("read", {})
    rows = Texts(options, model.inputs, trained, "data", options.label_column, model.features.wanted("--data"))
    several = trained.get("label_columns")
    candidates = [name for name in (trained.get("label_column"), "label") if name not in (None, *rows.text_columns)]
    label = options.label_column or next((name for name in candidates if name in rows.columns), None)
    if options.label_column is None and several and set(several) <= set(rows.columns):
        wanted = several
    else:
        wanted = [] if label is None else [label]
    places = rows.places(wanted)
    texts, truth = [], []
    for row in rows:
        if row.blank:
            continue
        reason, right = row.reason, None
        try:
            right = model.task.truth([row.cells[place] for place in places], wanted) if places and not reason else None
        except ValueError as error:
            reason = str(error)
        if reason and options.bad_rows == "error":
            raise ValueError(f"{row.place}: the row {reason}; mend it, or set --bad_rows to skip.")
        if reason:
            rows.notices.add("rows that were skipped", f"{row.place}, which {reason}")
            continue
        texts.append(row.texts)
        truth.append(right)
    for sentence in rows.notices.sentences():
        print(f"warning: {sentence}", file=sys.stderr)
    if not texts:
        raise ValueError(f"{options.data}: there is no text in it.")
    for option in ("max_accuracy_drop", "max_mae_rise"):
        if getattr(options, option) is not None and not places:
            raise ValueError(f"--{option} needs labels: {options.data} has no column for --label_column.")
    return texts, truth if places else None, list(range(1, len(texts) + 1))


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
    for option, gate, score, sign in (
        ("max_accuracy_drop", "accuracy_drop", "accuracy", -1),
        ("max_mae_rise", "mae_rise", "mae", 1),
    ):
        limit = getattr(options, option)
        if limit is None:
            continue
        sides = found["scores"]
        if score not in sides["new"]:
            raise ValueError(f"--{option}: these models have no {score} but {', '.join(sides['new'])}.")
        # Of what has not changed, 0 and not -0.
        change = sign * (sides["new"][score] - sides["old"][score]) + 0.0
        # Differences of shares of few rows are not exact.
        gates.append((gate, change, "at most", limit, change <= limit + 1e-9))
    if options.max_slowdown is not None and "latency_ms" in found:
        slowdown = found["latency_ms"]["slowdown"]
        gates.append(("slowdown", slowdown, "at most", options.max_slowdown, slowdown <= options.max_slowdown))
    names = ("gate", "value", "bound", "limit", "passed")
    named = [dict(zip(names, gate, strict=True)) for gate in gates]
    return named if options.error is None else [_decided(gate, found, options) for gate in named]


def _decided(gate: dict, found: dict, options: argparse.Namespace) -> dict:
    """A gate on a share, with what is known of the population and the verdict of that; others as they are."""
    rows, error = found["rows"], options.error / (1 if options.max_accuracy_drop is None else 2)
    if gate["gate"] == "agreement":
        bounds = share_bounds(round(rows * found["agreement"]), rows, error)
        verdict = bounds.at_least(gate["limit"])
    elif gate["gate"] == "accuracy_drop":
        bounds = drop_bounds(found["scores"]["broken"], found["scores"]["fixed"], rows, error)
        verdict = bounds.at_most(gate["limit"])
    else:
        return gate
    return gate | {"low": bounds.low, "high": bounds.high, "verdict": verdict, "passed": verdict == "passed"}


def gate_line(gate: dict) -> str:
    """A gate for the terminal."""
    verdict = gate.get("verdict", "passed" if gate["passed"] else "failed")
    bounds = f" (in the population {gate['low']:z.4f} to {gate['high']:z.4f})" if "low" in gate else ""
    shown = verdict.upper() if verdict == "failed" else verdict
    return f"{gate['gate']} {gate['value']:z.4f}{bounds}, {gate['bound']} {gate['limit']:g}: {shown}"


def _table(found: dict) -> str:
    lines = [f"{found['rows']} rows", f"  old  {found['old']}", f"  new  {found['new']}", ""]
    lines.append(f"agreement {found['agreement']:.2%}, {len(found['changed'])} answers changed")
    lines += found["lines"]
    if "latency_ms" in found:
        sides = (found["latency_ms"][side] for side in ("old", "new"))
        shown = ["/".join(f"{side[q]:.1f}" for q in ("p50", "p95", "p99")) for side in sides]
        lines.append(f"one text, p50/p95/p99 in ms: {shown[0]} -> {shown[1]}")

    if found["changed"]:
        lines += ["", "for example"]
        for row in found["changed"][:SHOWN]:
            texts = " | ".join(row[name] for name in found["keys"]["inputs"])
            sides = (" ".join(str(row[key]) for key in found["keys"][side]) for side in ("old", "new"))
            right = f" (right: {row['label']})" if "label" in row else ""
            lines.append(f"  row {row['row']}: {' -> '.join(sides)}{right}  {' '.join(texts.split())[:70]}")
    lines.append("")
    lines += map(gate_line, found["gates"])
    # Labels and texts may hold anything.
    return "\n".join(map(escaped, lines))


if __name__ == "__main__":
    from pipeline.entry import run_command
    from pipeline.frozen_weights import assume_frozen

    # This process never trains: see export.loading.Classifier.
    assume_frozen()
    run_command(main)
