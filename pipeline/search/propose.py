"""The settings of trial n, as a function of (seed, n, the results known before n) and of nothing else.

A sampler that lives through a search has a hidden state: one that is loaded again, or missing, proposes other settings
than the search would have had, or the same ones twice. Here a study is built anew for each proposal, from the results
as they stand on disk, with a sampler whose seed is made from (seed, n).
"""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.extras import require
from pipeline.search.space import Setting, Settings

# Draws of a proposal that is none of the earlier ones; a small space may have no other left.
ATTEMPTS = 200
# Until so many results are known, proposals are spread over the space: fewer do not tell TPE where to look.
SPREAD = 10


@dataclass(frozen=True)
class Result:
    """What is known of an earlier trial.

    Attributes:
        settings: all of the space.
        scores: by the number of the rung (a share of the trial's epochs), the newest last; none: not known yet.
        complete: whether it was trained to its end.
        failed: whether its training failed, which no lower score can beat.
    """

    settings: Settings
    scores: dict[int, float] = field(default_factory=dict)
    complete: bool = False
    failed: bool = False


def propose(
    space: Sequence[Setting],
    seed: int,
    number: int,
    earlier: Sequence[Result],
    higher: bool,
    allowed: Callable[[Settings], bool],
) -> Settings | None:
    """Settings for a trial: at first spread over the space, then by optuna's TPE over all settings at once (Bergstra et
    al., 2011).

    Args:
        space: what is searched.
        seed, number: of the search, and of the trial.
        earlier: all trials before it, in order; those without a score are only not proposed again.
        higher: whether higher scores are better.
        allowed: whether settings can work.

    Returns:
        Settings that no earlier trial has; None where so many draws give none.

    Raises:
        UserError: optuna is not installed.
    """
    optuna = require("search", "optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tried = [result.settings for result in earlier]
    spread = sum(bool(result.scores) or result.failed for result in earlier) < SPREAD
    for attempt in range(ATTEMPTS):
        if spread and attempt == 0:
            drawn = _spread(space, seed, number)
        else:
            study = _study(optuna, space, earlier, higher, _number(seed, number, attempt))
            drawn = study.ask({setting.key: distribution(optuna, setting) for setting in space}).params
        settings = {setting.key: setting.readable(drawn[setting.key]) for setting in space}
        if settings not in tried and allowed(settings):
            return settings
    return None


def _spread(space: Sequence[Setting], seed: int, number: int) -> Settings:
    """The point of a trial of a scrambled Sobol sequence: of the first 2, 4 and 8 no two are in the same half, quarter
    and eighth of a setting's values."""
    from scipy.stats import qmc

    # Called rng since SciPy 1.15, which takes the old name too.
    points = qmc.Sobol(len(space), seed=_number(seed, "spread"))  # pyright: ignore[reportCallIssue]
    if number > 1:
        points.fast_forward(number - 1)
    return {item.key: item.at(share) for item, share in zip(space, points.random(1)[0].tolist(), strict=True)}


def _study(optuna: Any, space: Sequence[Setting], earlier: Sequence[Result], higher: bool, seed: int) -> Any:
    with warnings.catch_warnings():
        # Several settings at once is called experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True)
    study = optuna.create_study(direction="maximize" if higher else "minimize", sampler=sampler)
    for result in earlier:
        # The config's own settings may lie outside, where TPE cannot place them.
        inside = all(setting.holds(result.settings[setting.key]) for setting in space)
        if inside and (result.scores or result.failed):
            study.add_trial(_trial(optuna, space, result))
    return study


def _trial(optuna: Any, space: Sequence[Setting], result: Result) -> Any:
    """As optuna has it: TPE ranks those that were trained further first, and failed ones last."""
    states = optuna.trial.TrialState
    complete = result.complete and not result.failed
    return optuna.trial.create_trial(
        state=states.COMPLETE if complete else states.PRUNED,
        value=max(result.scores.items())[1] if complete else None,
        params=result.settings,
        distributions={setting.key: distribution(optuna, setting) for setting in space},
        intermediate_values={} if result.failed else result.scores,
    )


def distribution(optuna: Any, setting: Setting) -> Any:
    """The setting as optuna has it."""
    kinds = optuna.distributions
    if setting.choices:
        return kinds.CategoricalDistribution(setting.choices)
    kind = kinds.IntDistribution if setting.whole else kinds.FloatDistribution
    return kind(setting.low, setting.high, log=setting.log)


def _number(*parts: int | str) -> int:
    """A seed of 32 bits that differs wherever a part does."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")
