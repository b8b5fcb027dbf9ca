"""Answer texts with an exported model.

    python -m export.predict RUN_OR_MODEL "some text" "another"
    python -m export.predict RUN_OR_MODEL --input texts.csv --text-column review --output labelled.csv
    cat texts.txt | python -m export.predict RUN_OR_MODEL --format jsonl
    python -m export.predict RUN_OR_MODEL --explain "some text"

Texts come from the command line, a file or standard input. A .csv, .tsv or .jsonl file gives the named columns;
any other file, and standard input, one text a line. For a model of pairs a text is two texts with a tab between,
or two columns.
"""

import argparse
import csv
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO

# Texts taken at a time from a large input; within them, texts of like length share a forward pass.
WINDOW = 4096


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, or 2 after one sentence on what is wrong."""
    summary, _, details = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        "python -m export.predict",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="run directory, directory of versions, or one version")
    parser.add_argument("text", nargs="*", help="texts to answer; none: --input or standard input")
    parser.add_argument("--input", type=Path, help="file of texts")
    parser.add_argument("--text-column", action="append", help="column of a .csv, .tsv or .jsonl file; twice for pairs "
                        "(default: the names of the model's inputs)")  # fmt: skip
    parser.add_argument("--output", type=Path, help="file to write; a .jsonl, else csv")
    parser.add_argument("--format", choices=["table", "csv", "jsonl"], help="of the answers (default: table)")
    parser.add_argument("--top", "--top_k", type=int, default=1, metavar="K", help="give the K most probable labels "
                        "(default: 1)")  # fmt: skip
    parser.add_argument("--explain", action="store_true", help="say what each piece of a text adds to the log-odds of "
                        "its label (table or jsonl)")  # fmt: skip
    parser.add_argument("--batch-size", type=int, help="texts a forward pass (default: 32, with --explain 8)")
    # Intermixed: texts may stand behind options.
    options = parser.parse_intermixed_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        if options.batch_size is None:
            options.batch_size = 8 if options.explain else 32
        if options.batch_size < 1 or options.top < 1:
            raise ValueError("--batch-size and --top must be at least 1.")
        if options.text and options.input:
            raise ValueError("give texts on the command line or --input, not both.")
        if options.explain and (options.top > 1 or _form(options) == "csv"):
            raise ValueError("--explain gives one label, as a table or as jsonl: without --top, with --format jsonl.")
        if options.input and not options.input.is_file():
            raise ValueError(f"--input {options.input}: no such file.")
        # TensorFlow takes seconds to import: only when the options are known to be good.
        from export.loading import Predictor, find_version

        find_version(options.model)
        predictor = Predictor(options.model)
        rows = _rows(options, predictor.inputs)
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


def _rows(options, names: list[str]) -> Iterator[tuple[str, ...]]:
    """The texts, one or two a row."""
    if options.text:
        return _split(options.text, names, "the command line")
    if options.input is None:
        # Any bytes are a text.
        sys.stdin.reconfigure(encoding="utf-8", errors="replace", newline="\n")
        return _split((line.rstrip("\r\n") for line in sys.stdin), names, "standard input")
    if options.input.suffix in (".csv", ".tsv", ".jsonl"):
        return _columns(options.input, options.text_column or names, names)
    if options.text_column:
        raise ValueError(f"--text-column is for .csv, .tsv and .jsonl files; {options.input} has one text a line.")
    return _split(_lines(options.input), names, str(options.input))


def _lines(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8-sig", errors="replace", newline="\n") as file:
        for line in file:
            yield line.rstrip("\r\n")


def _split(lines: Iterable[str], names: list[str], source: str) -> Iterator[tuple[str, ...]]:
    for number, line in enumerate(lines, 1):
        parts = tuple(line.split("\t", 1)) if len(names) == 2 else (line,)
        if len(parts) != len(names):
            raise ValueError(f"{source}, text {number}: the model takes pairs; put a tab between the two texts.")
        yield parts


def _columns(path: Path, columns: list[str], names: list[str]) -> Iterator[tuple[str, ...]]:
    if len(columns) != len(names):
        raise ValueError(f"the model takes {' and '.join(names)}; --text-column names {len(columns)} column(s).")
    for number, record in enumerate(_records(path), 1):
        for column in columns:
            if column not in record:
                found = ", ".join(map(str, record)) or "nothing"
                raise ValueError(f"{path}, row {number}: no column {column!r} but {found}; name it with --text-column.")
        # A row that is cut short has None for its last cells.
        yield tuple("" if record[column] is None else str(record[column]) for column in columns)


def _records(path: Path) -> Iterator[dict]:
    if path.suffix != ".jsonl":
        csv.field_size_limit(2**31 - 1)
        with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
            yield from csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        return
    for number, line in enumerate(_lines(path), 1):
        try:
            record = json.loads(line) if line.strip() else None
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
        if not isinstance(record, dict | None):
            raise ValueError(f'{path}, line {number} is not a JSON object such as {{"text": "..."}}.')
        if record is not None:
            yield record


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
    # This process never trains: see export.loading.Predictor.
    os.environ.setdefault("TF_ONEDNN_ASSUME_FROZEN_WEIGHTS", "1")
    sys.exit(main())
