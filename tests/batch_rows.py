"""What the tests of export.batch and of its engines share: inputs, the command, its answers and those of predict."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from export.predict import main as predict
from pipeline.data.formats import ReadOptions, open_table

WORDS = [
    "the team",
    "bank",
    "a rocket in orbit",
    "goal , goal .",
    "café 漢字",
    "stock price",
    "two new comets",
    "league",
]


def records(count: int) -> list[dict]:
    """Rows with numbers, and texts of which some are missing, empty, or odd."""
    made = random.Random(5)
    rows = []
    for number in range(count):
        text = " ".join(made.choices(WORDS, k=made.randint(1, 4)))
        odd = {3: None, 5: "", 7: " \t", 11: "nul\0", 13: "line\nbreak", 17: 'quote " and , comma'}
        rows.append(
            {"id": number, "text": next((odd[k] for k in odd if number % (k + 20) == k), text), "x": number / 7}
        )
    return rows


def write_parquet(path: Path, rows: list[dict], row_group_size: int) -> Path:
    """With a column of int32, and one that is empty but for the last row."""
    last = [None] * (len(rows) - 1) + [1.5]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    table = pa.table({**columns, "id": pa.array(columns["id"], pa.int32()), "last": last})
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    """One of the rows is a bad one."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(paths) -> list[list]:
    """Columns, then the rows of files of answers, one behind the other."""
    found: list[list] = []
    for path in paths:
        table = open_table(str(path), ReadOptions())
        found += [cells for _, cells in table] if found else [table.columns, *(cells for _, cells in table)]
    return found


def answers(folder: Path, form: str) -> list[list]:
    """All rows that a batch has answered, in order."""
    return rows_of(sorted(path for path in folder.rglob(f"*.{form}") if not path.name.startswith(".")))


def predicted(model: Path, source: Path, output: Path, *arguments: str) -> list[list]:
    """The same by export.predict."""
    assert predict([str(model), "--input", str(source), "--output", str(output), *arguments]) == 0
    return rows_of([output])


def assert_alike(found: list[list], expected: list[list]) -> None:
    """Equal cell for cell; scores to the last of the digits that are written.

    Texts that share a forward pass may change the last bit.
    """
    assert len(found) == len(expected) and found[0] == expected[0]
    score = found[0].index("score")
    for row, wanted in zip(found[1:], expected[1:], strict=True):
        assert row[:score] + row[score + 1 :] == wanted[:score] + wanted[score + 1 :]
        assert row[score] == wanted[score] or abs(float(row[score]) - float(wanted[score])) < 1.5e-6


def started(model: Path, *arguments) -> subprocess.Popen:
    """The command, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-m", "export.batch", str(model), *map(str, arguments)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def kill_writer(folder: Path, after: int, patience: float = 120) -> int:
    """kill -9 of a process that is writing a part, once `after` parts are there; its number."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if len([path for path in folder.glob("*-*.*") if not path.name.startswith(".")]) >= after:
            for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
                try:
                    name = os.readlink(descriptor)
                except OSError:
                    continue
                if name.startswith(str(folder)) and name.endswith(".partial"):
                    process = int(descriptor.parts[2])
                    os.kill(process, signal.SIGKILL)
                    return process
        time.sleep(0.01)
    raise AssertionError(f"nobody writes to {folder}")
