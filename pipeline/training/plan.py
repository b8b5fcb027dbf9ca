"""How many updates a training makes, and between which of them it looks at the validation rows."""

from dataclasses import dataclass

from pipeline.data.batching import steps_per_epoch
from pipeline.training.config import TrainingConfig

# Where few rows are seen many times, this often.
LOOKS = 10
# Few rows need so many, whatever their number; 60 are no better (benchmarks/README.md, few labels).
LEAST_UPDATES = 40


@dataclass(frozen=True)
class Plan:
    """The updates of a training.

    Attributes:
        passes: over the rows in an epoch, which is what lies between two looks.
        steps: updates of an epoch.
        total: updates in all; the last epoch may have fewer than the others.
    """

    passes: int
    steps: int
    total: int

    @property
    def epochs(self) -> int:
        """How many there are."""
        return -(-self.total // self.steps) if self.steps else 0

    def steps_of(self, epoch: int) -> int:
        """Updates of an epoch, from 0."""
        return min(self.steps, self.total - epoch * self.steps)


def total_updates(training: TrainingConfig, rows: int, batches: int | None = None) -> int:
    """Of training.updates, else of training.epochs, which for few labels are LEAST_UPDATES at least.

    Args:
        rows: that there are.
        batches: of a pass over them; None: as many as batch_size makes.
    """
    total = training.epochs * (steps_per_epoch(rows, training.batch_size) if batches is None else batches)
    if training.updates is not None and total:
        return training.updates
    return max(total, LEAST_UPDATES) if total and training.method in ("auto", "contrastive") else total


def plan_of(training: TrainingConfig, rows: int, total: int, batches: int | None = None) -> Plan:
    """The plan of `total` updates on so many rows; `batches` as for total_updates."""
    once = steps_per_epoch(rows, training.batch_size) if batches is None else batches
    by_epochs = total == training.epochs * once
    passes = 1 if by_epochs or not once else max(1, total // (LOOKS * once))
    steps = steps_per_epoch(passes * rows, training.batch_size) if batches is None else passes * batches
    return Plan(passes, steps, total)
