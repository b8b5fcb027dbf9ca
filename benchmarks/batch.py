"""Rows a second, and a second of processor time, of export.batch on its engines, beside export.predict.

    python benchmarks/batch.py RUN_OR_MODEL --texts train.csv --rows 20000
    python benchmarks/batch.py RUN_OR_MODEL --texts train.csv --beam /path/to/another/environment/bin/python

Each contender is a process that reads the same parquet file of texts and exits: starting and loading count, as they do
for a user. They take turns; whether the answers are equal is printed too.
"""

import argparse
import itertools
import sys
import tempfile
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from commands import measured
from tables import Comparison, Report, add_arguments, machine_before, publish
from turns import take_turns

from pipeline.cores import cores
from pipeline.data.formats import ReadOptions, open_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="run directory, directory of versions, or one version")
    parser.add_argument("--texts", required=True, help="a file with a column text; repeated where it is too short")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--part_rows", type=int, default=4096)
    parser.add_argument("--workers", type=int, nargs="+", default=[cores()], help="of the local engine")
    parser.add_argument("--beam", help="Python of an environment that has Apache Beam (default: not measured)")
    add_arguments(parser, repeats=3)
    options = parser.parse_args()
    texts = [cells[0] for _, cells in open_table(options.texts, ReadOptions(), ["text"]) if not isinstance(cells, str)]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "rows.parquet")
        taken = list(itertools.islice(itertools.cycle(texts), options.rows))
        pq.write_table(pa.table({"id": range(len(taken)), "text": taken}), source, row_group_size=options.part_rows)
        machine = machine_before()

        def ask(name: str, turn: int) -> tuple[float, float]:
            output = Path(folder, str(turn))
            output.mkdir(exist_ok=True)
            cost = measured(_commands(options, source, output)[name])
            return cost.clock, cost.processor

        names = list(_commands(options, source, Path(folder)))
        found, failed = take_turns({name: partial(ask, name) for name in names}, options.repeats, options.first_turn)
        for output in sorted(path for path in Path(folder).iterdir() if (path / "predict.parquet").exists()):
            _compare(output)
    comparisons = [
        Comparison(
            f"Many rows, seconds of {what}", "s",
            {name: [both and both[place] for both in rows] for name, rows in found.items()}, more_is_better=False,
            columns={"rows/s": dict.fromkeys(found, float(options.rows))},
        )
        for place, what in enumerate(("the clock", "the processor"))
    ]  # fmt: skip
    publish(Report(comparisons, failed=failed, notes=[f"{options.rows} rows."], machine=machine), options)


def _commands(options: argparse.Namespace, source: Path, output: Path) -> dict[str, list[str]]:
    def batch(python: str, name: str, *more: str) -> list[str]:
        return [python, "-m", "export.batch", options.model, "--input", str(source), "--output", str(output / name),
                "--part_rows", str(options.part_rows), *more]  # fmt: skip

    commands = {"export.predict": [sys.executable, "-m", "export.predict", options.model, "--input", str(source),
                                   "--output", str(output / "predict.parquet")]}  # fmt: skip
    for workers in options.workers:
        commands[f"local, {workers} workers"] = batch(sys.executable, f"local{workers}", "--workers", str(workers))
    if options.beam:
        commands["beam, direct runner"] = batch(options.beam, "beam", "--engine", "beam", "--", "--runner=DirectRunner")
    return commands


def _compare(output: Path) -> None:
    expected = pq.read_table(output / "predict.parquet").to_pylist()
    for folder in sorted(path for path in output.iterdir() if path.is_dir()):
        found = [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
        if [row["id"] for row in found] != [row["id"] for row in expected]:
            print(f"{folder.name}: other rows than export.predict's")
            continue
        equal = sum(one == other for one, other in zip(found, expected, strict=True))
        labels = sum(one["label"] == other["label"] for one, other in zip(found, expected, strict=True))
        print(f"{folder.name}: {equal} of {len(expected)} rows equal export.predict's, {labels} labels")


if __name__ == "__main__":
    main()
