"""Where a training pauses before its end, to go on later exactly as if it had not. Imports no TensorFlow."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pause:
    """Two limits; the state is saved at either, and the same run goes on from it under the same schedule."""

    epochs: int | Callable[[int], bool] | None = None
    """Pause once so many epochs are done; none: at the end. A function is asked before each epoch, with how many are
    done and saved, whether to pause there."""
    deadline: float | None = None
    """Stop at the first batch after this moment of time.monotonic(); none: never."""

    def reached(self, epochs: int) -> bool:
        """Whether so many epochs are enough."""
        if callable(self.epochs):
            return self.epochs(epochs)
        return self.epochs is not None and epochs >= self.epochs

    def overdue(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() > self.deadline
