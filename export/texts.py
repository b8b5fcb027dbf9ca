"""Texts to answer, from the command line, files or standard input: read as training reads them.

Every row of the input is given, in order, with all its cells, so that answers can be joined back.
"""

import argparse
import dataclasses
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import remote
from pipeline.data.formats import (
    NO_TEXT,
    Nothing,
    Notices,
    ReadOptions,
    Table,
    add_read_arguments,
    cells_of,
    format_of,
    looks_misread,
    open_table,
    options_of,
    suffixes,
)
from pipeline.data.formats.file import STANDARD_INPUT, File
from pipeline.data.rows import clean_texts
from pipeline.features.columns import FeatureColumn


class Row(NamedTuple):
    """A row of the input."""

    place: str
    """Its file and line."""
    cells: list[Any]
    """Of all columns; None for those that it lacks."""
    texts: tuple[str, ...] | None
    """What the model reads: one or two texts, or more and cells of columns; None: there is none, and `reason` says
    why."""
    reason: str
    blank: bool
    """It is no row for training: a blank line, or the header once more."""


def add_text_arguments(
    parser: argparse.ArgumentParser, input_name: str = "input", keep: bool = True, given: bool | None = None
) -> None:
    """The input, its text columns and how it is read.

    Args:
        parser: of a command.
        input_name: of the option that names a file.
        keep: whether there are answers to keep a bad row's place in.
        given: whether there may be texts on the command line; None: as `keep`.
    """
    given = keep if given is None else given
    if given:
        parser.add_argument("text", nargs="*", help="texts to answer; none: --input or standard input")
    files = "file, pattern of files, folder of label/*.txt, or - for standard input"
    parser.add_argument(f"--{input_name}", required=not given, metavar="FILE", help=files)
    parser.add_argument("--text_column", "--text-column", action="append", help="column of the texts; twice for pairs "
                        "(default: those trained with, or the names of the model's inputs)")  # fmt: skip
    add_read_arguments(parser)
    choices = ["error", "skip", "keep"] if keep else ["error", "skip"]
    kept = ", or keep their place without an answer" if keep else ""
    parser.add_argument("--bad_rows", "--bad-rows", choices=choices, default="error", help="rows that cannot be read: "
                        f"end with an error, skip them{kept} (default: error)")  # fmt: skip


def check_text_arguments(options: argparse.Namespace, input_name: str = "input") -> None:
    """What can be refused before the model is known.

    Raises:
        ValueError: texts from two places, no such file, or settings that no reader has.
    """
    source = getattr(options, input_name)
    if getattr(options, "text", None) and source:
        raise ValueError(f"give texts on the command line or --{input_name}, not both.")
    read = checked_options(options)
    for file in remote.matches(source) if remote.is_remote(source) else files_of(source, input_name):
        if not Path(file).is_dir():
            format_of(file, read)


def checked_options(options: argparse.Namespace) -> ReadOptions:
    """How files are read.

    Raises:
        ValueError: settings that no reader has.
    """
    read = options_of(options)
    read.check_encodings()
    for name in ("delimiter", "quote", "escape"):
        read.character(name)
    return read


