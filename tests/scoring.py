"""Scores and counts of labels, in one call."""

import numpy as np

from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.single_label import SingleLabel


def task_of(names, several=False, **settings):
    """A task of one label a row, or of several."""
    return (MultiLabel if several else SingleLabel)(tuple(names), **settings)


def scores_of(labels, probabilities, names, several=False, **settings):
    """All scores of a task of these names."""
    return task_of(names, several, **settings).scores(labels, probabilities)


def counts(splits, split):
    """int [C]: how many rows of a split have each label."""
    return np.array(list(splits.task.data_summary(split.targets())["labels"].values()))
