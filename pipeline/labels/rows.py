"""Where labelled rows come from: a run's folder, or a config before there is a run."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.backbone.defaults import settle
from pipeline.command_line import parse
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.model_hub import pin
from pipeline.rows_of_run import config_of

# A config names training rows; where there are none yet, this does.
NONE_YET = "(none yet)"


@dataclass(frozen=True)
class Source:
    """What a command works on.

    Attributes:
        config: settled; its checkpoint is the one that the run begins with, or has pre-trained.
        cache: folder of the converted rows.
        begun: whether a model has learned from the rows in it.
    """

    config: Config
    cache: Path
    begun: bool = False

    @property
    def labelled(self) -> bool:
        """Whether there are labelled rows."""
        return self.config.data.train not in (None, NONE_YET)


@contextmanager
def opened(run: str | None, settings: list[str], rows_needed: bool = True) -> Iterator[Source]:
    """What the arguments of a command mean; rows of a config are converted into a folder that is deleted at the end.

    Args:
        run: folder of a run; None: there is none, and `settings` say what it will be.
        settings: of pipeline.run, --config among them.
        rows_needed: whether a config's own training rows are meant, if no setting names others.

    Raises:
        UserError: no such run, both or neither of the two, or wrong settings.
    """
    if run is None:
        if not settings:
            raise UserError("name the folder of a run, or --config NAME before there is one.")
        if not rows_needed and not any(word.partition("=")[0] == "--data.train" for word in settings):
            settings = [*settings, "--data.train", NONE_YET]
        with tempfile.TemporaryDirectory() as folder:
            yield Source(_checkpoint(parse(settings)), Path(folder))
        return
    folder = Path(run)
    if settings:
        raise UserError(f"{settings[0]}: {run} is a run with settings of its own; give a run, or --config, not both.")
    config = config_of(folder, ": give --config NAME in its place")
    yield Source(_checkpoint(config), folder / "data", any((folder / "checkpoints").glob("[0-9]*")))


def _checkpoint(config: Config) -> Config:
    """The config with what its checkpoint decides, and with the checkpoint that it has pre-trained, where there is a
    corpus."""
    run_dir = Path(str(config.run_dir))
    config = settle(pin(config, run_dir), run_dir)
    if not config.corpus.train:
        return config
    # TensorFlow takes seconds to import.
    import tensorflow as tf

    from pipeline.pretraining.stage import pretraining_stage
    from pipeline.training.workers import Workers

    return pretraining_stage(replace(config, stage="finetune"), tf.distribute.get_strategy(), Workers())[0]


def without_splits(source: Source) -> Source:
    """All labelled rows are learned from, where there are too few to hold some back."""
    kept = {"validation": None, "test": None, "validation_fraction": 0.0, "test_fraction": 0.0}
    return replace(source, config=replace(source.config, data=replace(source.config.data, **kept)))
