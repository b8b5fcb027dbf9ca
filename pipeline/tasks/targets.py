"""From cells of the data to the targets of rows, as every kind of task has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class TargetReader(Protocol):
    """Turns the target's cells of a row into arrays on disk, while a source is converted."""

    @property
    def dtypes(self) -> Mapping[str, type]:
        """The arrays that it fills."""
        ...

    def read(self, cells: Sequence[Any]) -> Any:
        """The target of a row.

        Raises:
            ValueError: the row cannot be used; the message is the end of a sentence about the row.
        """
        ...

    def add(self, target: Any, arrays: dict[str, list]) -> None:
        """Append what `read` gave for the next row."""
        ...

    def summary(self) -> dict[str, Any]:
        """What `Targets` need beside the arrays, JSON-able.

        Raises:
            UserError: the column cannot be a target.
        """
        ...


class Targets(Protocol):
    """The targets of a converted source."""

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Of rows of the store, as `Task.scores` takes them: [n], or [n, C]."""
        ...

    def probabilities(self, rows: np.ndarray) -> np.ndarray | None:
        """float32 [n, outputs], targets of the loss that say more than `values` does; None: there are none."""
        ...

    def strata(self, rows: np.ndarray) -> np.ndarray:
        """int [n]; a split takes its share of the rows of each value."""
        ...


@dataclass(frozen=True)
class Groups:
    """Which named groups rows belong to.

    Attributes:
        counts: int [n], to how many each row does.
        members: int, the groups of all rows, one after the other.
        names: of the groups; none where the targets have no names.
    """

    counts: np.ndarray
    members: np.ndarray
    names: Sequence[str]
