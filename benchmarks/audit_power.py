"""What an audit with canaries could find at most, where a training has less noise than it claims.

python benchmarks/audit_power.py --rows 3000 --batch 512 --updates 59

Simulated: the attacker sees, of each canary, the noisy sum of its gradients over all updates, each of the clip norm and
in a direction of its own, but not in which batches it was. Who sees only the model's answers finds less.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.privacy.accounting import noise_for
from pipeline.privacy.one_run import lower_bound


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--updates", type=int, default=59)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[8, 3, 1])
    parser.add_argument("--shares", type=float, nargs="+", default=[1, 0.5, 0.1], help="of the noise that is claimed")
    parser.add_argument("--canaries", type=int, nargs="+", default=[150, 500, 2000])
    parser.add_argument("--turns", type=int, default=20)
    options = parser.parse_args()
    rate, delta = options.batch / options.rows, 1 / (2 * options.rows)
    print("| claimed | noise | " + " | ".join(f"{count} canaries" for count in options.canaries) + " |")
    for epsilon in options.epsilons:
        noise = noise_for(epsilon, rate, options.updates, delta)
        for share in options.shares:
            chance, cells = np.random.default_rng(0), []
            for count in options.canaries:
                bounds = []
                for _ in range(options.turns):
                    included = chance.random(count) < 0.5
                    seen = chance.binomial(options.updates, rate, count) * included
                    seen = seen + chance.normal(0, noise * share * math.sqrt(options.updates), count)
                    bounds.append(lower_bound(seen, included, delta).epsilon)
                cells.append(f"{np.median(bounds):.2f}")
            print(f"| {epsilon:g} | {noise:.3f} x {share:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
