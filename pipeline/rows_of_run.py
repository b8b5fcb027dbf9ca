"""A run's config and its stored rows, for commands that look at a run from outside."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.command_line import parse
from pipeline.config import Config
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.data.load import DataSplits


def config_of(run: Path, advice: str = "") -> Config:
    """The config of a run.

    Args:
        run: its folder.
        advice: the end of the sentence where it is none.

    Raises:
        UserError: the folder is none of a run.
    """
    if not (run / "config.yaml").is_file():
        raise UserError(f"{run} is no folder of a run, for it has no config.yaml{advice}.")
    return parse(["--config", str(run / "config.yaml"), "--run_dir", str(run)])


def rows_of(config: Config) -> "DataSplits":
    """All rows of a run, from its stores where their sources are gone.

    Raises:
        UserError: they are others than the run began with, or cannot be read.
    """
    from pipeline.data.load import load

    folder, learning = Path(str(config.run_dir)) / "data", config.training.epochs > 0
    return load(config.data, folder, True, learning, config.evaluation, config.kept_redaction)
