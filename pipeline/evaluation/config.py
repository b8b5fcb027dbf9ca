"""Settings of the evaluation."""

from dataclasses import dataclass
from typing import Literal

from pipeline.settings.bounds import Count, CountOrZero, PositiveShare, Share


@dataclass
class EvaluationConfig:
    """Scores and the report."""

    baseline: Literal["auto", "tfidf", "none"] = "auto"
    """Score beside the model a linear one over TF-IDF that learns from the same rows, and warn where the model is not
    clearly better. auto: where there are under 50,000 training rows."""
    cross_validation: CountOrZero = 0
    """Score the training rows too, each by a model that has not seen it, of so many that are trained beside; 0: do not.
    For few rows, with data.validation_fraction and data.test_fraction 0."""
    batch_size: Count = 64
    """Examples a forward pass."""
    threshold: Share = 0.5
    """Probability from which a label counts as given, where a row has any number of labels."""
    interval: PositiveShare = 0.9
    """Share of the values that the prediction interval of a number holds; its width is from the validation rows."""
    mistakes: CountOrZero = 25
    """How many of the most confident mistakes the report shows."""
    score_test: bool = True
    """Score the test rows; false: they stay unseen, as where settings are still being chosen."""
