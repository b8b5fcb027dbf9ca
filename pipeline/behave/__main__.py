"""Behavioural tests: what a run's model does with typos, other names, links, negations.

    python -m pipeline.behave RUN                       the built-in suite `general`, on held-out rows of the run
    python -m pipeline.behave RUN --suite own.yaml      one's own, or another built-in one
    python -m pipeline.behave RUN --suite sentiment_en --label positive=1 --label negative=0
    python -m pipeline.behave RUN --limit 0.05          exit status 1 where a test fails for more than 5 % of its rows

The newest exported model of the run answers. A table is printed; behaviour.json and behaviour.html in the run's folder
also have the worst failures of each test, and report.html the table. The exit status is 0, 1 where a limit is broken,
and 2 after one sentence on what is wrong with the input. How a suite is written: pipeline/behave/README.md.
"""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from export.answers import line_of
from export.command_line import command_parser, count, share
from export.versions import find_version, read_metadata
from pipeline import tasks
from pipeline.behave.judge import Judge, Model, Outcome, check_tests
from pipeline.behave.page import print_outcomes, show_in_report, write_page
from pipeline.behave.rows import held_out_rows
from pipeline.behave.suite import DEFAULT, Suite, built_in_names, read_suite
from pipeline.config import Config
from pipeline.files import in_a_sentence, write_text
from pipeline.rows_of_run import config_of

# Worst failures on the terminal, one a test.
SHOWN = 5


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, 1 where a limit is broken, 2 after one sentence on what is wrong."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return _behave(options)
    except Exception as error:
        print(f"error: {in_a_sentence(error, options.run, (ValueError, OSError))}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("pipeline.behave", __doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--suite", default=DEFAULT, help=f"yaml file, or one of {', '.join(built_in_names())} "
                        f"(default: {DEFAULT})")  # fmt: skip
    parser.add_argument("--label", action="append", type=_renamed, default=[], metavar="NAME=LABEL", help="what a "
                        "label of the suite is called in the model; may be given again")  # fmt: skip
    parser.add_argument("--limit", type=share, help="share of failures that a test without a limit of its own may "
                        "have (default: any)")  # fmt: skip
    parser.add_argument("--rows", type=count, default=500, help="held-out rows, drawn at random, and texts of the "
                        "templates of a test (default: 500)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of rows and changes (default: 0)")
    parser.add_argument("--html", type=Path, nargs="?", metavar="FILE", help="where the page goes (default: "
                        "behaviour.html in the run's folder)")  # fmt: skip
    return parser


def _renamed(word: str) -> tuple[str, str]:
    name, equals, label = word.partition("=")
    if not (name and equals and label):
        raise argparse.ArgumentTypeError(f"{word} is not NAME=LABEL, such as positive=1")
    return name, label


def _behave(options: argparse.Namespace) -> int:
    suite = read_suite(options.suite, dict(options.label))
    version = find_version(options.run)
    config = config_of(options.run)
    check_tests(tasks.from_metadata(read_metadata(version)), suite.tests)
    outcomes = _outcomes(options, suite, config, version)
    found = {
        "model": version.name,
        "suite": options.suite,
        "seed": options.seed,
        "private": config.training.privacy.on,
        "passed": all(one.passed for one in outcomes),
        "tests": [one.summary() for one in outcomes],
    }
    write_text(options.run / "behaviour.json", json.dumps(found, indent=1, ensure_ascii=False))
    page = options.html or options.run / "behaviour.html"
    write_page(page, options.run.resolve().name, found)
    show_in_report(options.run / "report.html", found)
    print_outcomes(found, SHOWN, line_of)
    print(f"with the worst failures of each test: {page}")
    return 0 if found["passed"] else 1


def _outcomes(options: argparse.Namespace, suite: Suite, config: Config, version: Path) -> list[Outcome]:
    # TensorFlow takes seconds to import: only when the suite is known to be good.
    from export.loading import Classifier

    rows = None
    if any(not test.templates for test in suite.tests):
        rows = held_out_rows(config, options.rows, options.seed)
    predictor = Classifier(version)
    beside = tuple(column.name for column in predictor.features.columns)
    texts = len(predictor.features.text_columns)

    def answer(cells):
        return predictor(*map(list, zip(*cells, strict=True))).outputs

    model = Model(predictor.task, answer, texts, beside, config.text.redaction.placeholders)
    judge = Judge(model, suite, rows, options.seed)
    tests = [test if test.limit is not None else replace(test, limit=options.limit) for test in suite.tests]
    return [judge.outcome(test, options.rows) for test in tests]


if __name__ == "__main__":
    from pipeline.entry import run_command
    from pipeline.frozen_weights import assume_frozen

    # This process never trains: see export.loading.Classifier.
    assume_frozen()
    run_command(main)
