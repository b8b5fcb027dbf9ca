"""Scores by the length of texts: what is not read of long ones, or read worse, shows there."""

import itertools
from typing import Any

import numpy as np

from pipeline.evaluation.groups import scores_of_groups
from pipeline.tasks.task import Task

# Tokens at which one band ends, and the rows that a band has at least.
EDGES = (64, 128, 256, 512, 1024, 4096)
LEAST_ROWS = 30
NAME = "tokens of the text"


def scores_by_length(task: Task, values: np.ndarray, predictions: np.ndarray, lengths: np.ndarray) -> dict[str, Any]:
    """What a few bands of lengths score, as `scores_by_group` gives it, by NAME; {} where there would be one band.

    Args:
        task: with all that decides its answers.
        values, predictions: of the rows, as the task has them.
        lengths: int [n], tokens of each row before any are cut, special ones included.
    """
    edges = bands(lengths)
    if not edges:
        return {}
    codes = np.searchsorted(edges, lengths)
    between = [f"{low + 1} to {high}" for low, high in itertools.pairwise(edges)]
    names = [f"up to {edges[0]}", *between, f"over {edges[-1]}"]
    found = scores_of_groups(task, values, predictions, names, codes)
    # In the order of the lengths.
    groups = {name: found["groups"][name] for name in names if name in found["groups"]}
    return {NAME: found | {"groups": groups}}


def bands(lengths: np.ndarray) -> list[int]:
    """Those of EDGES that leave LEAST_ROWS or more of the lengths between each and the next."""
    kept, below = [], 0
    for edge in EDGES:
        until = int((lengths <= edge).sum())
        if until - below >= LEAST_ROWS and len(lengths) - until >= LEAST_ROWS:
            kept.append(edge)
            below = until
    return kept
