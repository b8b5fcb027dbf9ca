"""What `pipeline.train` leaves of a run, without a model: scores are a formula of the settings and the epoch."""

import json
import math
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import Diverged, Paused
from pipeline.files import write_text
from pipeline.training.pause import Pause


class Killed(BaseException):
    """As SIGKILL: nothing catches it."""


def score(config: Config, epoch: int) -> float:
    """Best at a learning rate of 1e-3 and a warm-up of 0.2; grows with the epochs."""
    training = config.training
    off = abs(math.log10(training.learning_rate) + 3) + abs(training.warmup - 0.2)
    return round((1 - 0.3 * off) * (1 - 0.5 ** (epoch + 1)) + 1e-4 * (training.seed % 3), 6)


class Trainer:
    """Trains as `pipeline.train` does, an epoch at a time.

    Args:
        kill_at: at which epoch of all that are trained the process dies; None: never.
        tick: called after each epoch.
        higher_than: training fails above this learning rate.
        fails: whether a training fails.
        undefined: whether a training's validation score is.
        test_gap: of the validation score less the test score.
    """

    def __init__(
        self,
        kill_at: int | None = None,
        tick=lambda: None,
        higher_than: float = math.inf,
        fails=lambda config: False,
        undefined=lambda config: False,
        test_gap: float = 0.01,
    ):
        self.kill_at, self.tick, self.higher_than = kill_at, tick, higher_than
        self.fails, self.undefined, self.test_gap = fails, undefined, test_gap
        self.trained: list[tuple[str, int]] = []
        self.configs: list[Config] = []

    def __call__(self, config: Config, pause: Pause) -> None:
        self.configs.append(config)
        run_dir = Path(str(config.run_dir))
        path = run_dir / "checkpoints" / "00000001" / "progress.json"
        history = json.loads(path.read_text())["progress"]["history"] if path.is_file() else []
        while len(history) < config.training.epochs and not pause.reached(len(history)):
            if config.training.learning_rate > self.higher_than or self.fails(config):
                raise Diverged("the loss is not finite any more in epoch 1.")
            if len(self.trained) == self.kill_at:
                raise Killed
            if pause.overdue():
                raise Paused("stopped as asked")
            epoch = len(history)
            self.trained.append((run_dir.name, epoch))
            scores = {} if self.undefined(config) else {"validation_macro_f1": score(config, epoch)}
            history.append({"epoch": epoch + 1, "seconds": 1.0, **scores})
            self.tick()
            self._save(config, path, history)
        if len(history) == config.training.epochs:
            scores = {"validation": {}, "train": {"history": history}}
            if config.evaluation.score_test:
                assert config.data.test is None or Path(config.data.test).is_file(), "the test rows are opened"
                known = history[-1].get("validation_macro_f1")
                scores["test"] = {"macro_f1": None if known is None else known - self.test_gap}
            write_text(run_dir / "metrics.json", json.dumps(scores))
            if config.export.enabled:
                write_text(run_dir / "saved_model" / "1" / "saved_model.pb", "")

    def _save(self, config: Config, path: Path, history: list[dict]) -> None:
        progress = {"history": history, "finished": len(history) == config.training.epochs}
        write_text(path, json.dumps({"identity": {"data": str(config.data.train)}, "progress": progress}))