class Texts:
    """The rows that a command's arguments mean; iterates over `Row`, once.

    Args:
        options: parsed arguments of add_text_arguments.
        inputs: names of the model's inputs, one or two.
        trained: how the model's training rows were read, `metadata["read"]`.
        input_name: as for add_text_arguments.
        labelled: a column that the input must have besides, if any.
        beside: columns that the model reads beside its texts, of the last of `inputs`; on the command line they are
            missing.
        within: the rows to give, from 0, of one file whose rows `count_rows` tells; None: all.

    Attributes:
        columns: of the input. JSON may bring more on the way, at the end.
        types: of its columns, as Arrow has them, where its format has types.
        text_columns: those to answer.
        notices: what was met on the way, counted; complete at the end.

    Raises:
        ValueError: here or on the way; a row that cannot be used, with its file and line.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        inputs: list[str],
        trained: dict | None = None,
        input_name: str = "input",
        labelled: str | None = None,
        beside: Sequence[FeatureColumn] = (),
        within: range | None = None,
    ):
        self._beside, inputs = beside, inputs[: len(inputs) - len(beside)]
        self._options, self._inputs, self._trained = options, inputs, trained or {}
        self._labelled, self.notices, self._within = labelled, Notices(), within
        if options.text_column and len(options.text_column) != len(inputs):
            count = len(options.text_column)
            raise ValueError(f"the model takes {' and '.join(inputs)}; --text_column names {count} column(s).")
        if getattr(options, "text", None):
            names = [*inputs, *(one.column for one in beside)]
            rows = ((number, self._given(text, names)) for number, text in enumerate(options.text, 1))
            tables = iter([Table("the command line", names, rows, "text", ReadOptions(), self.notices)])
        else:
            tables = map(self._open, files_of(getattr(options, input_name), input_name))
        self._first, self._tables = next(tables), tables
        self.columns, self.types = self._first.columns, self._first.types
        self.text_columns = [*self._text_columns(self._first), *(one.column for one in beside)]
        self._rows = self._all()

    def __iter__(self) -> Iterator[Row]:
        return self._rows

    def places(self, wanted: list[str]) -> list[int]:
        """Where columns stand in `Row.cells`.

        Raises:
            ValueError: one is missing, or there are two of its name.
        """
        return self._first.places(wanted)

    def _given(self, text: str, names: list[str]) -> list[Any] | str:
        """The cells of a text of the command line; of columns beside it those that stand behind it, if any do."""
        none = [None] * len(self._beside)
        if not none or text.count("\t") >= len(names) - 1:
            return cells_of(text, names)
        cells = cells_of(text, self._inputs)
        if isinstance(cells, str):
            return cells
        self.notices.add(f"texts without {', '.join(names[len(self._inputs) :])}, which count as missing", text[:20])
        return [*cells, *none]

    def _open(self, file: str) -> Table:
        read = options_of(self._options)
        if Path(file).is_dir():
            return open_table(file, self._as_trained(read, "folder"), None, self.notices)
        if suffixes(file)[0] == ".txt" and read.format is None:
            read = dataclasses.replace(read, format=self._format_of_txt(file, read))
        kind = format_of(file, read)
        if kind == "lines" and self._beside:
            names = ", ".join([*self._inputs, *(one.column for one in self._beside)])
            raise ValueError(f"{file} has a text a line, and the model takes {names}: give a file of these columns.")
        columns = self._inputs if kind == "lines" else None
        return open_table(file, self._as_trained(read, kind), columns, self.notices, self._within)

    def _format_of_txt(self, file: str, read: ReadOptions) -> str | None:
        """A .txt file is a tsv with a header, as in training, or has one text a line."""
        if self._options.text_column or self._labelled:
            return None
        with File(file, self._as_trained(read, "lines"), Notices()).lines() as lines:
            header = [name.strip() for name in next(iter(lines)).split("\t")]
        own = self._inputs or [one.column for one in self._beside]
        if any(names and set(names) <= set(header) for names in (self._trained.get("text_columns"), own)):
            return "tsv"
        if len(header) > 1 and len(self._inputs) == 1:
            raise ValueError(
                f"{file}, line 1 has a tab but no column {self._inputs[0]!r}: set --input_format to lines (one text a "
                "line) or tsv, with --text_column."
            )
        return "lines"

    def _as_trained(self, read: ReadOptions, kind: str) -> ReadOptions:
        """What the command line leaves open is read as the training rows were; a dialect only in their format."""
        names = [] if self._options.encoding else ["encoding"]
        if self._options.encoding is None and self._options.encoding_fallback is None:
            names.append("encoding_fallback")
        if kind == self._trained.get("format"):
            names += [name for name in ("delimiter", "quote", "escape") if getattr(self._options, name) is None]
        return dataclasses.replace(read, **{name: self._trained[name] for name in names if name in self._trained})

    def _text_columns(self, table: Table) -> list[str]:
        trained = self._trained.get("text_columns") or []
        has_trained = len(trained) == len(self._inputs) and set(trained) <= set(table.columns)
        return self._options.text_column or (trained if has_trained else self._inputs)

    def _all(self) -> Iterator[Row]:
        yield from self._of(self._first)
        for table in self._tables:
            if table.columns != self.columns:
                raise ValueError(
                    f"{table.source} has the columns {', '.join(table.columns)}, and {self._first.source} "
                    f"{', '.join(self.columns)}: answer them one by one."
                )
            yield from self._of(table)

    def _of(self, table: Table) -> Iterator[Row]:
        places = table.places(self.text_columns) if table.columns else []
        for number, cells in table:
            where, blank = table.place(number), isinstance(cells, Nothing)
            reason, texts = "", None
            if isinstance(cells, str):
                reason, cells = cells, [None] * len(table.columns)
            else:
                try:
                    found = clean_texts([cells[place] for place in places[: len(self._inputs)]])
                    others = zip(self._beside, places[len(self._inputs) :], strict=True)
                    texts = tuple(
                        cell.decode() for cell in (*found, *(one.read(cells[place]) for one, place in others))
                    )
                except ValueError as error:
                    reason = str(error)
                if texts and any(map(looks_misread, texts)):
                    self.notices.add("texts that seem to be decoded wrongly (Â£, â€™, Ã©)", where)
            if reason and not blank and reason != NO_TEXT and not self._kept(where, reason):
                continue
            yield Row(where, cells, texts, reason, blank)

    def _kept(self, where: str, reason: str) -> bool:
        """Whether a row that cannot be used stays."""
        if self._options.bad_rows == "error":
            raise ValueError(f"{where}: the row {reason}; mend it, or see --bad_rows.")
        if self._options.bad_rows == "skip":
            self.notices.add("rows that were skipped", f"{where}, which {reason}")
        return self._options.bad_rows == "keep"


def files_of(source: str | None, input_name: str) -> list[str]:
    """The files of the input, of which a pattern may name several; copies of those that are not of this machine."""
    if source is None or source == STANDARD_INPUT:
        return [STANDARD_INPUT]
    if remote.is_remote(source):
        return remote.fetch_all(source)
    files = [source] if Path(source).exists() else sorted(glob.glob(source, recursive=True))
    if not files:
        raise ValueError(f"--{input_name} {source}: no such file.")
    return files
