"""What a run costs by its size: seconds and peak memory of each stage, by rows, length, classes and vocabulary.

    python benchmarks/cost.py --output cost
    python benchmarks/cost.py --output cost --axes classes

The model is tiny, so that the time is that of everything around its matrix products. Each point is a run of
pipeline.train in a process of its own, on made texts, with the stages timed; then export.predict's answers of the test
rows. A point is like the base but for one size. Writes cost.json and cost.svg, and prints a table: seconds of processor
time a stage, and by how many MB it raised the peak of memory over what was held when it began.

An exponent, of the last two points of an axis, is what the seconds grow with: 1 is in proportion.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import load

BASE = {"rows": 10_000, "length": 32, "classes": 10, "vocabulary": 8_000}
AXES = {
    "rows": [1_000, 10_000, 100_000, 1_000_000],
    "length": [16, 64, 512],
    "classes": [2, 100, 1_000, 10_000],
    "vocabulary": [8_000, 64_000, 250_000],
}
# More rows are read and split, and no more.
MOST_TRAINED = 100_000
# So that labels have rows, and rows enough are scored.
ROWS_OF_CLASSES = 20_000
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
STAGES = {
    "read": ("pipeline.run", "read_rows"),
    "model": ("pipeline.assemble", "assemble"),
    "train": ("pipeline.assemble", "Assembly.fit"),
    "serve": ("pipeline.publish", "serve"),
    "baseline": ("pipeline.evaluation.evaluate", "baselines"),
    "evaluate": ("pipeline.evaluation.evaluate", "evaluate"),
    "report": ("pipeline.evaluation.results", "write_results"),
    "export": ("pipeline.publish", "export"),
}
SHOWN = (*STAGES, "predict")


class _Enough(Exception):
    """The stages that were wanted are done."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("cost"), help="names cost.json and cost.svg")
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--most", type=int, help="leave out points of an axis above this size")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        _measure(json.loads(options.point))
        return
    found: dict[str, dict[int, dict]] = {}
    for axis in options.axes:
        for size in AXES[axis]:
            if options.most and size > options.most:
                continue
            found.setdefault(axis, {})[size] = _measured(axis, size)
            _print_point(axis, size, found[axis][size])
        _print_exponents(found[axis])
        options.output.with_suffix(".json").write_text(json.dumps(found, indent=1))
    options.output.with_suffix(".svg").write_text(_picture(found))
    print(f"load average {load()}")


