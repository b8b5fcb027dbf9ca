"""What the evaluated model answered to a few held-out texts, kept beside the export: assets.extra/recorded.json.

With it `python -m export.check` can tell on any machine, and later, whether a model still answers as it was evaluated.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from export.expected import Expected
from export.versions import ModelError

FILE = Path("assets.extra") / "recorded.json"


@dataclass(frozen=True)
class Recorded:
    """n rows and their answers."""

    texts: list[list[str]]
    """A list of n strings for each input of the model: texts, or cells of columns."""
    predictions: list[list[float]]
    """[n, K]."""
    tolerance: float
    """Largest difference of a prediction that is taken as equal."""
    inputs: list[str] = field(default_factory=list)
    """Their names; none: those of texts, sorted."""
    fit: list[float] | None = None
    """[n], of a model whose answers have it."""

    @property
    def expected(self) -> Expected:
        """To compare answers with."""
        fit = None if self.fit is None else np.array(self.fit, np.float32)
        return Expected(np.array(self.predictions, np.float32), self.tolerance, fit)


def write_recorded(folder: Path, cells: Mapping[str, Sequence[str]], expected: Expected, count: int) -> None:
    """Keep `count` of the answered rows, evenly spread; nothing is written for 0.

    Args:
        cells, expected: as export.verify takes them.
    """
    known = len(expected.predictions)
    rows = np.unique(np.linspace(0, known - 1, min(count, known)).astype(int))
    if not len(rows):
        return
    kept = np.asarray(expected.predictions, np.float32)[rows]
    fit = None if expected.fit is None else np.asarray(expected.fit, np.float32)[rows].tolist()
    texts = [[str(column[i]) for i in rows.tolist()] for column in cells.values()]
    recorded = Recorded(texts, kept.tolist(), expected.tolerance, list(cells), fit)
    path = folder / FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(asdict(recorded), indent=1), encoding="utf-8")


def read_recorded(folder: Path) -> Recorded | None:
    """What was kept; None where nothing was.

    Raises:
        ModelError: the file cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        recorded = Recorded(**json.loads(path.read_text(encoding="utf-8")))
        count = len(recorded.predictions)
        if not count or {len(column) for column in recorded.texts} != {count}:
            raise ValueError("its lists are empty or differ in length")
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{FILE} cannot be read: {error}") from error
    return recorded
