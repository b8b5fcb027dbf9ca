"""The scores as a table for the terminal, also when the output goes to a file."""

import sys
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.tasks.page import ScoreTable

# Columns where the output has no width of its own (a file, a pipe).
WIDTH_OF_A_FILE = 100
LONGEST_LABEL = 48


def print_table(scores: ScoreTable, title: str = "", *, limit: int = 40, file: TextIO | None = None) -> None:
    """Print the rows of a table of scores, averages, and the lines below them.

    Args:
        scores: of one set of rows.
        title: printed above.
        limit: show at most this many rows.
        file: where to print; None: standard output. Escape codes are written only to a terminal.
    """
    out: TextIO = sys.stdout if file is None else file
    width = None if out.isatty() else WIDTH_OF_A_FILE
    # Not left to rich: FORCE_COLOR and the like would put escape codes into files.
    console = Console(file=out, force_terminal=out.isatty(), width=width, highlight=False, markup=False, emoji=False)
    table = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column(scores.header[0], no_wrap=True, overflow="ellipsis", max_width=LONGEST_LABEL)
    for column in scores.header[1:]:
        table.add_column(column, justify="right", no_wrap=True, min_width=len(column), header_style="dim")
    for name, *cells in scores.rows[:limit]:
        table.add_row(Text(name), *cells)
    if len(scores.rows) > limit:
        table.add_row(Text(f"... {len(scores.rows) - limit} more in report.html", style="dim"))
    if scores.averages:
        table.add_row()
    for name, *cells in scores.averages:
        table.add_row(Text(name, style="bold"), *cells)
    with console.capture() as capture:
        console.print(table)
        console.print()
        for line in scores.lines:
            console.print(Text(line))
    # A label in a script that the output's encoding lacks must not end a run that has just succeeded.
    encoding = getattr(out, "encoding", None) or "utf-8"
    out.write(capture.get().encode(encoding, "replace").decode(encoding))
    out.flush()
