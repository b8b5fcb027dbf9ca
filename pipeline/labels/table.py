"""What a command has found, as a csv file that no earlier one is lost to."""

import os
from collections.abc import Iterable
from pathlib import Path

from pipeline.data.formats.delimited import write_csv
from pipeline.errors import UserError
from pipeline.files import named_in_errors


def refuse_taken(path: Path) -> None:
    """Refuse a file that is there, into which somebody may have written.

    Raises:
        UserError: naming it; or it is not called a csv file.
    """
    if path.suffix.lower() != ".csv":
        raise UserError(f"--output {path}: it is a csv file: end its name in .csv.")
    if path.exists():
        raise UserError(f"--output {path} is there already, perhaps with somebody's work in it: give another name.")


def write_table(path: Path, columns: list[str], rows: Iterable[list]) -> None:
    """Write all rows, or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with named_in_errors(path), open(partial, "wb") as file, write_csv(file, columns, {}) as write:
            write(list(rows))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
