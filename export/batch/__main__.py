"""Answer any number of rows with an exported model, on one machine or many.

    python -m export.batch RUN_OR_MODEL --input 'day/*.parquet' --output answers
    python -m export.batch RUN_OR_MODEL --input archive.csv.gz --output answers --workers 8
    python -m export.batch RUN_OR_MODEL --input 'day/*.parquet' --output answers --engine beam -- \\
        --runner FlinkRunner --flink_master host:8081

Files of any format that export.predict reads are read as it reads them, and answered as it answers them. Each is cut
into parts of --part_rows rows. FOLDER/NAME-000000.parquet holds the rows of the first part of NAME, in their order,
answers behind the columns: one row for each row of the input, among them those without text, which have a reason.
Texts of like length share a forward pass, 4,096 rows at a time: where --part_rows is no multiple of that, a score may
differ from export.predict's in the last digit that is written.

A part is written under a hidden name and renamed when it is whole. The same command goes on after any failure: parts
that are there are not answered again. It refuses a folder of another model or of other options, and a file that has
changed since, unless with --redo. What it knows of the input is in FOLDER/_inputs and FOLDER/_job.json.

A parquet file is read where its parts are answered, by row groups. Any other file is read from beginning to end by one
process, which hands out the rows.

Engines; all but the first are extras (pip install 'bert-pipeline[beam]'). Beam holds older versions of protobuf and
pyarrow than the other extras need: give it an environment of its own.
  local  processes of this machine, --workers of them; one that dies is replaced (on GPUs: one command a GPU, each with
         its CUDA_VISIBLE_DEVICES and its share of the files)
  beam   Apache Beam; behind --, the options of its runner. The direct runner is for tests: it holds in memory what is
         no parquet file, and waits for ever for a worker that has died
  ray    Ray; --workers models at a time, one a GPU where there are any; RAY_ADDRESS names a cluster
  spark  Spark; behind --, the options of spark-submit, such as --master local[2,4]: two workers, four tries

--input and --output may be addresses (s3://, gs://, https://; extra remote). Whoever answers a part has a copy of its
file in $BERT_PIPELINE_CACHE, where it stays; answers are made there too, and uploaded when all are complete.

All processes need this package, and see the input, the model and the output (or the cache) under the same paths: those
of a shared file system, or of a mounted bucket. Tried were the engines' own runners on one machine and a double of S3;
no cluster, no real bucket, no GPU.
"""

import argparse
import importlib
import os
import re
import sys
from pathlib import Path

from export.answered import warn
from export.answers import answer_columns, prefix_of
from export.batch.answer import kept_notices
from export.batch.inputs import Source, check_pattern, sources_of, state_of
from export.batch.job import Job, held, open_texts, upload
from export.batch.parts import missing_parts
from export.command_line import command_parser
from export.texts import add_text_arguments, checked_options
from export.versions import ModelError, find_version, read_metadata
from pipeline import remote, tasks
from pipeline.data.formats import FORMATS, ReadOptions, format_by_name, format_of, options_of, suffixes
from pipeline.errors import UserError
from pipeline.extras import require

