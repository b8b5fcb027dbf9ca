"""What is said where there are too few labelled rows for what is asked of them."""

from pipeline.data.load import DataSplits
from pipeline.training.config import TrainingConfig

FEW_UPDATES, FEW_ROWS = 100, 50


def few_labels(training: TrainingConfig, data: DataSplits, updates: int) -> list[str]:
    """Sentences, each with its number.

    Args:
        training: how it is learned.
        data: from which rows.
        updates: of the weights, in all.
    """
    if data.train is None or not updates:
        return []
    found = []
    if training.method == "fine_tune" and updates < FEW_UPDATES:
        given = training.updates is not None
        found.append(
            f"training.updates {updates} is too few to learn all weights by, which takes some {FEW_UPDATES} or more: "
            "give more, or set training.method auto, as the recipe few_shot does."
            if given
            else f"{len(data.train)} training rows give {updates} updates, too few to learn all weights by: set "
            f"training.method auto, as the recipe few_shot does, or training.updates, to {FEW_UPDATES} or more."
        )
    if training.method == "fine_tune" and data.validation is not None and len(data.validation) < FEW_ROWS:
        found.append(
            f"the best epoch is chosen by {len(data.validation)} validation rows, which is mostly chance: give more, "
            "or none (data.validation_fraction 0) with evaluation.cross_validation 5, as the recipe few_shot does."
        )
    return found
