"""Watch what a served model is asked and answers: what has moved since it was evaluated, and since when.

    python -m export.monitor build RUN                          put a reference beside the newest model of a run
    python -m export.monitor build RUN --from LOG [LOG ...]     the same, of what was asked while all was well
    python -m export.monitor report RUN requests.jsonl          compare logs with it
    python -m export.monitor report reference.json LOG [LOG ...] --window day --since 7d --html drift.html

A reference (assets.extra/reference.json) has counts of lengths, scripts, kinds of characters, words that the vocabulary
has whole, labels, scores and every other number of an answer, for the validation and test rows of the run, and how
often answers of each score were right: no texts. Of a private run there is none but with --from.

A LOG has requests with answers as lines of JSON (export.request_log, or the kit's proxy), rows with answers as
`export.predict --output` writes them (csv, parquet, ...), or PredictionLogs in a .tfrecord. Watched are texts, the
columns beside them that the model reads, and answers. Days, hours and --since are of UTC, which a time without an
offset is taken to be in; rows without a time are then passed over, and counted.

Each window is compared with the reference by two-sample tests that are corrected for the number of features: while
nothing moves, fewer than one window in 1,000 says that something has (--false_alarms). A feature counts as moved where
it is also far enough, by its population stability index (--least_psi). How right the answers are is estimated from
their scores. The exit status is 0 where nothing has moved, 1 where something has, and 2 after one sentence on what is
wrong with the input. As a line of a crontab, with metrics for the textfile collector of Prometheus' node exporter:

    0 * * * * python -m export.monitor report RUN requests.jsonl --since 24h --prometheus /metrics/drift.prom
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from export.command_line import command_parser
from export.monitor.columns import WatchedColumn
from export.monitor.drift import Limits
from export.monitor.features import Rows
from export.monitor.logs import LogFields, read_log
from export.monitor.reference import FEWEST_ROWS, FILE, Reference
from export.monitor.watch import Watch, since_time, window_size
from export.versions import find_version
from pipeline.data.formats import Notices, add_read_arguments, options_of
from pipeline.errors import UserError
from pipeline.files import write_text


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, 1 where something has moved, 2 after one sentence on what is wrong."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return _build(options) if options.command == "build" else _report(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("export.monitor", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make a reference", allow_abbrev=False)
    build.add_argument(
        "run", nargs="?", type=Path, metavar="RUN", help="folder of a run; with --from any model, or none"
    )
    build.add_argument("--output", type=Path, help="file to write (default: reference.json beside the model)")
    build.add_argument("--from", dest="logs", nargs="+", metavar="LOG", help="make it of logs, not of held-out rows")
    build.add_argument("--rows", type=int, default=20_000, help="held-out rows to ask at most (default: 20000)")
    report = commands.add_parser("report", help="compare logs with a reference", allow_abbrev=False)
    report.add_argument("reference", metavar="REFERENCE_OR_MODEL", help="reference.json, or a model that has one")
    report.add_argument("logs", nargs="+", metavar="LOG", help="file of a log; - for standard input")
    report.add_argument("--window", default="1000", help="rows of a window, or day, or hour (default: 1000)")
    report.add_argument("--since", metavar="TIME", help="pass over what was before: 2026-01-31, or 7d, 24h or 30m ago")
    report.add_argument("--html", type=Path, metavar="FILE", help="page to write")
    report.add_argument("--json", type=Path, metavar="FILE", help="all that was found")
    report.add_argument("--prometheus", type=Path, metavar="FILE", help="metrics to write, as .prom")
    report.add_argument("--show", type=int, default=0, metavar="N", help="show N rows that fit least, with texts, "
                        "which people wrote (default: 0)")  # fmt: skip
    report.add_argument("--false_alarms", "--false-alarms", type=float, default=Limits.level, metavar="SHARE",
                        help="of windows in which nothing has moved (default: 0.001)")  # fmt: skip
    report.add_argument("--least_psi", "--least-psi", type=float, default=Limits.psi, metavar="PSI", help="less does "
                        "not matter (default: 0.05)")  # fmt: skip
    report.add_argument("--name", help="of the model, in page and metrics (default: of its folder)")
    for command in (build, report):
        _add_log_arguments(command)
    return parser


def _add_log_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text_column", "--text-column", action="append", help="of files of rows; twice for pairs")
    parser.add_argument("--time_column", "--time-column", help="of files of rows, with ISO times")
    parser.add_argument("--model", help="take requests of this model alone")
    parser.add_argument("--label", help="take requests by this version label alone")
    parser.add_argument("--version", type=int, help="take requests of this version alone")
    add_read_arguments(parser)


def _build(options: argparse.Namespace) -> int:
    run: Path | None = options.run
    if run is None and not (options.logs and options.output):
        raise UserError("name the folder of a run, or give --from LOG and --output.")
    if options.rows < FEWEST_ROWS:
        raise UserError(f"--rows {options.rows}: a reference takes {FEWEST_ROWS} at least.")
    output = options.output or find_version(str(run)) / FILE
    from export.monitor.build import NUMBERS, features_of, of_logs, of_run, texts_of
    from export.monitor.columns import watched_columns

    if run is None or options.logs:
        inputs, text_columns = texts_of(run)
        notices = Notices()
        columns = [column for column, _ in watched_columns(features_of(run))]
        wanted = _wanted(options, inputs, text_columns, ("label", *NUMBERS), columns)
        reference = of_logs(_all_rows(options, wanted, notices), run, inputs, wanted.text_columns)
        _warn(notices)
    else:
        reference = of_run(run, options.rows)
    reference.save(output)
    known = f", of which {reference.accuracy.share:.1%} are answered rightly" if reference.accuracy else ""
    print(f"{reference.rows} rows{known}, {len(reference.sketches)} features: {output}")
    return 0


def _report(options: argparse.Namespace) -> int:
    size, since = window_size(options.window), since_time(options.since)
    limits = Limits(options.false_alarms, options.least_psi)
    if not 0 < limits.level < 1 or limits.psi < 0 or options.show < 0:
        raise UserError("--false_alarms is above 0 and below 1, --least_psi and --show are at least 0.")
    if options.prometheus is not None and options.prometheus.suffix != ".prom":
        raise UserError(f"--prometheus {options.prometheus}: the collector reads files that end in .prom alone.")
    reference, notices = Reference.load(options.reference), Notices()
    outputs = (*(("label",) if reference.labels else ()), *reference.outputs)
    wanted = _wanted(options, reference.inputs, reference.text_columns, outputs, reference.columns)
    watch = Watch(reference, size, since, options.show)
    for rows in _all_rows(options, wanted, notices):
        watch.add(rows)
    from export.monitor.findings import find
    from export.monitor.report import lines, write_page, write_prometheus

    found = find(reference, watch, limits)
    _warn(notices)
    print("\n".join(lines(found)))
    name = options.name or _name(Path(options.reference))
    if options.json:
        write_text(options.json, json.dumps(found, indent=1, ensure_ascii=False, default=str))
    if options.html:
        write_page(options.html, found, name)
    if options.prometheus:
        write_prometheus(options.prometheus, found, name)
    return 1 if found["moved"] else 0


def _wanted(
    options: argparse.Namespace,
    inputs: Sequence[str],
    text_columns: Sequence[str],
    outputs: Sequence[str],
    columns: Sequence[WatchedColumn],
) -> LogFields:
    served = ((field, getattr(options, field)) for field in ("model", "label", "version"))
    return LogFields(
        inputs,
        options.text_column or text_columns,
        outputs,
        options.time_column,
        columns,
        tuple((field, value) for field, value in served if value is not None),
    )


def _all_rows(options: argparse.Namespace, wanted: LogFields, notices: Notices) -> Iterator[Rows]:
    read = options_of(options)
    for path in options.logs:
        if path != "-" and not Path(path).is_file():
            raise UserError(f"{path}: no such file.")
    for path in options.logs:
        yield from read_log(path, wanted, read, notices)


def _warn(notices: Notices) -> None:
    for sentence in notices.sentences():
        print(f"warning: {sentence}", file=sys.stderr)


def _name(path: Path) -> str:
    """Of a run's folder, also where one of its versions, or its reference, was given."""
    parts = [part for part in path.resolve().parts if not part.isdigit() and part not in (*FILE.parts, "saved_model")]
    return parts[-1] if parts else "model"


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
