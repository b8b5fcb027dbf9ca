"""Contenders in turns: medians, spreads, ratios taken turn by turn, and what they say.

Each turn asks every contender once, every other turn in the reverse order. What slows the machine down for a while
slows all contenders of a turn, so a ratio is taken within a turn, and two are told apart only where the spread of their
ratios leaves 1 out.
"""

import signal
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import NamedTuple, TypeVar

Value = TypeVar("Value")
Values = Sequence[float | None]
# Of more turns than these the spread is the quartiles: the extremes of many turns are its accidents.
FEW = 7


class Failed(Exception):
    """A contender gave no result; the message says why."""


class _Asking:
    """What a SIGTERM meets: it ends the contender that is asked, and nobody is asked any more in this process."""

    now = over = False

    @classmethod
    def end(cls, *_) -> None:
        cls.over = True
        # A second one ends the process.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if cls.now:
            raise Failed("the time of all was over")


class Spread(NamedTuple):
    """Median, and from where to where: lowest and highest of up to FEW values, quartiles of more."""

    median: float
    low: float
    high: float

    def show(self, form: str = ".1f") -> str:
        """Such as `12.0 (11.5 to 12.8)`; of equal values, such as one turn's, `12.0`."""
        if self.low == self.high:
            return f"{self.median:{form}}"
        return f"{self.median:{form}} ({self.low:{form}} to {self.high:{form}})"


def take_turns(
    contenders: Mapping[str, Callable[[int], Value]], repeats: int, first: int = 0
) -> tuple[dict[str, list[Value | None]], dict[str, str]]:
    """Ask all in turns.

    Args:
        contenders: by name, what is asked with the number of the turn.
        repeats: turns.
        first: number of the first turn, which decides the order.

    Returns:
        (results of each contender, one a turn; why it failed, of those that did). Who has failed once is asked no more,
        and the results of these turns are None, as are all that a SIGTERM leaves to be asked: what has been measured
        by then is not lost.
    """
    found: dict[str, list[Value | None]] = {name: [] for name in contenders}
    failed: dict[str, str] = {}
    if not _Asking.over:
        signal.signal(signal.SIGTERM, _Asking.end)
    for turn in range(first, first + repeats):
        for name in list(contenders)[:: -1 if turn % 2 else 1]:
            result = None
            if name not in failed and not _Asking.over:
                try:
                    try:
                        _Asking.now = True
                        result = contenders[name](turn)
                    finally:
                        _Asking.now = False
                except Failed as error:
                    failed[name] = str(error)
                    print(f"{name} failed: {error}", file=sys.stderr, flush=True)
            found[name].append(result)
    return found, failed


def missing(needs: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Which contenders cannot be asked here, and why: their packages are not installed.

    Args:
        needs: by contender, the modules that it imports.
    """
    absent = {name: [module for module in modules if find_spec(module) is None] for name, modules in needs.items()}
    return {name: f"{' and '.join(modules)} not installed" for name, modules in absent.items() if modules}


def spread(values: Values) -> Spread:
    """Of the turns that gave a value, of which there must be one.

    Raises:
        ValueError: none did.
    """
    known = [value for value in values if value is not None]
    if not known:
        raise ValueError("no turn gave a value")
    if len(known) <= FEW:
        return Spread(statistics.median(known), min(known), max(known))
    low, _, high = statistics.quantiles(known, method="inclusive")
    return Spread(statistics.median(known), low, high)


def ratios(ours: Values, theirs: Values, more_is_better: bool = True) -> list[float]:
    """How many times as good ours is, in each turn that both finished: rates ours / theirs, times theirs / ours."""
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    return [a / b if more_is_better else b / a for a, b in pairs]


def verdict(found: Sequence[float]) -> str:
    """`1.31 x (1.25 to 1.40)`; `equal` and from where to where, if that holds 1; of a single turn the ratio alone."""
    if not found:
        return ""
    middle = spread(found)
    if len(found) == 1:
        return f"{middle.median:.2f} x (one turn)"
    if middle.low <= 1 <= middle.high:
        return f"equal ({middle.low:.2f} to {middle.high:.2f})"
    return f"{middle.median:.2f} x ({middle.low:.2f} to {middle.high:.2f})"


def judged(found: Sequence[float], goal: float) -> str:
    """Whether a ratio reaches its goal: `met`, `not met`, `equal` if its spread holds the goal, or `not measured`."""
    if not found:
        return "not measured"
    middle = spread(found)
    answer = "met" if middle.low >= goal else "not met" if middle.high < goal else "equal"
    return answer + (" (one turn)" if len(found) == 1 else "")
