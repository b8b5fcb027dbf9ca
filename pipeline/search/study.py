"""A search's folder, and what stays the same in it from the first trial to the report."""

import copy
import dataclasses
import json
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import yaml
from filelock import FileLock

from pipeline import tasks
from pipeline.backbone.defaults import settle
from pipeline.command_line import checked
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.local_paths import absolute
from pipeline.model_hub import pin
from pipeline.run_folder import claim, require_here
from pipeline.search.config import Range, SearchConfig
from pipeline.search.halving import pauses, shares
from pipeline.search.space import Setting, Settings, space_of, values_of, with_settings
from pipeline.search.trials import Record, Trial, read_record, read_trial
from pipeline.settings.read import require

# With other values of these the same trials would not follow from each other, or their scores be of two kinds.
DECISIVE = {"search": ("seed", "halving", "space"), "evaluation": ("threshold",)}
# What names a checkpoint, and what is decided by it where nobody does.
CHECKPOINT = ("model.backbone", "model.revision")
DECIDED = ("model.pooling", "model.revision", "text.sequence_length")


@dataclass(frozen=True)
class Study:
    """What does not change.

    Attributes:
        folder: of the search.
        config: of its runs, with the search section.
        given: the same before a checkpoint has decided anything in it, for trials of other checkpoints.
        space: what is searched.
        rungs: shares of a trial's epochs at which it may pause; the last is 1.
        monitor: the validation score by which trials are compared.
        higher: whether higher is better.
        settled: settings that the search has put in place of the config's own, for all trials.
    """

    folder: Path
    config: Config
    given: Config
    space: list[Setting]
    rungs: list[float]
    monitor: str
    higher: bool
    settled: Settings

    @property
    def lock(self) -> FileLock:
        """Held while a decision is made from what is on disk, and written there."""
        return FileLock(self.folder / ".lock")

    @property
    def defaults(self) -> Settings:
        """The config's own."""
        return values_of(self.config, self.space)

    def folder_of(self, number: int) -> Path:
        """Of a trial's run."""
        return self.folder / "trials" / f"{number:04d}"

    def trials(self) -> list[Trial]:
        """All that were proposed, in order, as they stand."""
        found: list[Trial] = []
        while record := read_record(self.folder_of(len(found))):
            found.append(self.read(len(found), self.folder_of(len(found)), record))
        return found

    def read(self, number: int, folder: Path, record: Record) -> Trial:
        """A trial, or a training of its settings in another folder, as it stands."""
        return read_trial(number, folder, record, self.pauses(record.settings), self.monitor, self.higher)

    def again(self, trial: Trial) -> Trial:
        """The same as it stands now."""
        return self.read(trial.number, trial.folder, read_record(trial.folder) or trial.record)

    def pauses(self, settings: Settings) -> list[int]:
        """After how many epochs a trial is at each rung."""
        return pauses(self.rungs, settings.get("training.epochs", self.config.training.epochs))

    def run_of(self, settings: Settings, run_dir: Path) -> Config:
        """An ordinary run of the config with other settings."""
        of_checkpoints = any(setting.key in CHECKPOINT for setting in self.space)
        config = with_settings(self.given if of_checkpoints else self.config, settings)
        return dataclasses.replace(config, run_dir=str(run_dir), search=SearchConfig())

    def trial_run(self, settings: Settings, run_dir: Path) -> Config:
        """A run that knows nothing of the test rows: their file is not named, and shares split off are not scored."""
        config = self.run_of(settings, run_dir)
        if config.data.test:
            config.data.test, config.data.test_fraction = None, 0.0
        config.evaluation.score_test = config.export.enabled = False
        # No trial is compared by them; the trainings with new seeds have them.
        config.evaluation.baseline, config.evaluation.cross_validation = "none", 0
        return config


def open_study(config: Config) -> Study:
    """The study in `<run_dir>/search`, begun or taken up.

    Raises:
        UserError: nothing can be searched with this config, or the folder holds another search.
    """
    config = checked(config)
    require_here(config)
    _check_searchable(config)
    settled: Settings = {}
    if config.training.method == "auto":
        # A choice in every trial would take longer than the trial.
        config.training.method = settled["training.method"] = "fine_tune"
        print("note: training.method auto: all trials fine_tune, and so best.yaml says", flush=True)
    folder = Path(str(config.run_dir)) / "search"
    folder.mkdir(parents=True, exist_ok=True)
    config.run_dir = str(folder)
    with FileLock(folder / ".lock"):
        given = {key: attrgetter(key)(config) for key in DECIDED}
        config = settle(pin(config, folder), folder)
        space = space_of(config)
        config.search.space = _written(space)
        _require_same_search(folder, config)
        config = absolute(claim(folder, config))
    kind = tasks.kind_of(config.data)
    monitor = kind.monitored(config.training.monitor)
    rungs = shares(config.search.halving, config.training.epochs)
    return Study(folder, config, with_settings(config, given), space, rungs, monitor, kind.monitors[monitor], settled)


def _check_searchable(config: Config) -> None:
    """There is something to train, and rows to judge it by."""
    require(
        config.stage != "pretrain" and not (config.corpus.train and config.stage == "all"),
        "a search would pre-train in every trial: pre-train once, then search with --model.backbone PRETRAINED.",
    )
    require(config.training.epochs, "training.epochs 0 trains nothing: there is nothing to search.")
    require(
        not config.training.privacy.on,
        "training.privacy goes without a search, each trial of which tells about the private rows and is not counted: "
        "search on public rows, and train with best.yaml.",
    )
    require(
        not config.data.unlabelled,
        "a search goes without data.unlabelled, to which each trial would give other labels: search without it, and "
        "train with best.yaml and it.",
    )
    require(
        config.model.revision is None or "model.backbone" not in (config.search.space or {}),
        "search.space.model.backbone goes without model.revision, which is of one checkpoint: unset it, and write the "
        "choices as NAME@COMMIT.",
    )
    require(
        config.training.updates is None and config.training.method in ("fine_tune", "auto"),
        "a search halves trials by their epochs: give --training.updates null, and fine_tune as training.method.",
    )
    require(
        config.data.validation or config.data.validation_fraction,
        "a search needs validation rows: set data.validation or data.validation_fraction.",
    )


def _written(space: list[Setting]) -> dict[str, Range]:
    """As a config holds it, whatever way it was given in."""
    return {
        item.key: Range(choices=copy.copy(list(item.choices)))
        if item.choices
        else Range(float(item.low), float(item.high), item.log)
        for item in space
    }


def _require_same_search(folder: Path, config: Config) -> None:
    path = folder / "config.yaml"
    if not path.is_file():
        return
    for record in (folder / "trials").glob("*.json"):
        if "pace" not in json.loads(record.read_text(encoding="utf-8")):
            raise UserError(
                f"{folder} holds a search of an earlier version, which would not go on as it began: give another "
                "--run_dir, or delete the folder."
            )
    old = yaml.safe_load(path.read_text(encoding="utf-8"))
    new = json.loads(json.dumps(dataclasses.asdict(config)))
    for section, name in ((section, name) for section, names in DECISIVE.items() for name in names):
        if old[section][name] != new[section][name]:
            raise UserError(
                f"{folder} holds a search with another {section}.{name}: give another --run_dir, or delete the folder."
            )
