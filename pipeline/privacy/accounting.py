"""How much updates with noise tell: epsilon by the privacy loss distribution of Google's dp-accounting.

Its older way, Rényi differential privacy (Mironov, 2017), gives a larger bound by other mathematics: a cross-check.
Neither needs TensorFlow, nor anything of a run but the numbers in its statement.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.errors import UserError
from pipeline.extras import require

ACCOUNTANT = "PLDAccountant"
# Of privacy losses. They are rounded up: a coarser grid gives a larger epsilon (10 times as coarse, by 0.001).
GRID = 1e-3
# No more noise than this much too much, relative to the least that does.
PRECISION = 1e-3
# With less, next to nothing is hidden; with more, next to nothing is learned.
LEAST_NOISE, MOST_NOISE = 2**-6, 2**12


def epsilon_of(noise: float, rate: float, updates: int, delta: float) -> float:
    """Upper bound of epsilon for adding or removing one row.

    Args:
        noise: standard deviation of the noise in units of the largest norm of one row's gradient.
        rate: probability with which each row is in a batch, independent of all else.
        updates: with noise of their own.
        delta: from 0 to 1.

    Raises:
        UserError: dp-accounting is not installed.
    """
    pld: Any = require("privacy", "dp_accounting.pld.pld_privacy_accountant")
    accountant = getattr(pld, ACCOUNTANT)(value_discretization_interval=GRID)
    accountant.compose(_training(noise, rate, updates))
    return float(accountant.get_epsilon(delta))


def rdp_epsilon_of(noise: float, rate: float, updates: int, delta: float) -> float:
    """The same bound by Rényi differential privacy, a larger one; arguments as for `epsilon_of`."""
    rdp: Any = require("privacy", "dp_accounting.rdp")
    with _without_orders_left_out():
        accountant = rdp.RdpAccountant()
        accountant.compose(_training(noise, rate, updates))
        return float(accountant.get_epsilon(delta))


def _training(noise: float, rate: float, updates: int) -> Any:
    dp: Any = require("privacy", "dp_accounting")
    update = dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise))
    return dp.SelfComposedDpEvent(update, updates)


@contextmanager
def _without_orders_left_out() -> Iterator[None]:
    """Without a warning for each order whose series does not converge; of those left any gives a bound."""

    def wanted(record: logging.LogRecord) -> bool:
        return "Excluding this order" not in record.getMessage()

    logger = logging.getLogger("absl")
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


def noise_for(epsilon: float, rate: float, updates: int, delta: float) -> float:
    """The least noise, to PRECISION, with which epsilon_of is at most `epsilon`; arguments as there.

    Raises:
        UserError: no noise up to MOST_NOISE does; dp-accounting is not installed.
    """
    enough = 1.0
    while epsilon_of(enough, rate, updates, delta) > epsilon:
        enough *= 2
        if enough > MOST_NOISE:
            if math.isinf(epsilon_of(enough, rate, updates, delta)):
                raise UserError(
                    f"training.privacy.delta {delta:g} is below what the accountant can tell from 0: set it to 1e-12 "
                    "or more, or to auto."
                )
            raise UserError(
                f"training.privacy.epsilon {epsilon:g} is too small for {updates} updates of {rate:.2%} of the rows."
            )
    too_little = enough / 2
    while enough > LEAST_NOISE and epsilon_of(too_little, rate, updates, delta) <= epsilon:
        enough, too_little = too_little, too_little / 2
    while enough / too_little > 1 + PRECISION:
        between = math.sqrt(enough * too_little)
        if epsilon_of(between, rate, updates, delta) <= epsilon:
            enough = between
        else:
            too_little = between
    return enough
