"""Texts to answer: from the command line, a file or standard input."""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path


def add_text_arguments(parser: argparse.ArgumentParser) -> None:
    """`text ...`, `--input` and `--text-column`."""
    parser.add_argument("text", nargs="*", help="texts to answer; none: --input or standard input")
    parser.add_argument("--input", type=Path, help="file of texts")
    parser.add_argument("--text-column", action="append", help="column of a .csv, .tsv or .jsonl file; twice for pairs "
                        "(default: the names of the model's inputs)")  # fmt: skip


def check_text_arguments(options: argparse.Namespace) -> None:
    """What can be refused before the model is known.

    Raises:
        ValueError: texts from two places, or no such file.
    """
    if options.text and options.input:
        raise ValueError("give texts on the command line or --input, not both.")
    if options.input and not options.input.is_file():
        raise ValueError(f"--input {options.input}: no such file.")


def read_texts(options: argparse.Namespace, names: list[str]) -> Iterator[tuple[str, ...]]:
    """The texts that the arguments mean, one or two a row.

    Args:
        options: parsed arguments of add_text_arguments.
        names: the model's inputs, one or two.

    Raises:
        ValueError: a row that does not fit; the message names file and row.
    """
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
    return read_columns(path, columns)


def read_columns(path: Path, columns: list[str]) -> Iterator[tuple[str, ...]]:
    """Cells of the named columns, row by row.

    Raises:
        ValueError: a row without one of them, or broken JSON; the message names file and row.
    """
    for number, record in enumerate(read_records(path), 1):
        for column in columns:
            if column not in record:
                found = ", ".join(map(str, record)) or "nothing"
                raise ValueError(f"{path}, row {number}: no column {column!r} but {found}; name one of those.")
        # A row that is cut short has None for its last cells.
        yield tuple("" if record[column] is None else str(record[column]) for column in columns)


def read_records(path: Path) -> Iterator[dict]:
    """Rows of a .csv, .tsv or .jsonl file by column."""
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
