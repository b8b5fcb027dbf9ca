"""How much a training tells at least, from whether an attacker knows which canaries it has seen.

Steinke, Nasr and Jagielski, 2023 (arXiv:2305.08846): of m canaries each is among the training rows with probability
1/2, by itself. An attacker who sees the outcome names some that were and some that were not. Of r guesses about an
(epsilon, delta)-differentially private training no more are right than a binomial number with the probability
e^epsilon / (1 + e^epsilon), but for delta; more than that would be a bound from below that contradicts the claim.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

CONFIDENCE = 0.95
# Of all canaries, those about which something is guessed, the surest first; all are tried, and the risk divided.
SHARES = (1.0, 0.5, 0.25, 0.125)
MOST_EPSILON = 50.0


@dataclass(frozen=True)
class LowerBound:
    """What was found.

    Attributes:
        epsilon: with CONFIDENCE the training is not (epsilon', delta)-differentially private for any smaller one.
        canaries, guesses, right: how many there were; about how many something was guessed; and rightly.
    """

    epsilon: float
    canaries: int
    guesses: int
    right: int


def lower_bound(scores: np.ndarray, included: np.ndarray, delta: float) -> LowerBound:
    """The largest bound of several numbers of guesses.

    Args:
        scores: float [m], the larger the likelier a canary was seen.
        included: bool [m], whether it was.
        delta: of the claim.
    """
    order = np.argsort(-scores, kind="stable")
    found = []
    for share in SHARES:
        half = int(len(scores) * share / 2)
        right = int(included[order[:half]].sum() + (~included[order[len(order) - half :]]).sum())
        epsilon = _least_epsilon(len(scores), 2 * half, right, delta)
        found.append(LowerBound(epsilon, len(scores), 2 * half, right))
    return max(found, key=lambda bound: bound.epsilon)


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The largest probability of so many right guesses, or more, under (epsilon, delta)-differential privacy
    (theorem 3.1 of the paper, in the form of its appendix D)."""
    chance = 1 / (1 + np.exp(-epsilon))
    at_least = float(binom.sf(right - 1, guesses, chance))
    below = np.cumsum(binom.pmf(right - np.arange(1, right + 1), guesses, chance))
    worst = float((below / np.arange(1, right + 1)).max(initial=0))
    return min(at_least + 2 * canaries * delta * worst, 1.0)


def _least_epsilon(canaries: int, guesses: int, right: int, delta: float) -> float:
    """The smallest epsilon, to 1e-3, that so many right guesses do not contradict."""
    risk = (1 - CONFIDENCE) / len(SHARES)
    low, high = 0.0, MOST_EPSILON
    if p_value(canaries, guesses, right, low, delta) >= risk:
        return 0.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        contradicted = p_value(canaries, guesses, right, middle, delta) < risk
        low, high = (middle, high) if contradicted else (low, middle)
    return low
