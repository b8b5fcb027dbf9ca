"""What a private training claims, with all that the claim is recomputed from: `privacy.json` in the run's folder."""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.privacy.accounting import ACCOUNTANT, epsilon_of, noise_for, rdp_epsilon_of
from pipeline.privacy.config import PrivacyConfig

FILE = "privacy.json"
COVERED = (
    "the trained weights and all that is made of them (the export, the scores in metrics.json and the report), for the "
    "rows of data.train"
)
NOT_COVERED = (
    "validation and test rows, which scores, calibration and the choice of the best epoch tell about; data, "
    "checkpoints and terminal of the run; other runs on the same rows, whose epsilons add up"
)


@dataclass(frozen=True)
class Statement:
    """(epsilon, delta)-differential privacy of one training, for adding or removing one unit."""

    epsilon: float
    delta: float
    unit: str
    """What one may not be told about: a row, or all rows of a group."""
    units: int
    batch_size: int
    """Units in a batch on average."""
    sampling_rate: float
    updates: int
    """With noise of their own, all that were planned: one that stops early may not claim less."""
    noise_multiplier: float
    """Standard deviation of the noise in units of clip_norm."""
    clip_norm: float
    trained: str
    """Which weights (training.trainable)."""
    secret: bool
    """Whether batches and noise were secret; else nothing is private."""
    accountant: str
    library: str
    rdp_epsilon: float | None = None
    """By Rényi differential privacy, to check the claim with: not below it. None: the run is of an older version."""
    dropout: bool = True
    """Whether masks of dropout depended on a row's place in its batch, which other rows decide: then the claim does not
    hold. It is so in runs of older versions, whose records do not name it, if their model had any dropout."""
    mechanism: str = "Gaussian noise on the sum of clipped gradients of one unit each (DP-SGD), in every update"
    sampling: str = "Poisson: each unit is in each batch with probability sampling_rate, by itself"
    neighbours: str = "one unit added or removed"
    covers: str = COVERED
    does_not_cover: str = NOT_COVERED

    def recomputed(self) -> float:
        """Epsilon, from the other numbers alone."""
        return epsilon_of(self.noise_multiplier, self.sampling_rate, self.updates, self.delta)

    def cross_checked(self) -> float:
        """Epsilon by Rényi differential privacy, likewise."""
        return rdp_epsilon_of(self.noise_multiplier, self.sampling_rate, self.updates, self.delta)

    def metadata(self) -> dict[str, Any]:
        """JSON-able, for privacy.json, metrics.json and the export."""
        return asdict(self)

    def sentence(self) -> str:
        """For a person."""
        claim = f"({self.epsilon:.4g}, {self.delta:.3g})-differentially private for one {self.unit} of {self.units}"
        how = (
            f"{self.updates} updates of {self.batch_size} by Poisson sampling, noise {self.noise_multiplier:.4g} at "
            f"clip norm {self.clip_norm:g}, {self.accountant} of {self.library}"
        )
        warning = "" if self.secret else "; NOT private, for training.privacy.seed was set"
        if self.dropout:
            warning += "; NOT as claimed unless its model had no dropout, for an older version began it"
        return f"{claim}: {how}{warning}"

    def save(self, run_dir: Path) -> None:
        """Write privacy.json."""
        write_text(run_dir / FILE, json.dumps(self.metadata(), indent=1))


def planned(config: PrivacyConfig, unit: str, units: int, batch_size: int, updates: int, trained: str) -> Statement:
    """The statement of a training that is to begin, with the least noise that its epsilon takes.

    Args:
        config: with an epsilon.
        unit, units, batch_size, updates, trained: see Statement.

    Raises:
        UserError: no such batches or delta, or no noise does.
    """
    assert config.epsilon is not None
    if batch_size > units:
        raise UserError(f"training.batch_size {batch_size} is more than there are to learn from, {units} {unit}s.")
    delta = 1 / (2 * units) if config.delta == "auto" else config.delta
    if delta >= 1 / units:
        raise UserError(
            f"training.privacy.delta {delta:g} allows that one of {units} {unit}s is told whole: set it below "
            f"{1 / units:.3g}, or to auto."
        )
    rate = batch_size / units
    noise = noise_for(config.epsilon, rate, updates, delta)
    training = noise, rate, updates, delta
    return Statement(
        epsilon=epsilon_of(*training),
        rdp_epsilon=rdp_epsilon_of(*training),
        delta=delta,
        unit=unit,
        units=units,
        batch_size=batch_size,
        sampling_rate=rate,
        updates=updates,
        noise_multiplier=noise,
        clip_norm=config.clip_norm,
        trained=trained,
        secret=config.seed is None,
        dropout=False,
        accountant=ACCOUNTANT,
        library=f"dp-accounting {version('dp-accounting')}",
    )


def statement_of(run_dir: Path) -> Statement | None:
    """What a run claims; None: it is not private.

    Raises:
        UserError: privacy.json is not one of this project.
    """
    path = run_dir / FILE
    if not path.is_file():
        return None
    try:
        return Statement(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is no statement of a private run ({error}).") from error
