"""What pre-training is worth: test scores of fine-tuning with and without it, everything else equal, several seeds.

    python benchmarks/pretraining_gain.py from_scratch
    python benchmarks/pretraining_gain.py imdb_from_scratch --corpus.train unsup.txt --data.train train.csv ...

Pre-trains once as the recipe says, then fine-tunes from its checkpoint and from fresh weights of the same sizes and
vocabulary, with the same rows, epochs and seeds. Further arguments go to pipeline.run.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", help="a recipe with a corpus")
    parser.add_argument("--folder", type=Path, default=Path("runs/pretraining_gain"), help="for all runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options, settings = parser.parse_known_args()
    first = options.folder / "pretraining"
    run(options.config, first, "--stage", "pretrain", *settings)
    history = json.loads((first / "pretraining.json").read_text())
    scores: dict[str, list[float]] = {"without": [], "with": []}
    for seed in options.seeds:
        for name, found in scores.items():
            weights = {
                "without": ["--text.vocabulary", str(first / "vocab.txt")],
                "with": ["--model.backbone", str(first / "pretrained"), "--model.num_layers", "null"],
            }[name]
            run_dir = options.folder / f"{name}-{seed}"
            more = ["--stage", "finetune", "--corpus.train", "null", "--export.enabled", "false", *weights]
            run(options.config, run_dir, *settings, *more, "--training.seed", str(seed))
            found.append(json.loads((run_dir / "metrics.json").read_text())["test"]["accuracy"])
            print(f"{name} pre-training, seed {seed}: test accuracy {found[-1]:.1%}", flush=True)
    print(f"\npre-training: {history['examples']} sequences in {history['seconds'] / 60:.1f} minutes")
    print(f"unigram entropy {history['unigram_entropy']:.3f} nats; held-out loss of masked tokens after")
    for row in history["history"]:
        print(f"  {row['updates']:6} updates  {row.get('validation_masked_loss', float('nan')):.3f}")
    for name, found in scores.items():
        print(f"{name:8} mean {statistics.mean(found):.1%}, from {min(found):.1%} to {max(found):.1%}")
    print(f"gain: {100 * (statistics.mean(scores['with']) - statistics.mean(scores['without'])):.1f} points")


def run(config: str, run_dir: Path, *arguments: str) -> None:
    """pipeline.run in a process of its own; its output goes beside the run."""
    log = run_dir.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pipeline.run", "--config", config, "--run_dir", str(run_dir.resolve())]
    with open(log, "w") as file:
        code = subprocess.run([*command, *arguments], stdout=file, stderr=subprocess.STDOUT, cwd=ROOT).returncode
    if code:
        raise SystemExit(f"{log} tells what went wrong:\n{log.read_text()[-2000:]}")


if __name__ == "__main__":
    main()
