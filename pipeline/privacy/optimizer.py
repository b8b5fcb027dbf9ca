"""Adam under the noise of differential privacy."""

import tensorflow as tf

from pipeline.training.optimizer import AdamW


class PrivateAdamW(AdamW):
    """AdamW with the noise's part taken out of the second moment: DP-AdamBC (Tang et al., 2024, arXiv:2312.14334).

    Noise adds its variance to the mean square of every number of the gradient. Where it is most of it, all numbers are
    divided by the same, and none has a rate of its own. The variance is known, and what is corrected is private
    already: nothing more is told.
    """

    noise_variance: float = 0.0
    """Of each number of the noisy mean gradient. 0: AdamW as ever."""
    floor: float = 0.1
    """Least second moment, in units of noise_variance, since a difference of estimates may be negative; epsilon is not
    needed."""

    def update_step(self, gradient, variable, rates):
        if not self.noise_variance:
            super().update_step(gradient, variable, rates)
            return
        rate, decay = self._rate(variable, rates)
        # At rate 0 the fused kernel makes the moments and leaves the weights.
        self._fused(tf.convert_to_tensor(gradient), variable, tf.zeros_like(rate), rates)
        momentum, velocity = self._moments(variable)
        # Moments begin at 0: each counts for 1 - power of what it estimates.
        noise = self.noise_variance * (1.0 - rates.power_2)
        second = tf.maximum(velocity, (1.0 + self.floor) * noise) - noise
        rate *= tf.sqrt(1.0 - rates.power_2) / (1.0 - rates.power_1)
        step = rate * momentum * tf.math.rsqrt(second)
        variable.assign_sub(step if decay is None else step + decay * variable)
