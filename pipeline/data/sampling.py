"""How often an epoch draws the rows of each language: count^(1/T), as in multilingual BERT and XLM-R."""

import numpy as np


def quotas(counts: np.ndarray, temperature: float) -> np.ndarray:
    """int64 [L], rows of each language in an epoch as long as all rows together.

    Args:
        counts: int [L], rows of each language.
        temperature: 1 leaves the counts as they are; the larger, the more alike the quotas.
    """
    shares = np.where(counts > 0, np.power(counts.astype(np.float64), 1 / temperature), 0.0)
    exact = shares / shares.sum() * counts.sum()
    found = np.floor(exact).astype(np.int64)
    # The largest remainders get what is left, the first of equals first.
    rest = int(counts.sum() - found.sum())
    found[np.argsort(-(exact - found), kind="stable")[:rest]] += 1
    return found


def draw(languages: np.ndarray, quotas: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """int64 [sum of quotas], rows in random order: of each language its quota.

    No row comes once more before each row of its language has come as often.

    Args:
        languages: int [n], the language of each row.
        quotas: int [L].
        chance: decides which rows, and their order.
    """
    chosen = []
    for language in np.flatnonzero(quotas):
        rows, quota = np.flatnonzero(languages == language), int(quotas[language])
        chosen.append(np.resize(chance.permutation(rows), quota))
    return chance.permutation(np.concatenate(chosen))