ENGINES = {"local": None, "beam": "apache_beam", "ray": "ray", "spark": "pyspark"}
# Formats whose cells have any type: a column need not have the same in all parts, as formats with types want it.
UNTYPED = ("jsonl", "tfrecord", "xlsx")
# What is wrong with the input or the model, in the words of an engine that quotes a traceback.
MET = re.compile(r"\b(?:UserError|ModelError|ValueError): (.+?)(?: \[while running .*)?$", re.MULTILINE)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, or 2 after one sentence on what is wrong."""
    arguments = sys.argv[1:] if arguments is None else arguments
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = _parse(arguments[:cut])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        _check(options, arguments[cut + 1 :])
        address = options.output if remote.is_remote(options.output) else None
        options.output = remote.workplace(address) if address else Path(options.output)
        sources = sources_of(options.input, options.output, address)
        job = _job(options, sources)
        with held(job, sources, options.redo):
            there = set(job.folder.rglob(f"*.{options.format}"))
            _run(options, job, sources, arguments[cut + 1 :])
            rows, parts = _complete(job, sources)
            before = len(there.intersection(parts))
            if address:
                upload(job, sources, parts, address)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    warn(kept_notices(job))
    were = f", {before:,} of which were there" if before else ""
    answered = "1 row is answered" if rows == 1 else f"{rows:,} rows are answered"
    files = f"{len(parts):,} part{'s' * (len(parts) != 1)}"
    print(f"{answered} in {files}{were}: {address or job.folder}")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = command_parser("export.batch", __doc__)
    parser.add_argument("model", help="run directory, directory of versions, or one version")
    add_text_arguments(parser, given=False)
    parser.add_argument("--output", required=True, metavar="FOLDER", help="of the answers, or its address")
    parser.add_argument("--format", help="of the answers, such as parquet, jsonl or csv.gz (default: of the input, or "
                        "jsonl)")  # fmt: skip
    parser.add_argument("--engine", choices=ENGINES, default="local", help="what runs it (default: local)")
    parser.add_argument("--workers", type=int, help="processes of local or ray (default: one a core)")
    parser.add_argument("--part_rows", "--part-rows", type=int, default=16384, help="rows a part, which a failure may "
                        "lose (default: 16384)")  # fmt: skip
    parser.add_argument("--top", "--top_k", type=int, default=1, metavar="K", help="give the K most probable labels "
                        "(default: 1)")  # fmt: skip
    parser.add_argument("--batch_size", "--batch-size", type=int, default=32, help="texts a forward pass (default: 32)")
    parser.add_argument("--redo", action="store_true", help="answer files again that have changed")
    return parser.parse_args(arguments)


def _check(options: argparse.Namespace, more: list[str]) -> None:
    if min(options.batch_size, options.top, options.part_rows, options.workers or 1) < 1:
        raise UserError("--batch_size, --top, --part_rows and --workers must be at least 1.")
    if more and options.engine not in ("beam", "spark"):
        raise UserError(f"the engine {options.engine} takes no options behind --.")
    if options.workers and options.engine not in ("local", "ray"):
        raise UserError(f"--workers: how many the engine {options.engine} has is set by its own options, behind --.")
    check_pattern(options.input)
    checked_options(options)
    find_version(options.model)
    if ENGINES[options.engine]:
        require(options.engine, ENGINES[options.engine])


def _job(options: argparse.Namespace, sources: list[Source]) -> Job:
    """What the options mean; options.format is settled."""
    model = find_version(options.model).resolve()
    metadata = read_metadata(model)
    try:
        task = tasks.from_metadata(metadata)
    except (ValueError, KeyError) as error:
        raise ModelError(f"{model} is no classifier of this project's export: {error}") from error
    options.format = _format(options, sources)
    first = open_texts(model, options, sources[0])
    added = tuple(answer_columns(task.answer_names, getattr(task, "names", ()), options.top))
    prefix = prefix_of(first.columns, added)
    if prefix:
        same = next(name for name in added if name in first.columns)
        names = ", ".join(f"{prefix}{name}" for name in added)
        print(f"the input has a column {same!r}: the answers are {names}.", file=sys.stderr)
    return Job(model, options.output.absolute(), options, tuple(first.columns), added, prefix)


def _format(options: argparse.Namespace, sources: list[Source]) -> str:
    """Of the answers: as set, or of the first file where that can be written, else jsonl."""
    read = options_of(options)
    kinds = {source.path: _kind(source, read) for source in sources}
    if options.format is None:
        first = kinds[sources[0].path]
        return first if FORMATS[first].write and first not in UNTYPED else "jsonl"
    name = f"answers.{options.format}"
    kind = format_by_name(name)
    if kind is None or FORMATS[kind].write is None or kind == "xlsx" or suffixes(name)[0] != f".{kind}":
        raise UserError(f"--format {options.format}: it is parquet or arrow, or csv, tsv or jsonl, these also with "
                        ".gz, .xz, .bz2 or .zst behind.")  # fmt: skip
    for path, of_input in kinds.items():
        if kind in ("parquet", "arrow") and of_input in UNTYPED:
            raise UserError(f"{path}: a column of a {of_input} file may have another type in another part, which "
                            f"{kind} cannot hold: --format jsonl or csv.")  # fmt: skip
    return options.format


def _kind(source: Source, read: ReadOptions) -> str:
    # A .txt file is one or the other, by its first line.
    untold = Path(source.path).is_dir() or (read.format is None and suffixes(source.path)[0] == ".txt")
    return "lines" if untold else format_of(source.path, read)


def _run(options: argparse.Namespace, job: Job, sources: list[Source], more: list[str]) -> None:
    """Answer what is missing, on the engine.

    Raises:
        UserError: what a process of the engine met, whatever the engine has wrapped it in.
    """
    engine = importlib.import_module(f"export.batch.{options.engine}")
    try:
        engine.run(job, sources, options.workers if options.engine in ("local", "ray") else more)
    except Exception as error:
        sentence = MET.findall(f"{type(error).__name__}: {error}")
        if not sentence:
            raise
        raise UserError(sentence[-1]) from error


def _complete(job: Job, sources: list[Source]) -> tuple[int, list[Path]]:
    """How many rows the whole input has, and the files of their answers.

    Raises:
        UserError: some are missing.
    """
    rows, parts = 0, []
    for source in sources:
        state = state_of(job.folder, source)
        if state is None or state.parts is None or missing_parts(job, source, state.parts):
            raise UserError(f"{source.path} is not answered to its end: the same command goes on.")
        rows += state.rows or 0
        parts += [job.path(source, number) for number in range(state.parts)]
    if not rows:
        raise UserError("there is no text to answer.")
    return rows, parts


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
