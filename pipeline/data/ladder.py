"""The few lengths that batches are padded to where each costs a compilation."""

import numpy as np

# Shapes that matrix units like, and few enough to choose from.
STEP = 8
# Tokens that a ladder may waste, beside padding each batch to the next multiple of STEP.
SLACK = 0.1


def ladder(longest: np.ndarray, limit: int) -> tuple[int, ...]:
    """The fewest lengths to which batches can be padded with at most SLACK more tokens than by multiples of STEP.

    Args:
        longest: int [batches], tokens of the longest row of each.
        limit: of the tokenizer; no length exceeds it.

    Returns:
        Lengths, rising; the last is that of the longest batch.

    Example:
        >>> ladder(np.array([5, 6, 7, 30, 31, 90]), 128)
        (8, 32, 96)
    """
    lengths, counts = np.unique(np.minimum(-(-longest // STEP) * STEP, limit), return_counts=True)
    before = np.concatenate([[0], np.cumsum(counts)])
    # tokens[i, j]: of the batches of lengths i to j, if all are padded to length j.
    tokens = np.where(np.tri(len(lengths)).T > 0, (before[1:] - before[:-1, None]) * lengths, np.inf)
    # least[j]: of the batches of the first j lengths, in as few steps as there were rounds; steps[j]: those steps.
    least, steps = np.array([0, *[np.inf] * len(lengths)]), [()] * (len(lengths) + 1)
    while least[-1] > (1 + SLACK) * (lengths * counts).sum():
        sums = least[:-1, None] + tokens
        steps = [(), *((*steps[i], int(length)) for i, length in zip(sums.argmin(axis=0), lengths, strict=True))]
        least = np.concatenate([[0], sums.min(axis=0)])
    return steps[-1]
