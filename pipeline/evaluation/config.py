"""Settings of the evaluation."""

from dataclasses import dataclass

from pipeline.settings.bounds import Count, CountOrZero, PositiveShare, Share


@dataclass
class EvaluationConfig:
    """Scores and the report."""

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
