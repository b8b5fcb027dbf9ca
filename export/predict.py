"""Answer texts with an exported model.

    python -m export.predict RUN_OR_MODEL "some text" "another"
    python -m export.predict RUN_OR_MODEL --input texts.csv --text-column review --output labelled.csv
    cat texts.txt | python -m export.predict RUN_OR_MODEL --format jsonl
    python -m export.predict RUN_OR_MODEL --explain "some text"

Texts come from the command line, a file or standard input. A .csv, .tsv or .jsonl file gives the named columns;
any other file, and standard input, one text a line. For a model of pairs a text is two texts with a tab between,
or two columns.
"""

import csv
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from export.command_line import command_parser
from export.texts import add_text_arguments, check_text_arguments, read_texts

# Texts taken at a time from a large input; within them, texts of like length share a forward pass.
WINDOW = 4096


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, or 2 after one sentence on what is wrong."""
    parser = command_parser("export.predict", __doc__)
    parser.add_argument("model", help="run directory, directory of versions, or one version")
    add_text_arguments(parser)
    parser.add_argument("--output", type=Path, help="file to write; a .jsonl, else csv")
    parser.add_argument("--format", choices=["table", "csv", "jsonl"], help="of the answers (default: table)")
    parser.add_argument("--top", "--top_k", type=int, default=1, metavar="K", help="give the K most probable labels "
                        "(default: 1)")  # fmt: skip
    parser.add_argument("--explain", action="store_true", help="say what each piece of a text adds to the log-odds of "
                        "its label (table or jsonl)")  # fmt: skip
    parser.add_argument("--batch-size", type=int, help="texts a forward pass (default: 32, with --explain 8)")
    # Intermixed: texts may stand behind options.
    options = parser.parse_intermixed_args(arguments)
    try:
        if options.batch_size is None:
            options.batch_size = 8 if options.explain else 32
        if options.batch_size < 1 or options.top < 1:
            raise ValueError("--batch-size and --top must be at least 1.")
        check_text_arguments(options)
        if options.explain and (options.top > 1 or _form(options) == "csv"):
            raise ValueError("--explain gives one label, as a table or as jsonl: without --top, with --format jsonl.")
        # TensorFlow takes seconds to import: only when the options are known to be good.
        from export.loading import Classifier, find_version

        find_version(options.model)
        predictor = Classifier(options.model)
        rows = read_texts(options, predictor.inputs)
        if options.output:
            _write_file(predictor, rows, options)
        else:
            _write(predictor, rows, options, sys.stdout)
    except BrokenPipeError:
        # The reader of our output, such as head, has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, csv.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _write_file(predictor, rows: Iterator[tuple[str, ...]], options) -> None:
    """Write beside, then rename: an interrupted run leaves no half file."""
    output = options.output
    partial = output.with_name(f".{output.name}.partial")
    try:
        with open(partial, "w", newline="", encoding="utf-8") as file:
            _write(predictor, rows, options, file)
        os.replace(partial, output)
    finally:
        partial.unlink(missing_ok=True)


def _form(options) -> str:
    """table, csv or jsonl."""
    if options.format or not options.output:
        return options.format or "table"
    return "jsonl" if options.output.suffix == ".jsonl" else "csv"


def _write(predictor, rows: Iterator[tuple[str, ...]], options, file: TextIO) -> None:
    if options.explain:
        return _explain(predictor, rows, options, file)
    write = None
    while window := list(itertools.islice(rows, WINDOW)):
        write = write or WRITERS[_form(options)](file, predictor.inputs, options.top)
        answers = predictor(*zip(*window, strict=True), batch_size=options.batch_size)
        best = (-answers.probabilities).argsort(axis=1, kind="stable")[:, : options.top]
        for i, row in enumerate(window):
            top = [(predictor.label_names[k], float(answers.probabilities[i, k])) for k in best[i]]
            write(row, answers.labels[i], float(answers.scores[i]), top)
    if write is None:
        raise ValueError("there is no text to answer.")


def _explain(predictor, rows: Iterator[tuple[str, ...]], options, file: TextIO) -> None:
    from export import explained

    write = {"table": explained.table, "jsonl": explained.jsonl}[_form(options)](file, predictor.inputs)
    window = None
    # Each batch is written as soon as it is there, for it takes its time.
    for window in iter(lambda: list(itertools.islice(rows, options.batch_size)), []):
        for row, explanation in zip(
            window, predictor.explain(*zip(*window, strict=True), batch_size=len(window)), strict=True
        ):
            write(row, explanation)
    if window is None:
        raise ValueError("there is no text to answer.")


def _table(file: TextIO, names: list[str], top: int) -> Callable:
    def write(row, label, score, best):
        answer = "  ".join(f"{name} {number:.4f}" for name, number in (best if top > 1 else [(label, score)]))
        # One line a text, whatever the text holds.
        texts = " | ".join("".join(c if c.isprintable() else " " for c in text) for text in row)
        print(f"{answer}\t{texts}", file=file)

    return write


def _csv(file: TextIO, names: list[str], top: int) -> Callable:
    output = csv.writer(file, lineterminator="\n")
    ranks = range(1, top + 1) if top > 1 else ()
    output.writerow([*names, "label", "score", *(f"{kind}_{rank}" for rank in ranks for kind in ("label", "score"))])

    def write(row, label, score, best):
        more = [cell for name, probability in best for cell in (name, f"{probability:.6f}")] if top > 1 else []
        output.writerow([*row, label, f"{score:.6f}", *more])

    return write


def _jsonl(file: TextIO, names: list[str], top: int) -> Callable:
    def write(row, label, score, best):
        record = {**dict(zip(names, row, strict=True)), "label": label, "score": round(score, 6)}
        if top > 1:
            record["top"] = [{"label": name, "score": round(probability, 6)} for name, probability in best]
        print(json.dumps(record, ensure_ascii=False), file=file)

    return write


WRITERS = {"table": _table, "csv": _csv, "jsonl": _jsonl}


if __name__ == "__main__":
    from pipeline.entry import run_command

    # This process never trains: see export.loading.Classifier.
    os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")
    run_command(main)
