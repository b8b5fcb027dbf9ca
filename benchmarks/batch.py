"""Rows a second, and a second of processor time, of export.batch on its engines, beside export.predict.

    python benchmarks/batch.py RUN_OR_MODEL --texts train.csv --rows 20000
    python benchmarks/batch.py RUN_OR_MODEL --texts train.csv --beam /path/to/another/environment/bin/python

Each contender is a process that reads the same parquet file of texts and exits: starting and loading count, as they do
for a user. They take turns; medians are printed, and whether the answers are equal.
"""

import argparse
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.formats import ReadOptions, open_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="run directory, directory of versions, or one version")
    parser.add_argument("--texts", required=True, help="a file with a column text; repeated where it is too short")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--part_rows", type=int, default=4096)
    parser.add_argument("--workers", type=int, nargs="+", default=[os.cpu_count() or 1], help="of the local engine")
    parser.add_argument("--beam", help="Python of an environment that has Apache Beam (default: not measured)")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    texts = [cells[0] for _, cells in open_table(options.texts, ReadOptions(), ["text"]) if not isinstance(cells, str)]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "rows.parquet")
        taken = list(itertools.islice(itertools.cycle(texts), options.rows))
        pq.write_table(pa.table({"id": range(len(taken)), "text": taken}), source, row_group_size=options.part_rows)
        found = {name: [] for name in _commands(options, source, Path(folder))}
        for turn in range(options.repeats):
            output = Path(folder, str(turn))
            output.mkdir()
            for name, command in _commands(options, source, output).items():
                found[name].append(_measured(command))
            _compare(output)
        _report(found, options.rows)


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


def _measured(command: list[str]) -> tuple[float, float]:
    """Seconds that a command takes, and seconds of processor time of it and of its processes."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _compare(output: Path) -> None:
    expected = pq.read_table(output / "predict.parquet").to_pylist()
    for folder in sorted(path for path in output.iterdir() if path.is_dir()):
        found = [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
        if [row["id"] for row in found] != [row["id"] for row in expected]:
            raise SystemExit(f"{folder.name}: other rows than export.predict's")
        equal = sum(one == other for one, other in zip(found, expected, strict=True))
        labels = sum(one["label"] == other["label"] for one, other in zip(found, expected, strict=True))
        print(f"{folder.name}: {equal} of {len(expected)} rows equal export.predict's, {labels} labels")


def _report(found: dict[str, list[tuple[float, float]]], rows: int) -> None:
    print(f"{rows} rows; load average {os.getloadavg()[0]:.1f}")
    base: dict[int, float] = {}
    for name, measured in found.items():
        walls, processors = zip(*measured, strict=True)
        line = f"{name:22}"
        for column, (what, seconds) in enumerate((("wall", walls), ("processor", processors))):
            median = statistics.median(seconds)
            base.setdefault(column, median)
            spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
            line += f" | {what} {median:6.1f} s ({spread}), {rows / median:6.0f} rows/s, {base[column] / median:.2f} x"
        print(line)


if __name__ == "__main__":
    main()
