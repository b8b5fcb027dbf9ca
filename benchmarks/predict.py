"""What export.predict makes of a model's own throughput, and its memory by the size of a file.

    python benchmarks/predict.py share RUN_OR_MODEL --texts train.csv --rows 16384
    python benchmarks/predict.py memory RUN_OR_MODEL --megabytes 10 100

share: the signature is called in a loop over batches that are in memory, sorted by length as predict sorts them, by as
many threads as predict has, and by one. In turns with these, predict's rows go from a csv to a csv. All of it in one
process, with the model loaded and warm: starting does not count.

memory: export.predict in a process of its own over a csv of made texts of 200 words, to a csv.
"""

import argparse
import csv
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from machine import load
from turns import ratios, spread, take_turns

from pipeline.cores import cores
from pipeline.frozen_weights import assume_frozen

BATCH_SIZE = 32
WORDS_A_TEXT = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    share = commands.add_parser("share")
    share.add_argument("--texts", required=True, help="a csv with a column text; repeated where it is too short")
    share.add_argument("--rows", type=int, default=16_384)
    share.add_argument("--repeats", type=int, default=3)
    share.set_defaults(run=_share)
    memory = commands.add_parser("memory")
    memory.add_argument("--megabytes", type=int, nargs="+", default=[10, 100])
    memory.set_defaults(run=_memory)
    for command in (share, memory):
        command.add_argument("model", help="run directory, directory of versions, or one version")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.run(options, Path(folder))
    print(f"{cores()} cores, load average {load()}")


def _share(options: argparse.Namespace, folder: Path) -> None:
    assume_frozen()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from export.loading import Classifier

    with open(options.texts, encoding="utf-8", newline="") as file:
        known = [row["text"] for row in csv.DictReader(file)]
    source = folder / "rows.csv"
    with open(source, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [["text"], *([text] for text in itertools.islice(itertools.cycle(known), options.rows))]
        )
    contenders = _contenders(Classifier(options.model), source)
    next(iter(contenders.values()))()
    found, _ = take_turns({name: partial(_timed, run) for name, run in contenders.items()}, options.repeats)
    _report(found, options.rows)


def _contenders(model: Any, source: Path) -> dict[str, Callable[[], Any]]:
    """What is timed, by name; the first is what the others are compared with."""
    from export.answered import WINDOW, Asking, Input, answered, store
    from export.at_once import calls_at_once, threads_for_calls
    from export.cells import fed
    from export.texts import Texts, add_text_arguments

    parser = argparse.ArgumentParser()
    add_text_arguments(parser)
    given = parser.parse_args(["--input", str(source), "--text_column", "text"])
    signature, name = model._serve, model.inputs[0]
    rows, batches = iter(Texts(given, model.inputs)), []
    while window := [row.texts[0].encode() for row in itertools.islice(rows, WINDOW) if row.texts]:
        window.sort(key=len)
        for start in range(0, len(window), BATCH_SIZE):
            columns = {name: window[start : start + BATCH_SIZE]}
            batches.append(fed(columns, signature.structured_input_signature[1]))

    def call(batch: dict) -> None:
        for values in signature(**batch).values():
            values.numpy()

    def at_once() -> None:
        with threads_for_calls(BATCH_SIZE) as threads:
            list(threads.map(call, batches))

    def predicted() -> None:
        texts = Texts(given, model.inputs)
        with open(source.parent / "answers.csv", "wb") as file:
            windows = answered(model, texts, Asking(BATCH_SIZE))
            for _ in store(windows, Input(texts.columns, texts.types), "csv", file, lambda columns, added: ""):
                pass

    return {
        f"the signature, {calls_at_once(BATCH_SIZE)} calls at once": at_once,
        "the signature, one call at a time": lambda: [call(batch) for batch in batches],
        "predict": predicted,
    }


def _timed(run: Callable[[], Any], turn: int) -> tuple[float, float]:
    """Seconds, and seconds of processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def _report(found: dict[str, list[Any]], rows: int) -> None:
    base = next(iter(found.values()))
    for name, measured in found.items():
        line = f"{name:35}"
        for place, what in enumerate(("wall", "processor")):
            speed = spread([rows / both[place] for both in measured])
            share = spread(ratios([both[place] for both in base], [both[place] for both in measured]))
            line += f" | {what} {speed.show('.0f')} rows/s, share {share.show('.2f')}"
        print(line)


def _memory(options: argparse.Namespace, folder: Path) -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(20_000)]
    for megabytes in options.megabytes:
        source = folder / "rows.csv"
        with open(source, "w", encoding="utf-8") as file:
            file.write("id,text\n")
            for number in itertools.count():
                if file.tell() >= megabytes * 1e6:
                    break
                file.write(f"{number},{' '.join(draw.choices(words, k=WORDS_A_TEXT))}\n")
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "export.predict", options.model, "--input", source, "--text_column", "text",
             "--output", folder / "answers.csv"], stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"export.predict ended with {status}")
        seconds = time.perf_counter() - begin
        print(f"{megabytes} MB, {number} rows: peak {used.ru_maxrss / 1024:.0f} MiB, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
