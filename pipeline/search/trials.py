"""What is known of each trial, read from its run's folder and from the record beside it.

trials/0003.json   what was proposed, from which results, and how far the trial is to go
trials/0003/       an ordinary run: its history of epochs is the result
trials/0003.log    what it printed
trials/0003.lock   held by the process that works on it; the system lets go of it when that process dies
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.run_folder import state_of_training
from pipeline.search.propose import Result
from pipeline.search.space import Settings


@dataclass
class Record:
    """What is decided about a trial; its results are its run's."""

    settings: Settings
    """All of the space."""
    known: list[int | None] = field(default_factory=list)
    """Of each earlier trial, when this one was proposed: its finished epochs; None: it had failed."""
    rung: int = 0
    """To which the trial is to go."""
    pace: float = 0.0
    """Seconds of an epoch with its scores and its checkpoint, as its last training took them."""
    overhead: float = 0.0
    """Seconds that its last training took beside its epochs: to build the model, to trace it, to evaluate it."""
    failed: str | None = None
    """Why its training cannot go on."""


@dataclass(frozen=True)
class Trial:
    """A trial as it stands.

    Attributes:
        number: from 0, which has the config's own settings.
        folder: of its run.
        record: what is decided.
        pauses: after how many epochs it is at each rung.
        scores: the monitored validation score of each finished epoch; infinitely bad where it is undefined, as a
            correlation of equal predictions is.
        seconds: training time of each.
        trained: whether its training is complete.
        evaluated: whether its run is.
        data: fingerprint of its rows; None: it has not begun to train.
    """

    number: int
    folder: Path
    record: Record
    pauses: Sequence[int]
    scores: Sequence[float] = ()
    seconds: Sequence[float] = ()
    trained: bool = False
    evaluated: bool = False
    data: str | None = None

    @property
    def rung(self) -> int:
        """To which it is to go."""
        return self.record.rung

    @property
    def failed(self) -> bool:
        """Whether its training failed."""
        return self.record.failed is not None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do, at any rung."""
        return self.trained and self.evaluated and not self.failed

    @property
    def waiting(self) -> bool:
        """Whether it has reached its rung, and could go on to another."""
        return not self.failed and not self.trained and len(self.scores) >= self.pauses[self.rung]

    @property
    def unfinished(self) -> bool:
        """Whether it has yet to reach its rung."""
        return not (self.failed or self.complete or self.waiting)

    @property
    def left(self) -> int:
        """Epochs to its end."""
        return 0 if self.trained else self.pauses[-1] - len(self.scores)

    def score_at(self, rung: int, higher: bool) -> float | None:
        """The best score of the epochs up to a rung; None where it has not come so far."""
        return best(self.scores[: self.pauses[rung]], higher) if rung in self.rungs_of(len(self.scores)) else None

    def score(self, higher: bool) -> float | None:
        """The best score of all its epochs, infinitely bad where none is defined; None: it has finished none."""
        return best(self.scores, higher) if self.scores else None

    def rungs_of(self, epochs: int) -> list[int]:
        """The rungs that it has reached after so many epochs."""
        ended = self.trained and epochs == len(self.scores)
        return [rung for rung, pause in enumerate(self.pauses) if ended or epochs >= pause]

    def as_known(self, epochs: int | None, higher: bool) -> Result:
        """What a proposal may know of it after so many epochs; None: it has failed."""
        if epochs is None:
            return Result(self.record.settings, failed=True)
        reached = self.rungs_of(epochs)
        scores = {rung: best(self.scores[: min(self.pauses[rung], epochs)], higher) for rung in reached}
        return Result(self.record.settings, scores, complete=len(self.pauses) - 1 in reached)


def best(scores: Sequence[float], higher: bool) -> float:
    """Of several scores."""
    return max(scores) if higher else min(scores)


def defined(score: float | None) -> float | None:
    """A score as people and JSON have it: None where it is undefined."""
    return score if score is not None and math.isfinite(score) else None


def read_trial(number: int, folder: Path, record: Record, pauses: Sequence[int], monitor: str, higher: bool) -> Trial:
    """A trial as it stands.

    Args:
        number, folder, record, pauses: as `Trial` has them.
        monitor: the validation score by which trials are compared.
        higher: whether higher is better.
    """
    evaluated = (folder / "metrics.json").is_file()
    state = state_of_training(folder)
    if state is None:
        return Trial(number, folder, record, pauses)
    progress = state["progress"]
    history = progress["history"]
    return Trial(
        number,
        folder,
        record,
        pauses,
        scores=[row.get(f"validation_{monitor}", -math.inf if higher else math.inf) for row in history],
        seconds=[row["seconds"] for row in history],
        trained=progress["finished"],
        evaluated=evaluated,
        data=state["identity"]["data"],
    )


def record_of(folder: Path) -> Path:
    """The file of a trial's record, beside the folder of its run."""
    return folder.with_name(f"{folder.name}.json")


def read_record(folder: Path) -> Record | None:
    """What is decided about a trial; None: nothing yet."""
    path = record_of(folder)
    return Record(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def write_record(folder: Path, record: Record) -> None:
    """Beside, then renamed."""
    write_text(record_of(folder), json.dumps(asdict(record), indent=1))


def require_same_data(trials: Sequence[Trial]) -> None:
    """Refuse to compare trials whose rows are not the same.

    Raises:
        UserError: the data changed since the search began.
    """
    begun = [trial for trial in trials if trial.data is not None]
    other = next((trial for trial in begun if trial.data != begun[0].data), None)
    if other:
        raise UserError(
            f"{other.folder}: the data changed since {begun[0].folder} was trained: bring the old files back, or "
            "search in another run_dir."
        )
