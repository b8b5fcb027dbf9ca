"""The road of a search: trials, the winner, its trainings with new seeds, the report."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from export.versions import versions_in
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.extras import require
from pipeline.files import write_text
from pipeline.run import train as train_run
from pipeline.search.budget import Clock
from pipeline.search.jobs import Job, Worker, claimed, next_trial, reserve, winner_of
from pipeline.search.results import write_results
from pipeline.search.space import Settings
from pipeline.search.study import Study, open_study
from pipeline.search.winner import Repeat, fix, next_repeat, of, repeats, run_of, scores_of, verdict
from pipeline.search.work import Train, line_of, work

BEST = "best.yaml"


@dataclass(frozen=True)
class Search:
    """What a search has found."""

    folder: Path
    """Of all of it."""
    settings: Settings
    """What to train with: the winner's, or the config's own."""
    written: Settings
    """What best.yaml holds: what differs from the config."""
    results: dict[str, Any]
    """What search.json holds."""
    saved_model: Path | None
    """Folder of the exported model of these settings; None: nothing was exported."""


def search(config: Config, worker: Worker | None = None, train: Train = train_run) -> Search:
    """Search settings for a config in `<run_dir>/search`, from where it stands to its end.

    The same call again goes on where the last one stopped, at the batch, and with more trials or minutes further.

    Args:
        config: with run_dir set; its search section says what is tried, how often and how long.
        worker: which of the processes this is that search in the same folder.
        train: what trains a run.

    Raises:
        UserError: nothing can be searched, the config's own settings fail, or no trial ended in the time given.
        Stopped: SIGTERM or Ctrl-C came in training; the state is saved.
    """
    require("search", "optuna")
    worker = worker or Worker()
    study = open_study(config)
    with Clock(study.folder / f"time-{worker.index}.json", config.search.minutes) as clock:
        for job in next_trial(study, clock, worker):
            _do(study, job, clock.deadline(reserve(study, study.trials(), worker)), train)
        trials = study.trials()
        winner = winner_of(trials, study.higher)
        if winner is None:
            raise UserError(
                f"no trial was trained to its end in {config.search.minutes} minutes; the same command with a larger "
                "--minutes goes on."
            )
        print(f"{len(trials)} trials, {clock.spent / 60:.1f} minutes: trial {winner.number} scored best")
        # ---- From here on the winner is known, and test rows may be read.
        with study.lock:
            winners = fix(study, winner, len(trials))
        for job in next_repeat(study, winner, clock):
            _do(study, job, clock.deadline(0), train)
        done = repeats(study, winner)
        found = verdict(study, winner, done)
        number = 0 if found.keep_defaults else winner.number
        written = study.settled | (trials[number].record.settings if number else {})
        write_text(study.folder / BEST, _as_yaml(written, keep=not number))
        results = write_results(study, trials, winners, done, found)
        print(found.sentence)
        before = scores_of(study, done)
        model = _brought_up_to_date(study, done, number, train)
        if scores_of(study, done) != before:
            results = write_results(study, trials, winners, done, found)
    return Search(study.folder, trials[number].record.settings, written, results, model)


def _do(study: Study, job: Job, deadline: float | None, train: Train) -> None:
    started = time.monotonic()
    trial = work(study, job, deadline, train)
    print(line_of(study, job.name, trial, time.monotonic() - started), flush=True)


def _brought_up_to_date(study: Study, done: list[Repeat], number: int, train: Train) -> Path | None:
    """Hand the trainings with new seeds to `train` once more, which knows whether anything is left to do: to score them
    under other settings of evaluation, and to export the model of the settings to take, of their first new seed, which
    no score has chosen. Returns the folder of that model."""
    complete = [each for each in done if each.trial.complete]
    first = next(iter(of(complete, number)), None)
    for each in complete:
        config, folder = run_of(study, each), each.trial.folder
        if each is first:
            config = replace(config, export=study.config.export)
        if lock := claimed(folder):
            try:
                work(study, Job("again", each.trial, config, None, lock), None, train)
            finally:
                lock.release()
    if first is None or not study.config.export.enabled:
        return None
    return next(reversed(versions_in(first.trial.folder / "saved_model")), None)


def _as_yaml(settings: Settings, keep: bool) -> str:
    """A config file; of the defaults, it holds what the search has set beside them."""
    sections: dict[str, Any] = {}
    for key, value in settings.items():
        *path, name = key.split(".")
        section = sections
        for each in path:
            section = section.setdefault(each, {})
        section[name] = value
    head = "# Keep the defaults.\n" if keep else "# Found by pipeline.search; give it as a second --config.\n"
    return head + (yaml.safe_dump(sections, sort_keys=False) if sections else "")