def _measured(axis: str, size: int) -> dict[str, list[float]]:
    """Seconds and MB of each stage of a point, by a process of its own."""
    point = BASE | {axis: size}
    if axis == "classes":
        point["rows"] = ROWS_OF_CLASSES
    done = subprocess.run([sys.executable, __file__, "--point", json.dumps(point)], capture_output=True)
    lines = [line for line in done.stdout.decode().splitlines() if line.startswith("STAGE ")]
    if done.returncode:
        print(f"{axis} {size}: ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return {name: [float(seconds), float(memory)] for _, name, seconds, memory in map(str.split, lines)}


def _measure(point: dict[str, int]) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with tempfile.TemporaryDirectory() as folder:
        config = _config(point, Path(folder))
        _instrument(point["rows"] > MOST_TRAINED)
        from pipeline.run import train

        try:
            run = train(config)
        except _Enough:
            return
        _timed("predict", lambda: _predict(str(run.saved_model), config.data.test))()


def _config(point: dict[str, int], folder: Path) -> Any:
    """Made rows, a vocabulary and the config of a tiny model for them."""
    from pipeline.command_line import read_config

    words = [f"w{number:x}" for number in range(point["vocabulary"] - len(SPECIAL))]
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join([*SPECIAL, *words]) + "\n")
    draw = random.Random(0)
    for name, rows in (("train", point["rows"]), ("test", max(1000, point["rows"] // 10))):
        with open(folder / f"{name}.csv", "w", encoding="utf-8") as file:
            file.write("text,label\n")
            for row in range(rows):
                label = row % point["classes"]
                text = " ".join([words[label % len(words)], *draw.choices(words, k=point["length"] - 3)])
                file.write(f"{text},label {label}\n")
    config = read_config("own_csv")
    config.data.train, config.data.test = str(folder / "train.csv"), str(folder / "test.csv")
    config.text.vocabulary, config.text.sequence_length = str(vocabulary), point["length"]
    model, training, export = config.model, config.training, config.export
    model.backbone, model.pooling, model.max_sequence_length = None, "mean", point["length"]
    model.num_layers, model.num_heads, model.hidden_dim, model.intermediate_dim = 1, 1, 8, 8
    training.method = "fine_tune"
    training.epochs, training.batch_size, training.dtype, training.learning_rate = 1, 128, "float32", 0.01
    export.signatures, export.warmup_batch_sizes = [], []
    config.run_dir = str(folder / "run")
    return config


def _instrument(data_alone: bool) -> None:
    """Have each stage timed where the road calls it."""
    from importlib import import_module

    for name, (module, path) in STAGES.items():
        *owners, attribute = path.split(".")
        owner = import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        setattr(owner, attribute, _timed(name, getattr(owner, attribute), last=data_alone and name == "read"))


def _timed(name: str, function: Callable, last: bool = False) -> Callable:
    def timed(*arguments, **named):
        Path("/proc/self/clear_refs").write_text("5")
        held, begin = _memory("VmRSS"), time.process_time()
        result = function(*arguments, **named)
        seconds = time.process_time() - begin
        print(f"STAGE {name} {seconds:.3f} {_memory('VmHWM') - held:.1f}", flush=True)
        if last:
            raise _Enough
        return result

    return timed


def _memory(kind: str) -> float:
    """MB of this process; the highest since it was cleared, or now."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(kind))) / 1024


def _predict(model: str, source: str) -> None:
    from export import predict

    predict.main([model, "--input", source, "--output", str(Path(source).with_name("answers.csv"))])


def _print_point(axis: str, size: int, stages: dict[str, list[float]]) -> None:
    cells = [f"{name} {seconds:.2f} s {memory:+.0f} MB" for name, (seconds, memory) in stages.items()]
    print(f"{axis} {size:>9,} | {' | '.join(cells)}", flush=True)


def _print_exponents(points: dict[int, dict]) -> None:
    cells = []
    for name in SHOWN:
        known = [(size, stages[name][0]) for size, stages in points.items() if name in stages]
        if len(known) > 1 and known[-1][1] > 1:
            (small, before), (large, after) = known[-2:]
            cells.append(f"{name} {math.log(after / max(before, 1e-3)) / math.log(large / small):.2f}")
    print(f"{'exponent':>15} | {' | '.join(cells)}", flush=True)


def _picture(found: dict[str, dict[int, dict]]) -> str:
    """A panel an axis, both scales logarithmic: sizes to the right, seconds up, a line a stage."""
    width, height, edge = 320, 260, 45
    colours = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999933", "#332288", "#000000"]
    parts = []
    for panel, (axis, points) in enumerate(found.items()):
        left, sizes = panel * width, list(points)
        across = math.log(sizes[-1] / sizes[0]) or 1

        def place(size: int, seconds: float, left: int = left, first: int = sizes[0], across: float = across) -> str:
            x = left + edge + (width - 2 * edge) * math.log(size / first) / across
            y = height - edge - (height - 2 * edge) * (math.log10(max(seconds, 0.01)) + 2) / 5
            return f"{x:.1f},{y:.1f}"

        parts.append(f'<text x="{left + width / 2}" y="20" text-anchor="middle">{axis}, s of processor time</text>')
        for power in range(-2, 4):
            x, y = place(sizes[0], 10.0**power).split(",")
            parts.append(f'<path d="M{x} {y}H{left + width - edge}" stroke="#ddd"/>')
            parts.append(f'<text x="{float(x) - 4}" y="{y}" text-anchor="end">{10.0**power:g}</text>')
        for size in sizes:
            x = place(size, 0.01).split(",")[0]
            parts.append(f'<text x="{x}" y="{height - edge + 16}" text-anchor="middle">{size:,}</text>')
        for colour, name in zip(colours, SHOWN, strict=True):
            line = " ".join(place(size, stages[name][0]) for size, stages in points.items() if name in stages)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for number, (colour, name) in enumerate(zip(colours, SHOWN, strict=True)):
        parts.append(f'<text x="{edge + 80 * number}" y="{height - 6}" fill="{colour}">{name}</text>')
    size = f"{width * len(found)} {height}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    main()
