"""Learning a vocabulary: processor time and memory of this project's learner, and of Hugging Face's WordPiece trainer.

    python benchmarks/vocabulary.py --texts texts.txt

Each learner runs in a process of its own, started anew for each turn, in turns; reading the text is a part of it. Times
are of the processor, all threads together, and memory is the most that was resident; medians are shown.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
# What Hugging Face's class of that name does with defaults, but for the size: files, BERT's normaliser, WordPiece.
THEIRS = """
import sys
from tokenizers import BertWordPieceTokenizer
text, output, size = sys.argv[1:]
tokenizer = BertWordPieceTokenizer(lowercase=True)
tokenizer.train([text], vocab_size=int(size), min_frequency=2, show_progress=False)
tokenizer.save_model(output)
"""


def commands(options: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    text, size = str(options.texts), str(options.size)
    ours = [
        "-m",
        "pipeline.vocabulary",
        "learn",
        "--source",
        text,
        "--size",
        size,
        "--output",
        str(folder / "ours.txt"),
    ]
    return {
        "ours": [sys.executable, *ours],
        "tokenizers": [sys.executable, "-c", THEIRS, text, str(folder), size],
    }


def measured(command: list[str]) -> tuple[float, float, float]:
    """Seconds of the processor, seconds of the clock, and MiB of memory that a command takes."""
    started = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed with status {process.returncode}")
    memory = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - started, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", required=True, type=Path, help="a text file, plain")
    parser.add_argument("--size", type=int, default=30_522)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        contenders = commands(options, Path(folder))
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in contenders}
        for _ in range(options.repeats):
            for name, command in contenders.items():
                found[name].append(measured(command))
    print(f"{options.texts.stat().st_size / 1e6:.0f} MB, {options.size} tokens, median of {options.repeats} turns")
    print(f"{'':12} processor s (from, to)    clock s   memory MiB   load {os.getloadavg()[0]:.1f}")
    for name, rows in found.items():
        seconds, clock, memory = map(list, zip(*rows, strict=True))
        spread = f"{median(seconds):.1f} ({min(seconds):.1f}, {max(seconds):.1f})"
        print(f"{name:12} {spread:>22} {median(clock):>10.1f} {median(memory):>12.0f}")


if __name__ == "__main__":
    main()
