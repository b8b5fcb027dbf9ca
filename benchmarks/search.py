"""What a search finds in equal minutes: this pipeline's, and optuna with its TPE sampler and median pruning.

    python benchmarks/search.py --train train.csv --test test.csv --rows 1000 --layers 2 --minutes 6 --searches 2
    python benchmarks/search.py --train train.csv --test test.csv --rows 1000 --layers 2 --rungs 20

Needs `pip install -e .[search]`. Both search the usual space around the same config on the same rows, one trial after
the other, begin with the config's own settings, and train by `pipeline.train`; optuna hears of each epoch and prunes
below the median, and a trial that the end of the time meets is lost to it. The settings that each has found are then
trained with new seeds; their means are printed, with those of the config's own.

Where others use the machine, minutes of the clock are not equal: --processor, on one core (taskset), makes them so.
The second command trains so many settings to their end and tells how much a score at a share of their epochs says.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from finetune import CHECKPOINT

from pipeline import Config, train
from pipeline.errors import Diverged, Paused
from pipeline.extras import require
from pipeline.search import budget, work
from pipeline.search.halving import pauses
from pipeline.search.propose import distribution, propose
from pipeline.search.search import search
from pipeline.search.space import Settings, with_settings
from pipeline.search.study import open_study
from pipeline.training import fit, pause
from pipeline.training.pause import Pause


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", required=True, help="csv with columns text and label")
    parser.add_argument("--test", required=True)
    parser.add_argument("--rows", type=int, default=1000, help="of the training file")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="folder or wheel:...")
    parser.add_argument("--layers", type=int, help="only the first ones of the checkpoint")
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--processor", action="store_true", help="minutes of processor time, not of the clock")
    parser.add_argument("--searches", type=int, default=2, help="seeds of the search")
    parser.add_argument("--seeds", type=int, default=3, help="new seeds for what was found")
    parser.add_argument("--rungs", type=int, help="settings of which the ranks at rungs are compared, without a search")
    options = parser.parse_args()
    if options.processor:
        processor = SimpleNamespace(monotonic=time.process_time, sleep=time.sleep)
        for module in (budget, work, pause, sys.modules[__name__]):
            vars(module)["time"] = processor
    if options.rungs:
        with tempfile.TemporaryDirectory() as folder:
            compare_ranks(config_of(options, Path(folder)), options.rungs)
        return
    found: dict[str, list[tuple[float, float]]] = {"defaults": [], "ours": [], "optuna": []}
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(options, Path(folder))
        found["defaults"].append(trained_again(config, {}, options.seeds))
        for seed in range(options.searches):
            config.search.seed = seed
            for name, contender in (("ours", ours), ("optuna", by_optuna))[:: 1 if seed % 2 == 0 else -1]:
                config.run_dir = str(Path(folder, f"{name}-{seed}"))
                trials, settings = contender(config)
                scores = trained_again(config, settings, options.seeds)
                found[name].append(scores)
                print(f"{name}, seed {seed}: {trials}; validation {scores[0]:.4f}, test {scores[1]:.4f}; {settings}")
    for name, scores in found.items():
        validation, test = (statistics.mean(part) for part in zip(*scores, strict=True))
        print(f"{name:9} validation {validation:.4f}  test {test:.4f}")


def config_of(options: argparse.Namespace, folder: Path) -> Config:
    """What all begin with."""
    config = Config(run_dir=str(folder / "defaults"))
    config.data.train, config.data.test = options.train, options.test
    config.data.max_examples, config.data.validation_fraction = options.rows, 0.3
    config.model.backbone, config.model.num_layers, config.model.pooling = options.checkpoint, options.layers, "mean"
    config.text.sequence_length, config.training.epochs = 64, 6
    config.export.enabled = False
    config.search.minutes, config.search.trials, config.search.repeats = options.minutes, None, 0
    return config


def ours(config: Config) -> tuple[str, Settings]:
    """The best trial of `pipeline.search`."""
    results = search(config).results
    trials = results["trials"]
    complete = sum(trial["complete"] for trial in trials)
    return f"{len(trials)} trials, {complete} to their end", results["winner"]["settings"]


def by_optuna(config: Config) -> tuple[str, Settings]:
    """The best trial of optuna's own loop."""
    optuna = require("search", "optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_study(config)
    deadline = time.monotonic() + 60 * (config.search.minutes or 0)
    sampler = optuna.samplers.TPESampler(seed=config.search.seed)
    made = optuna.create_study(
        direction="maximize" if study.higher else "minimize", sampler=sampler, pruner=optuna.pruners.MedianPruner()
    )
    made.enqueue_trial(study.defaults)

    def objective(trial) -> float:
        drawn = {setting.key: suggested(trial, distribution(optuna, setting), setting.key) for setting in study.space}
        heard: list[float] = []

        def finish_epoch(model, lesson, progress, checkpoints, row) -> None:
            original(model, lesson, progress, checkpoints, row)
            heard.append(row[f"validation_{study.monitor}"])
            trial.report(heard[-1], len(heard))
            if trial.should_prune():
                raise optuna.TrialPruned

        original, fit._finish_epoch = fit._finish_epoch, finish_epoch
        try:
            train(study.trial_run(drawn, study.folder / str(trial.number)), Pause(deadline=deadline))
        except Diverged as error:
            raise optuna.TrialPruned from error
        finally:
            fit._finish_epoch = original
        return max(heard) if study.higher else min(heard)

    while time.monotonic() < deadline:
        made.optimize(objective, n_trials=1, catch=Paused)
    states = [trial.state.name for trial in made.trials]
    return f"{len(states)} trials, {states.count('COMPLETE')} to their end", made.best_params


def compare_ranks(config: Config, count: int) -> None:
    """Print Spearman's correlation of the best score up to a share of the epochs with the best of all."""
    from scipy.stats import spearmanr

    study = open_study(config)
    sign = 1 if study.higher else -1
    curves = []
    for number in range(1, count + 1):
        # The first proposals, spread over the space.
        settings = propose(study.space, config.search.seed, number, [], study.higher, lambda _: True)
        run = train(study.trial_run(settings or {}, study.folder / str(number)))
        history = run.metrics["train"]["history"]
        curves.append([sign * row[f"validation_{study.monitor}"] for row in history])
    ends = [max(curve) for curve in curves]
    for halving in (9, 4, 3, 2):
        at = [max(curve[: pauses([1 / halving], len(curve))[0]]) for curve in curves]
        print(f"after 1/{halving} of the epochs: {spearmanr(at, ends)[0]:.2f}")


def suggested(trial, of, key: str):
    """A value of a distribution, by the methods that users call."""
    if hasattr(of, "choices"):
        return trial.suggest_categorical(key, of.choices)
    suggest = trial.suggest_int if isinstance(of.low, int) else trial.suggest_float
    return suggest(key, of.low, of.high, log=of.log)


def trained_again(config: Config, settings: Settings, seeds: int) -> tuple[float, float]:
    """Mean validation and test macro F1 of the settings with new seeds."""
    scores = []
    for seed in range(1, seeds + 1):
        run = with_settings(config, settings)
        run.training.seed, run.run_dir = seed, f"{config.run_dir}-again-{seed}"
        metrics = train(run).metrics
        best = metrics["train"]["best_epoch"] - 1
        scores.append((metrics["train"]["history"][best]["validation_macro_f1"], metrics["test"]["macro_f1"]))
    validation, test = (statistics.mean(part) for part in zip(*scores, strict=True))
    return validation, test


if __name__ == "__main__":
    main()
