"""On one GPU, in six minutes and without a network: fine-tuning, pre-training and inference beside the peers.

    python benchmarks/gpu.py

Needs `pip install -e .[bench]` and nothing else: weights are random, texts made up (neither decides the time). Runs,
one after the other, the other scripts of this folder as one would by hand, and prints their tables:
- finetune.py, sizes of MiniLM-L6, texts as short as questions; then sizes of BERT-base, texts of 128 tokens;
- pretrain.py, sizes of BERT-base, 128 tokens;
- inference.py, sizes of BERT-base.

What the seconds do not suffice for is said at the end.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from commands import finishes
from made import BERT_BASE, MINILM_L6, make_checkpoint, make_texts

# Of the seconds that are left, by part.
SHARES = {"short": 4, "long": 4, "pretraining": 3, "inference": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=360, help="for all parts together")
    parser.add_argument("--parts", nargs="+", choices=list(SHARES), default=list(SHARES))
    parser.add_argument("--scale", type=float, default=1.0, help="rows and updates, as a share of what a GPU gets")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    left_out = []
    with tempfile.TemporaryDirectory() as temporary:
        commands = prepare(Path(temporary), options.scale)
        for part in options.parts:
            print(f"\n== {part}: {' '.join(commands[part])}".replace(temporary, "."), flush=True)
            later = options.parts[options.parts.index(part) + 1 :]
            share = SHARES[part] / (SHARES[part] + sum(SHARES[name] for name in later))
            if not finishes([sys.executable, *commands[part]], share * max(end - time.monotonic(), 1)):
                left_out.append(part)
    if left_out:
        print(f"\nfailed, or not finished within {options.seconds:.0f} s in all: {', '.join(left_out)}")


def prepare(folder: Path, scale: float) -> dict[str, list[str]]:
    """Checkpoints, texts, and the command of each part."""
    random = np.random.default_rng(0)
    minilm, base = folder / "minilm", folder / "base"
    make_checkpoint(MINILM_L6, minilm, random)
    make_checkpoint(BERT_BASE, base, random)
    rows = {"short": round(12800 * scale), "long": round(6400 * scale)}
    texts = {"short": make_texts(minilm, random, rows["short"]), "long": make_texts(base, random, rows["long"], 126)}
    for name, found in texts.items():
        table = pd.DataFrame({"text": found, "label": random.choice(["a", "b"], len(found))})
        table.to_csv(folder / f"{name}.csv", index=False)
    lines = make_texts(base, random, round(40_000 * scale), 126)
    (folder / "corpus.txt").write_text("\n".join(f"{line}." for line in lines), "utf-8")

    def finetune(name: str, checkpoint: Path, *contenders: str) -> list[str]:
        return [
            "finetune.py", "--data", str(folder / f"{name}.csv"), "--checkpoint", str(checkpoint), "--repeats", "1",
            "--rows", str(rows[name]), "--contenders", *contenders,
        ]  # fmt: skip

    return {
        "short": finetune("short", minilm, "ours-xla", "ours", "trainer-bf16", "trainer-compile", "keras-nlp"),
        "long": finetune("long", base, "ours-xla", "trainer-bf16", "trainer-compile"),
        "pretraining": [
            "pretrain.py", "--texts", str(folder / "corpus.txt"), "--vocabulary", str(base / "vocab.txt"),
            "--layers", "12", "--hidden", "768", "--heads", "12", "--intermediate", "3072", "--batch-size", "256",
            "--learning-rate", "1e-4", "--updates", str(round(50 * scale)), "--repeats", "1",
            "--contenders", "ours-xla", "trainer-bf16",
        ],
        "inference": ["inference.py", "--sizes", "bert-base", "--batch-size", "128", "--count", "2048"],
    }  # fmt: skip


if __name__ == "__main__":
    main()
