"""Settings of the evaluation."""

from dataclasses import dataclass

from pipeline.settings.bounds import Count, CountOrZero, Share


@dataclass
class EvaluationConfig:
    """Scores and the report."""

    batch_size: Count = 64
    """Examples a forward pass."""
    threshold: Share = 0.5
    """Probability from which a label counts as given (multi-label only)."""
    mistakes: CountOrZero = 25
    """How many of the most confident mistakes the report shows."""
