"""Settings of the search for settings."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_origin

from pipeline.errors import UserError
from pipeline.settings.bounds import Bounds, Count, CountOrZero, Positive, Seed
from pipeline.settings.read import keys_of, members_of, read, require, unknown_key

if TYPE_CHECKING:
    from pipeline.config import Config

# What decides weights; data and evaluation must be the same for all trials, or their scores could not be compared.
SECTIONS = ("text", "model", "training", "distillation")
# The first would choose luck, the others what a score is, of which rows, where and how safely a trial runs.
FIXED = {
    f"training.{name}"
    for name in (
        "seed", "monitor", "strategy", "workers_timeout", "checkpoint_seconds", "method", "updates", "drop_suspicious",
        "self_training",
    )
}  # fmt: skip


@dataclass
class Range:
    """What a setting may be: a number from low to high, or one of choices."""

    low: float | None = None
    """Smallest value."""
    high: float | None = None
    """Largest value."""
    log: bool = False
    """Whether equal factors, not equal differences, are equally likely."""
    choices: list[str | bool | float | None] | None = None
    """All values, in place of low and high."""


@dataclass
class SearchConfig:
    """The search for settings (python -m pipeline.search)."""

    trials: Count | None = 20
    """How many settings to try, the config's own among them; none: as many as the minutes allow."""
    minutes: Positive | None = None
    """Longest time of the whole command on each worker, over all its starts: trials and the winner's trainings; none:
    no limit."""
    seed: Seed = 0
    """Decides what is proposed."""
    halving: Annotated[int, Bounds(at_least=2)] | None = 3
    """Successive halving. 3: after a third of its epochs a trial goes on if it is the best that waits there and among
    the best third of all that came so far, and pauses else. None: all trials are trained to their end."""
    repeats: CountOrZero = 3
    """New seeds with which the winner, and the config's own settings beside it, are trained again at the end."""
    space: dict[str, Range] | None = None
    """Settings to try, such as {training.learning_rate: {low: 1e-5, high: 1e-4, log: true}, training.batch_size:
    {choices: [16, 32]}}; none: the usual ones of fine-tuning, around the config's own."""


def check_search(config: "Config") -> None:
    """A search can end, and whatever it proposes is a value that its setting may have."""
    search = config.search
    require(search.trials or search.minutes, "search.trials and search.minutes are both null: set one of them.")
    for key, values in (search.space or {}).items():
        check_range(config, key, values)


def check_range(config: "Config", key: str, values: Range) -> None:
    """Refuse a setting that cannot be searched, and values that it cannot have."""
    kinds, name = keys_of(type(config)), f"search.space.{key}"
    if key not in kinds:
        raise UserError(f"search.space: {unknown_key(key, type(config))}")
    require(
        key.partition(".")[0] in SECTIONS and key not in FIXED,
        f"search.space: {key} cannot be searched: it has to be the same for all trials.",
    )
    require(
        not key.startswith("training.privacy."),
        f"search.space: {key} cannot be searched: each trial would tell about the private rows and not be counted.",
    )
    require(
        not any(get_origin(kind) in (list, dict) for kind in members_of(kinds[key])),
        f"search.space: {key} cannot be searched: it is no single value.",
    )
    require(
        not config.training.drop_suspicious or key == "model.dropout" or not _of_vectors(key),
        f"search.space: {key} decides which rows training.drop_suspicious leaves out, which have to be the same for "
        "all trials: unset one of the two.",
    )
    bounded = values.low is not None and values.high is not None
    require(
        bounded != (values.choices is not None) and (bounded or values.low is values.high is None),
        f"{name}: give low and high, or choices.",
    )
    if values.choices is not None:
        read_values = [read(kinds[key], value, f"{name}.choices") for value in values.choices]
        repeated = any(value in read_values[:i] for i, value in enumerate(read_values))
        require(len(read_values) > 1 and not repeated, f"{name}.choices: give two different values or more.")
        return
    for end in ("low", "high"):
        number: Any = read(kinds[key], getattr(values, end), f"{name}.{end}")
        require(type(number) in (int, float), f"{name}: {key} is no number; give choices.")
    assert values.low is not None and values.high is not None
    require(values.low < values.high, f"{name}: low {values.low:g} is not below high {values.high:g}.")
    require(not values.log or values.low > 0, f"{name}: with log, low must be above 0.")


def _of_vectors(key: str) -> bool:
    """Whether a setting changes the vectors by which labels are judged before training."""
    return key.startswith(("text.", "model.")) or key == "training.dtype"
