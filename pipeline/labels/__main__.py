"""Look after labels.

    python -m pipeline.labels check RUN --output suspicious.csv     labels that are likely to be wrong, the worst first
    python -m pipeline.labels next RUN --unlabelled FILE            which texts of FILE to label next
    python -m pipeline.labels next --config NAME --unlabelled FILE  the same before there is a run

In place of RUN, the folder of a run, settings of pipeline.run may stand: --config NAME_OR_FILE --section.key VALUE ...
Both use the checkpoint as it is: the weights of a run have learned the labels that are to be judged.

check names rows and changes none. next writes a csv with an empty label: fill it in, and name it beside the other rows
(--data.train '[train.csv, next.csv]'). With --config, what is labelled so far is what --data.train names.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from export.command_line import command_parser, count, share
from export.texts import Texts, add_text_arguments, check_text_arguments
from pipeline.features import Features
from pipeline.features.columns import wanted_features
from pipeline.files import in_a_sentence
from pipeline.labels.rows import Source, opened, without_splits
from pipeline.labels.table import refuse_taken, write_table

# Settings of pipeline.run without a section.
SETTINGS = ("--config", "--run_dir", "--stage")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, or 2 after one sentence on what is wrong."""
    own, settings = divided(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(own)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        refuse_taken(options.output)
        if options.command == "check":
            _check(options, settings)
        else:
            _next(options, settings)
    except Exception as error:
        print(f"error: {in_a_sentence(error, options.output, (ValueError, OSError))}", file=sys.stderr)
        return 2
    return 0


def divided(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command's own arguments, and settings of pipeline.run with their values."""
    own, settings, rest = [], [], iter(words)
    for word in rest:
        name, equals, _ = word.partition("=")
        if not name.startswith("--") or ("." not in name and name not in SETTINGS):
            own.append(word)
            continue
        settings.append(word)
        if not equals and (value := next(rest, None)) is not None:
            settings.append(value)
    return own, settings


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("pipeline.labels", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="labels that are likely to be wrong", allow_abbrev=False)
    check.add_argument("--split", choices=("train", "validation", "test"), default="train", help="whose labels "
                       "(default: train)")  # fmt: skip
    check.add_argument("--near", type=share, default=None, metavar="COSINE", help="of nearly equal texts under two "
                       "labels, from 0 to 1 (default: 0.9)")  # fmt: skip
    next_ = commands.add_parser("next", help="which texts to label next", allow_abbrev=False)
    add_text_arguments(next_, "unlabelled", keep=False)
    next_.add_argument("--count", type=count, default=50, help="how many (default: 50)")
    next_.add_argument("--by", choices=("unsure", "fit"), default="unsure", help="what the labels so far leave open, "
                       "or what fits least among labelled texts (default: unsure)")  # fmt: skip
    for command in (check, next_):
        output = "suspicious.csv" if command is check else "next.csv"
        command.add_argument("run", nargs="?", metavar="RUN", help="folder of a run; none: --config NAME")
        command.add_argument("--output", type=Path, default=Path(output), help=f"csv to write (default: {output})")
    return parser


def _check(options: argparse.Namespace, settings: list[str]) -> None:
    with opened(options.run, settings) as source:
        # TensorFlow takes seconds to import: only when the settings are known to be good.
        from pipeline.labels.check import NEAR, check
        from pipeline.training.session import fresh_session

        with fresh_session():
            found = check(source, options.split, NEAR if options.near is None else options.near)
            write_table(options.output, found.columns, found.table())
            print("\n".join(found.lines()))
    print(f"{len(found.suspicious)} rows, the worst first: {options.output}")


def _next(options: argparse.Namespace, settings: list[str]) -> None:
    check_text_arguments(options, "unlabelled")
    with opened(options.run, settings, rows_needed=False) as source:
        if options.run is None:
            source = without_splits(source)
        pool = _pool(options, source)
        from pipeline.labels.next import Pool, choose_next
        from pipeline.training.session import fresh_session

        with fresh_session():
            texts = Pool(pool.columns, pool.text_columns[: len(source.config.data.text_columns)], list(pool))
            found = choose_next(source, texts, options.count, by_fit=options.by == "fit")
    write_table(options.output, found.columns, found.rows)
    for sentence in pool.notices.sentences():
        print(f"warning: {sentence}", file=sys.stderr)
    how = f"by {found.labelled} labelled rows" if found.labelled else "as unlike each other as can be: none is labelled"
    print(f"{len(found.rows)} of {found.pool} texts, {how}: {options.output}")
    print(f"next:\n  fill in the labels, then give it beside the rows so far: --data.train '[..., {options.output}]'")


def _pool(options: argparse.Namespace, source: Source) -> Texts:
    """The texts, read as the rows of the config are."""
    from pipeline.data.sources import read_metadata

    data = source.config.data
    beside = wanted_features(data)
    names = [*Features(tuple(data.text_columns)).inputs, *(one.column for one in beside)]
    return Texts(options, names, read_metadata(data), "unlabelled", beside=beside)


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
