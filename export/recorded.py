"""What the evaluated model answered to a few held-out texts, kept beside the export: assets.extra/recorded.json.

With it `python -m export.check` can tell on any machine, and later, whether a model still answers as it was evaluated.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from export.versions import ModelError

FILE = Path("assets.extra") / "recorded.json"


@dataclass(frozen=True)
class Recorded:
    """n texts and their answers."""

    texts: list[list[str]]
    """One list of n strings, or two for a model of pairs."""
    predictions: list[list[float]]
    """[n, K]."""
    tolerance: float
    """Largest difference of a prediction that is taken as equal."""


def write_recorded(
    folder: Path,
    texts: Sequence[Sequence[str]],
    predictions: np.ndarray,
    tolerance: float,
    count: int,
) -> None:
    """Keep `count` of the answered texts, evenly spread; nothing is written for 0."""
    rows = np.unique(np.linspace(0, len(predictions) - 1, min(count, len(predictions))).astype(int))
    if not len(rows):
        return
    kept = np.asarray(predictions, np.float32)[rows]
    recorded = Recorded([[str(column[i]) for i in rows.tolist()] for column in texts], kept.tolist(), tolerance)
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
