"""What of persons is in a file, by kind: how much of it, in which columns, with masked examples.

    python -m pipeline.privacy scan reviews.csv
    python -m pipeline.privacy scan notes.parquet --kinds phone date --pattern ticket='T-[0-9]{6}'
    python -m pipeline.privacy scan notes.parquet --names de_core_news_sm

It finds what text.redact and text.redact_patterns would replace, in every column, or in those named. With --names
(extra names) it also looks for names of persons and places, by a language model of spaCy's; text.redact finds none, for
its graph has no such model. What is told in words alone is not looked for.
"""

import argparse
import os
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from export.command_line import command_parser
from pipeline.data.formats import Notices, Table, add_read_arguments, as_text, open_table, options_of, suffixes
from pipeline.data.formats.file import STANDARD_INPUT, File
from pipeline.errors import UserError
from pipeline.privacy.names import MODEL, Names
from pipeline.redaction.kinds import KINDS, NAME, Redaction, pattern_fault

# Cells that are looked at in one call.
CELLS = 1000
# Letters and digits of a find of which the first is shown.
FEWEST_SHOWN = 4
NOT_SEEN = "Names of persons and places are not looked for: that needs a model of the language (--names)."
BY_MODEL = (
    "Names are by the model {}, which misses some and takes other words for some; text.redact finds none, for its "
    "graph has no model of the language."
)


@dataclass
class Findings:
    """What was found in a file.

    Attributes:
        rows: that were read.
        found: how often, by kind.
        rows_with: in which rows, by kind.
        columns: how often, by kind and column.
        examples: masked, different from each other, by kind.
        about_names: a sentence on names.
    """

    rows: int = 0
    found: Counter[str] = field(default_factory=Counter)
    rows_with: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    columns: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    about_names: str = NOT_SEEN

    def add(self, kind: str, row: int, column: str, example: str, most: int) -> None:
        """One thing more, of which at most so many examples are kept."""
        self.found[kind] += 1
        self.rows_with[kind].add(row)
        self.columns[kind][column] += 1
        if len(self.examples[kind]) < most and example not in self.examples[kind]:
            self.examples[kind].append(example)

    def lines(self) -> list[str]:
        """For people: a kind a line, the most frequent first."""
        said = [_rows(self.rows)]
        for kind, count in self.found.most_common():
            columns = ", ".join(f"{name} {number}" for name, number in self.columns[kind].most_common())
            said.append(f"{kind}: {count} in {_rows(len(self.rows_with[kind]))} ({columns})")
            said += [f"  {example}" for example in self.examples[kind]]
        return [*said, *([] if self.found else ["nothing was found of what was looked for"]), self.about_names]


def main(arguments: list[str]) -> int:
    """Command line; returns the exit status: 0, or 2 after one sentence on what is wrong."""
    parser = command_parser("pipeline.privacy scan", __doc__)
    parser.add_argument("file", metavar="FILE", help="a file, a folder of label/*.txt, or - for standard input")
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="what to look for (default: all)"
    )
    parser.add_argument(
        "--pattern", action="append", default=[], metavar="NAME=RE2", help="of one's own; again for more"
    )
    parser.add_argument("--text_column", "--text-column", action="append", help="column to look at, again for more "
                        "(default: all)")  # fmt: skip
    parser.add_argument("--examples", type=int, default=3, help="masked examples of each kind (default: 3)")
    parser.add_argument("--names", nargs="?", const=MODEL, metavar="MODEL", help="look for names of persons and places "
                        f"too, by this model of spaCy's (default: {MODEL}; extra names)")  # fmt: skip
    add_read_arguments(parser)
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        redaction, notices = Redaction.of(options.kinds, _patterns(options.pattern)), Notices()
        names = Names(options.names) if options.names else None
        table = _table(options, notices)
        findings = scan(table, redaction, options.examples, names)
        if names:
            findings.about_names = BY_MODEL.format(options.names)
        print("\n".join(findings.lines()))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for sentence in notices.sentences():
        print(f"warning: {sentence}", file=sys.stderr)
    return 0


def scan(table: Table, redaction: Redaction, examples: int, names: Names | None = None) -> Findings:
    """Look at all cells of a table; rows that cannot be read are counted in its notices.

    Args:
        table: whose rows are taken.
        redaction: what to look for.
        examples: of each kind, at most.
        names: finds names of persons and places; None: they are not looked for.
    """
    # TensorFlow takes seconds to import.
    from pipeline.redaction.redactor import Redactor

    redactor, findings, kinds = Redactor(redaction), Findings(), redaction.names
    cells = _cells(table, findings)
    while some := list(islice(cells, CELLS)):
        found = redactor.found([text for _, _, text in some])
        for cell, number, text in zip(*(values.numpy().tolist() for values in found), strict=True):
            row, column, _ = some[cell]
            findings.add(kinds[number], row, column, masked(text.decode()), examples)
        texts = [text.decode() for _, _, text in some] if names else []
        for cell, kind, text in names.found(texts) if names else ():
            row, column, _ = some[cell]
            findings.add(kind, row, column, masked(text), examples)
    return findings


def masked(text: str) -> str:
    """All letters, their marks and digits are stars, but the first, where they are four at least: of fewer it would
    leave too little to guess."""
    hidden = [place for place, character in enumerate(text) if unicodedata.category(character)[0] in "LMN"]
    kept = hidden[:1] if len(hidden) >= FEWEST_SHOWN else []
    stars = set(hidden) - set(kept)
    return "".join("*" if place in stars else character for place, character in enumerate(text))


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _cells(table: Table, findings: Findings) -> Iterator[tuple[int, str, bytes]]:
    """Row, column and text of each cell that has any."""
    for number, cells in table:
        if isinstance(cells, str):
            table.notices.add("rows that cannot be read", f"{table.place(number)}, which {cells}")
            continue
        findings.rows += 1
        for column, cell in zip(table.columns, cells, strict=False):
            if text := as_text(cell):
                yield number, column, text.encode("utf-8", "replace")


def _table(options: argparse.Namespace, notices: Notices) -> Table:
    read = options_of(options)
    if options.file != STANDARD_INPUT and not Path(options.file).exists():
        raise UserError(f"{options.file}: no such file.")
    if read.format is None and suffixes(options.file)[0] == ".txt" and not Path(options.file).is_dir():
        # With tabs it is a tsv, as in training.
        with File(options.file, read, Notices()).lines() as lines:
            read = replace(read, format=None if "\t" in next(iter(lines), "") else "lines")
    columns = options.text_column or (["text"] if read.format == "lines" else None)
    return open_table(options.file, read, columns, notices)


def _patterns(words: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, equals, pattern = word.partition("=")
        if not equals or not NAME.fullmatch(name) or name in KINDS:
            raise UserError(f"--pattern {word}: give NAME=RE2, with a name of small letters that is no kind.")
        if fault := pattern_fault(pattern):
            raise UserError(f"--pattern {word} {fault}.")
        found[name] = pattern
    return found
