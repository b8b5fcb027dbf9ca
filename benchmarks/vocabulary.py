"""Learning a vocabulary: processor time and memory of this project's learner, and of Hugging Face's WordPiece trainer.

    python benchmarks/vocabulary.py --texts texts.txt

Each learner runs in a process of its own, started anew for each turn, in turns; reading the text is a part of it. Times
are of the processor, all threads together, and memory is the most that was resident.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

from commands import measured
from tables import Comparison, Report, add_arguments, machine_before, publish
from turns import take_turns

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
    ours = ["-m", "pipeline.vocabulary", "learn", "--source", text, "--size", size, "--output", f"{folder}/ours.txt"]
    return {
        "ours": [sys.executable, *ours],
        "tokenizers": [sys.executable, "-c", THEIRS, text, str(folder), size],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", required=True, type=Path, help="a text file, plain")
    parser.add_argument("--size", type=int, default=30_522)
    add_arguments(parser, repeats=3)
    options = parser.parse_args()
    machine = machine_before()
    with tempfile.TemporaryDirectory() as folder:
        contenders = {
            name: lambda _, command=command: measured(command)
            for name, command in commands(options, Path(folder)).items()
        }
        found, failed = take_turns(contenders, options.repeats, options.first_turn)
    costs = {name: [cost for cost in rows if cost] for name, rows in found.items() if any(rows)}
    comparison = Comparison(
        "Vocabulary", "s of the processor",
        {name: [cost and cost.processor for cost in rows] for name, rows in found.items()}, more_is_better=False,
        facts={
            "s of the clock": {name: f"{median(cost.clock for cost in rows):.1f}" for name, rows in costs.items()},
            "MiB": {name: f"{median(cost.memory for cost in rows):.0f}" for name, rows in costs.items()},
        },
    )  # fmt: skip
    notes = [f"{options.texts.stat().st_size / 1e6:.1f} MB of text, {options.size} tokens."]
    publish(Report([comparison], failed=failed, notes=notes, machine=machine), options)


if __name__ == "__main__":
    main()
