"""Ask a model that TensorFlow Serving serves.

    python -m export.client --target localhost:8500 --model news "some text" "another"
    python -m export.client --target localhost:8501 --protocol rest --model news --input texts.csv --text-column review
    cat texts.txt | python -m export.client --target localhost:8500 --model news --label canary --format jsonl

Texts come from the command line, files or standard input, as for export.predict; jsonl keeps the columns of the input.
All are answered by one version of the model. REST imports no tensorflow. The exit status is 0, 2 after one sentence on
what is wrong, and 75 where the server is not available or too busy, did not answer in time, or has replaced the version
meanwhile: try again.
"""

import argparse
import itertools
import json
import os
import sys
from pathlib import Path

import numpy as np

from export.answers import REASON, is_share, line_of, prefix_of, refuse_late, rounded
from export.command_line import command_parser
from export.failures import RequestFailed
from export.request_schema import RowRefused
from export.served import Client, Limits
from export.texts import Row, Texts, add_text_arguments, check_text_arguments
from export.transport import NotServed, OutOfTime, Tls, TryAgain
from pipeline.data.formats import as_text, encodable, escaped, printable
from pipeline.errors import TRY_AGAIN

__all__ = ["Client", "Limits", "main"]

# Texts taken at a time from a large input, in rounds of parallel requests.
WINDOW = 4


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, 2 after one sentence on what is wrong, 75 to try again."""
    parser = command_parser("export.client", __doc__)
    parser.add_argument("--target", required=True, metavar="HOST:PORT", help="of the server")
    parser.add_argument("--protocol", choices=["grpc", "rest"], default="grpc", help="(default: grpc)")
    parser.add_argument("--model", default="model", help="name that it is served under (default: model)")
    parser.add_argument("--signature", default="serving_default", help="(default: serving_default)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=int, help="number of the version (default: the newest)")
    which.add_argument("--label", help="of the version, such as stable or canary")
    limits = Limits()
    parser.add_argument("--timeout", type=float, default=limits.timeout, help=f"seconds that {WINDOW} rounds of "
                        "parallel requests may take, with all attempts (default: %(default)g)")  # fmt: skip
    parser.add_argument("--attempts", type=int, default=limits.attempts, help="at a request that the server cannot "
                        "take now (default: %(default)s)")  # fmt: skip
    parser.add_argument("--batch_size", "--batch-size", type=int, default=limits.batch_size, help="texts a request "
                        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--parallel", type=int, default=limits.parallel, help="requests at a time (default: "
                        "%(default)s)")  # fmt: skip
    parser.add_argument("--tls", action="store_true", help="encrypt; without --root the system's authorities are used")
    parser.add_argument("--root", type=Path, help="PEM file of who signed the server's certificate; means --tls")
    parser.add_argument("--certificate", type=Path, help="PEM file of the client's own; means --tls")
    parser.add_argument("--key", type=Path, help="PEM file of its key")
    parser.add_argument("--schema", type=Path, metavar="FILE", help="assets.extra/request.schema.json of the model's "
                        "export: rows that do not fit are not sent, and the inputs have its order")  # fmt: skip
    parser.add_argument("--format", choices=["lines", "jsonl"], default="lines", help="of the answers (default: lines)")
    add_text_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        check_text_arguments(options)
        files = Tls(options.root, options.certificate, options.key)
        settings = {name: getattr(options, name) for name in ("model", "protocol", "signature", "version", "label")}
        settings["limits"] = Limits(options.timeout, options.attempts, options.batch_size, options.parallel)
        with Client(options.target, tls=files if options.tls or any(files) else None, **settings) as client:
            asked = client if options.schema is None else client.held_to(options.schema)
            _answer(asked.pinned(), options)
    except BrokenPipeError:
        # The reader of our output, such as head, has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (TryAgain, OutOfTime) as error:
        print(f"error: {error}", file=sys.stderr)
        return TRY_AGAIN
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _answer(client: Client, options: argparse.Namespace) -> None:
    rows, names = _rows(client, options), client.inputs
    iterator, count = iter(rows), 0
    added = {*client.outputs, REASON}
    # JSON may bring columns later: what is known now decides what the answers are called.
    known, prefix = len(rows.columns), prefix_of(rows.columns, added)
    taken = {f"{prefix}{name}" for name in added}
    while window := list(itertools.islice(iterator, options.batch_size * options.parallel * WINDOW)):
        rows_asked = [row for row in window if row.texts]
        asked = [row.texts for row in rows_asked]
        try:
            columns = dict(zip(names, map(list, zip(*asked, strict=True)), strict=True)) if asked else {}
            outputs = client.predict(columns).outputs if asked else {}
        except RowRefused as error:
            raise RequestFailed(f"{rows_asked[error.row].place}: {error.reason}") from error
        except NotServed as error:
            if options.version is not None:
                raise
            raise TryAgain(f"{error} It was replaced after {count} rows: ask again for all of one version.") from error
        answers = (
            {name: _json(array[i], is_share(name)) for name, array in outputs.items()} for i in range(len(asked))
        )
        for row in window:
            answer = next(answers) if row.texts else {REASON: row.reason}
            if options.format == "lines":
                print(_line(row, answer))
            else:
                refuse_late(rows.columns[known : len(row.cells)], taken, row.place)
                given = dict(zip(rows.columns, row.cells, strict=False))
                record = given | {f"{prefix}{name}": value for name, value in answer.items()}
                print(json.dumps(encodable(record), ensure_ascii=False, default=as_text))
        count += len(window)
    if not count:
        raise ValueError("there is no text to answer.")
    for sentence in rows.notices.sentences():
        print(f"warning: {sentence}", file=sys.stderr)


def _rows(client: Client, options: argparse.Namespace) -> Texts:
    """What is asked; values without names only in the model's own order."""
    names, texts, known = client.order
    inputs = escaped(", ".join(names))
    # A text with fewer tabs is one text, as export.predict takes it; the columns beside it are missing.
    if not known and any(not texts or text.count("\t") >= len(names) - 1 for text in options.text):
        raise RequestFailed(
            f"the model takes {inputs}, in an order that its server does not tell: give --schema, the "
            "request.schema.json of its export, or --input, a file with columns of these names."
        )
    if options.text_column and not texts:
        raise RequestFailed(
            f"the model takes {inputs}, of which its server does not tell the texts: give --schema, the "
            "request.schema.json of its export, or a file with columns of these names, without --text-column."
        )
    return Texts(options, names, beside=client.columns)


def _line(row: Row, outputs: dict) -> str:
    """One line a text, whatever text and answer hold."""
    texts = " | ".join(printable(text) for text in row.texts or map(as_text, row.cells))
    if REASON in outputs:
        return f"- ({outputs[REASON]})\t{texts}"
    if {"label", "score"} <= outputs.keys():
        return f"{line_of({name: outputs[name] for name in ('label', 'score')})}\t{texts}"
    return f"{escaped(json.dumps(outputs, ensure_ascii=False))}\t{texts}"


def _json(value, share: bool):
    if isinstance(value, np.ndarray):
        return [_json(part, share) for part in value]
    if isinstance(value, np.floating):
        return rounded(float(value), share)
    return value.item() if isinstance(value, np.generic) else value


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
