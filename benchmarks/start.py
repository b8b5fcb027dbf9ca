"""Where the processor's time goes from the command to the first update.

    python benchmarks/start.py -- --config trec --data.train train.csv --data.test test.csv --data.label_column label

What follows -- is what pipeline.run takes. Each turn is a process of its own, in a fresh folder, that ends after the
first update.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from typing import Any

from machine import load
from turns import spread

from pipeline.cores import cores

# What is waited for, and the function at whose end, or "<" at whose beginning, it is there.
ENDS = {
    "rows": (">", "pipeline.run", "read_rows"),
    "backbone": (">", "pipeline.assemble", "load_backbone"),
    "model": (">", "pipeline.assemble", "assemble"),
    "first checkpoint": ("<", "pipeline.training.fit", "_train_epoch"),
    "first update": ("<", "pipeline.training.watch", "Watch.on_train_batch_end"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("run", nargs="*", help="what pipeline.run takes")
    options = parser.parse_args()
    if options.one:
        _one(options.run)
        return
    turns = []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--one", "--", *options.run, "--run_dir", folder]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()
        lines = [line.split("\t") for line in said.splitlines() if line.startswith("REACHED\t")]
        turns.append({name: float(seconds) for _, name, seconds in lines})
    before = [0.0] * len(turns)
    for name in turns[0]:
        reached = [turn[name] for turn in turns]
        own = spread([now - then for now, then in zip(reached, before, strict=True)])
        print(f"{name:20} {own.show('.2f')} s, reached after {spread(reached).show('.2f')} s")
        before = reached
    print(f"{cores()} cores, load average {load()}")


def _one(arguments: list[str]) -> None:
    from pipeline.command_line import parse
    from pipeline.lean_keras import lean_keras

    config = parse(arguments)
    _reached("settings")
    lean_keras()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import_module("tensorflow")
    _reached("TensorFlow")
    for name in ("assemble", "evaluation.report", "methods.cross_validation", "pretraining.stage", "publish"):
        import_module(f"pipeline.{name}")
    _reached("other imports")
    for name, (when, module, path) in ENDS.items():
        _watch(name, when, module, path)
    from pipeline.run import train

    train(config)


def _watch(name: str, when: str, module: str, path: str) -> None:
    owner: Any = import_module(module)
    *owners, attribute = path.split(".")
    for part in owners:
        owner = getattr(owner, part)
    function = getattr(owner, attribute)

    def watched(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named) if when == ">" else None
        _reached(name)
        if name == "first update":
            os._exit(0)
        return result if when == ">" else function(*arguments, **named)

    setattr(owner, attribute, watched)


def _reached(name: str) -> None:
    print(f"REACHED\t{name}\t{time.process_time()}", flush=True)


if __name__ == "__main__":
    main()
