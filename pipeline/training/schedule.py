"""Learning rate over the updates of a run: linear warm-up, then decay."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="pipeline")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 to `peak` over `warmup_steps`, then falls to 0 at `total_steps`.

    As in google-research/bert's optimization.py (linear, or to another power of what is left), or along half a
    cosine, or not at all.

    Args:
        peak: the largest learning rate.
        total_steps: updates of the whole run.
        warmup_steps: updates of the warm-up.
        decay: "linear", "cosine" or "constant".
        power: of a linear decay, which it makes a polynomial one.
    """

    def __init__(self, peak: float, total_steps: int, warmup_steps: int, decay: str = "linear", power: float = 1.0):
        self.peak, self.total_steps, self.warmup_steps, self.decay = peak, total_steps, warmup_steps, decay
        self.power = power

    def plan(self, total_steps: int, warmup: float) -> None:
        """Be that of another number of updates, of which the warm-up takes a share."""
        self.total_steps, self.warmup_steps = total_steps, round(warmup * total_steps)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        # The first update is step 0; with step + 1 it already learns.
        warm = (step + 1.0) / max(self.warmup_steps, 1)
        done = ops.clip((step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1), 0.0, 1.0)
        if self.decay == "linear":
            decayed = (1.0 - done) ** self.power
        elif self.decay == "cosine":
            decayed = 0.5 * (1.0 + ops.cos(math.pi * done))
        else:
            decayed = ops.ones_like(done)
        return self.peak * ops.where(step < self.warmup_steps, warm, decayed)

    def get_config(self):
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "decay": self.decay,
            "power": self.power,
        }
