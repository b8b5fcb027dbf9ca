"""Answer texts with an exported model.

    python -m export.predict RUN_OR_MODEL "some text" "another"
    python -m export.predict RUN_OR_MODEL --input texts.csv --text_column review --output labelled.csv
    cat texts.txt | python -m export.predict RUN_OR_MODEL --format jsonl
    python -m export.predict RUN_OR_MODEL --explain "some text"

Texts come from the command line, from files of any format that training reads, read as the model's training rows were,
or from standard input, one text a line. A .txt file has one text a line, or is a .tsv if its first line names the text
columns. For a model of pairs a text is two texts with a tab between, or two columns.

The answers, label, score and reason, stand behind the columns of the input (as predicted_label, ... where the input has
one of these names). Each row of the input is one row of the output, in order; one without text has no label, and a
reason. The name of --output tells its format: .csv, .tsv, .jsonl, .parquet, .arrow, .feather or .xlsx, packed with .gz,
.xz, .bz2 or .zst.
"""

import os
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from export.answered import Asking, Input, Window, answered, store, warn
from export.answers import line_of, prefix_of
from export.command_line import command_parser
from export.progress import Progress
from export.texts import Texts, add_text_arguments, check_text_arguments
from export.versions import find_version
from pipeline.data.formats import FORMATS, as_text, format_by_name, printable, suffixes, text_writer, whole_file

# Formats of --format, for standard output; "table" is for people.
PRINTED = ("table", "csv", "tsv", "jsonl")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, or 2 after one sentence on what is wrong."""
    options = _parse(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        _check(options)
        find_version(options.model)
        # TensorFlow takes seconds to import: only when the options are known to be good.
        from export.loading import Classifier

        predictor = Classifier(options.model)
        beside = predictor.features.wanted("--input")
        rows = Texts(options, predictor.inputs, predictor.metadata.get("read"), beside=beside)
        if options.output:
            _write_file(predictor, rows, options)
        else:
            _write(predictor, rows, options, sys.stdout.buffer)
    except BrokenPipeError:
        # The reader of our output, such as head, has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parse(arguments: list[str] | None):
    parser = command_parser("export.predict", __doc__)
    parser.add_argument("model", help="run directory, directory of versions, or one version")
    add_text_arguments(parser)
    parser.add_argument("--output", type=Path, help="file to write; its name tells the format")
    parser.add_argument("--format", choices=PRINTED, help="of the answers on standard output (default: table)")
    parser.add_argument("--top", "--top_k", type=int, default=1, metavar="K", help="give the K most probable labels "
                        "(default: 1)")  # fmt: skip
    parser.add_argument("--explain", action="store_true", help="say what each piece of a text adds to the log-odds of "
                        "its label (table or jsonl)")  # fmt: skip
    parser.add_argument("--batch_size", "--batch-size", type=int, help="texts a forward pass, of which one a core, "
                        "8 at most and of 256 texts together, run at once (default: 32, with --explain 8)")  # fmt: skip
    # Intermixed: texts may stand behind options.
    options = parser.parse_intermixed_args(arguments)
    if options.batch_size is None:
        options.batch_size = 8 if options.explain else 32
    return options


def _check(options) -> None:
    if options.batch_size < 1 or options.top < 1:
        raise ValueError("--batch_size and --top must be at least 1.")
    check_text_arguments(options)
    form = _form(options)
    if options.explain and (options.top > 1 or form not in ("table", "jsonl")):
        raise ValueError("--explain gives one label, as a table or as jsonl: without --top, with --format jsonl.")


def _form(options) -> str:
    """Format of what is written: table, or one of FORMATS that can be written."""
    if not options.output:
        return options.format or "table"
    named = format_by_name(str(options.output))
    if options.format and (named in (None, options.format) or suffixes(str(options.output))[0] == ".txt"):
        return options.format
    if named is None or options.format or FORMATS[named].write is None:
        writable = [suffix for known in FORMATS.values() if known.write for suffix in known.suffixes]
        wrong = f"is not named as --format {options.format} is" if options.format and named else "has no name of these"
        raise ValueError(f"--output {options.output} {wrong}: end it in {', '.join(writable)}.")
    return named


def _write_file(predictor, rows: Texts, options) -> None:
    with whole_file(options.output) as file:
        _write(predictor, rows, options, file)


def _write(predictor, rows: Texts, options, file: Any) -> None:
    form = _form(options)
    progress, done = Progress(), 0
    with ExitStack() as stack:
        # Its rows count batch by batch: a window may take minutes.
        ahead = not _waits(options)
        asking = Asking(options.batch_size, options.top, None, ahead, rows.columns, form == "table", progress.add)
        if options.explain:
            from export.explained import explain

            windows = explain(predictor, rows, options.batch_size, form, stack.enter_context(text_writer(file)))
        elif form == "table":
            windows = _print(answered(predictor, rows, asking), stack.enter_context(text_writer(file)))
        else:
            answers = answered(predictor, rows, asking)
            windows = store(answers, Input(rows.columns, rows.types), form, file, _prefix)
        for count in windows:
            if not options.output:
                file.flush()
            if options.explain:
                progress.add(count)
            done += count
        progress.end()
    if not done:
        raise ValueError("there is no text to answer.")
    warn(rows.notices.sentences())


def _waits(options) -> bool:
    """Whether the texts may come from a program that waits for their answers."""
    if not options.input:
        return not options.text
    return options.input == "-" or Path(options.input).is_fifo()


def _prefix(columns: list[str], answers: Collection[str]) -> str:
    """What stands before the names of the answers; where it is something, say so."""
    prefix = prefix_of(columns, answers)
    if prefix:
        same = next(name for name in answers if name in columns)
        names = ", ".join(f"{prefix}{name}" for name in answers)
        print(f"the input has a column {same!r}: the answers are {names}.", file=sys.stderr)
    return prefix


def _print(windows: Iterator[Window], file: Any) -> Iterator[int]:
    """One line a text, whatever the text holds."""
    for window, answers, *_ in windows:
        for row, cells in zip(window, zip(*answers.values(), strict=True), strict=True):
            answer = dict(zip(answers, cells, strict=True))
            texts = " | ".join(printable(text) for text in row.texts or map(as_text, row.cells))
            print(f"{line_of(answer) if row.texts else f'- ({row.reason})'}\t{texts}", file=file)
        yield len(window)


if __name__ == "__main__":
    from pipeline.entry import run_command
    from pipeline.frozen_weights import assume_frozen

    # This process never trains: see export.loading.Classifier.
    assume_frozen()
    run_command(main)
