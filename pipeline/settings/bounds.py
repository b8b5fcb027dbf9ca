"""Bounds of numbers, written beside the fields of a dataclass of settings: `epochs: Count = 3`."""

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True, repr=False)
class Bounds:
    """Limits of a number, as metadata of Annotated; None: no limit."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def __repr__(self) -> str:
        limits = ((name.replace("_", " "), limit) for name, limit in vars(self).items() if limit is not None)
        return " and ".join(f"{name} {limit}" for name, limit in limits)

    def allow(self, value: float) -> bool:
        """Whether the value lies within all limits."""
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )


Count = Annotated[int, Bounds(at_least=1)]
CountOrZero = Annotated[int, Bounds(at_least=0)]
Positive = Annotated[float, Bounds(above=0)]
NotNegative = Annotated[float, Bounds(at_least=0)]
Share = Annotated[float, Bounds(at_least=0, below=1)]
"""A share that leaves something for the rest."""
PositiveShare = Annotated[float, Bounds(above=0, below=1)]
WholeShare = Annotated[float, Bounds(at_least=0, at_most=1)]
"""A share that may be all."""
Decay = Annotated[float, Bounds(above=0, at_most=1)]
"""A factor that makes a number smaller, or leaves it as it is."""
Temperature = Annotated[float, Bounds(at_least=1)]
"""Evens out differences, the more the larger it is."""
Seed = Annotated[int, Bounds(at_least=0, below=2**32)]
