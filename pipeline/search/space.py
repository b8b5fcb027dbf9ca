"""The settings that a search tries: their values, where they come from in a config, and how they get into one."""

import copy
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from pipeline.config import Config
from pipeline.config_check import check
from pipeline.errors import UserError
from pipeline.search.config import Range, check_range
from pipeline.settings.read import keys_of, read

Settings = dict[str, Any]
"""Values by their keys, such as training.epochs."""


@dataclass(frozen=True)
class Setting:
    """One setting that is searched.

    Attributes:
        key: such as training.epochs.
        low, high: bounds of a number, int or float as the setting is.
        log: whether equal factors are equally likely.
        choices: in place of bounds.
    """

    key: str
    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple = ()

    @property
    def whole(self) -> bool:
        """Whether it is a number without a fraction."""
        return isinstance(self.low, int)

    def holds(self, value: Any) -> bool:
        """Whether a value is one of those that are searched."""
        if self.choices:
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high

    def at(self, share: float) -> Any:
        """The value below which a share, from 0 to 1, of all lies."""
        if self.choices:
            return self.choices[min(int(share * len(self.choices)), len(self.choices) - 1)]
        if self.log:
            value = self.low * ((self.high + self.whole) / self.low) ** share
        else:
            value = self.low + share * (self.high - self.low + self.whole)
        return min(int(value), self.high) if self.whole else value

    def readable(self, value: Any) -> Any:
        """A value with four significant digits, so that what is shown is what was tried."""
        if self.choices or self.whole:
            return value
        return min(max(float(f"{value:.4g}"), self.low), self.high)


def space_of(config: Config) -> list[Setting]:
    """What the config's search section asks for.

    Raises:
        UserError: a usual setting has no room around the config's own value.
    """
    kinds, found = keys_of(Config), []
    for key, values in (config.search.space or usual(config)).items():
        check_range(config, key, values)
        if values.choices is not None:
            choices = tuple(read(kinds[key], value, key) for value in values.choices)
            found.append(Setting(key, choices=choices))
        else:
            low, high = (read(kinds[key], end, key) for end in (values.low, values.high))
            found.append(Setting(key, low, high, values.log))
    return found


def usual(config: Config) -> dict[str, Range]:
    """What matters most in fine-tuning, around the config's own values."""
    training = config.training
    rate, epochs, size = training.learning_rate, training.epochs, training.batch_size
    sizes = [each for each in (size // 2, size, 2 * size) if each and each % training.accumulation == 0]
    if training.tokens_per_batch is not None:
        sizes = []
    found = {
        "training.learning_rate": Range(rate / 5, rate * 5, log=True),
        "training.epochs": Range((epochs + 1) // 2, 2 * epochs),
        "training.batch_size": Range(choices=[str(each) for each in sizes]),
        "training.warmup": Range(0.0, 0.3),
        "training.weight_decay": Range(1e-3, 0.3, log=True),
        "training.layer_decay": Range(0.7, 1.0),
        "model.dropout": Range(0.0, 0.4),
    }
    return {key: values for key, values in found.items() if values.choices is None or len(values.choices) > 1}


def values_of(config: Config, space: list[Setting]) -> Settings:
    """What a config has for the settings of a space."""
    return {setting.key: attrgetter(setting.key)(config) for setting in space}


def with_settings(config: Config, settings: Settings) -> Config:
    """A copy of the config with other values."""
    config = copy.deepcopy(config)
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        setattr(attrgetter(section)(config), name, value)
    return config


def works(config: Config, settings: Settings) -> bool:
    """Whether the values go together, and with the rest of the config."""
    try:
        check(with_settings(config, settings))
    except UserError:
        return False
    return True


def shown(settings: Settings) -> str:
    """On one line, without the sections."""
    return "  ".join(f"{key.rpartition('.')[2]} {_plain(value)}" for key, value in settings.items())


def _plain(value: Any) -> str:
    return "null" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
