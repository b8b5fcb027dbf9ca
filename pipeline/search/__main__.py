"""Search for settings.

python -m pipeline.search --config trec --trials 20               twenty trials, then the winner with three new seeds
python -m pipeline.search --config trec --trials 50 --minutes 90  goes on with more, for 90 minutes in all
python -m pipeline.launch local --workers 4 --search -- --config trec --trials 50    four trials at a time
"""

import contextlib
import itertools
import os
import shlex
import signal
import sys
from collections.abc import Container, Iterator, MutableMapping
from typing import TYPE_CHECKING

from pipeline.command_line import DEFAULT_RECIPE, parse
from pipeline.config import Config
from pipeline.errors import TRY_AGAIN, Stopped, UserError
from pipeline.files import full_disk
from pipeline.search.config import SearchConfig
from pipeline.search.jobs import Worker
from pipeline.settings.help import help_of
from pipeline.training.cluster import find_cluster

if TYPE_CHECKING:
    from pipeline.search.search import Search

USAGE = """usage: python -m pipeline.search [--config NAME_OR_FILE] [--trials N] [--minutes M] [--section.key VALUE ...]

Try settings, and train the best again with new seeds. All of it is in RUN_DIR/search; the same command goes on where it
was stopped, with more trials or minutes further.

  --trials N, --minutes M
      The same as --search.trials and --search.minutes.
  --config NAME_OR_FILE, --section.key VALUE
      As of python -m pipeline.run.
"""
SHORT = ("trials", "minutes")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, 2 after one sentence on what is wrong, 75 when stopped in training,
    with the state saved, by SIGTERM or Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "-h" in words or "--help" in words:
        print(f"{USAGE}\n{help_of(SearchConfig, 'search.')}", end="")
        return 0
    folder = "."
    try:
        with _stoppable():
            worker = this_worker(os.environ)
            config = parse([_long(word) for word in words])
            folder = str(config.run_dir)
            found = _search(config, worker)
    except Stopped as request:
        print(request, file=sys.stderr)
        return TRY_AGAIN
    except Exception as error:
        sentence = full_disk(error, folder)
        if sentence is None and not isinstance(error, UserError | OSError):
            raise
        print(f"error: {sentence or error}", file=sys.stderr)
        return 2
    again = [*words_of_run(words, found.written), "--config", str(found.folder / "best.yaml")]
    print(f"next:\n  {shlex.join(['open', str(found.folder / 'report.html')])}")
    print(f"  python -m pipeline.run {shlex.join(again)}")
    if found.saved_model:
        print(f'  python -m export.predict {shlex.quote(str(found.saved_model))} "some text"')
    return 0


def this_worker(environment: MutableMapping[str, str]) -> Worker:
    """Which of the processes that a launcher has started this is; from then on it is alone, for each trains runs of its
    own.

    Args:
        environment: TF_CONFIG, or the variables of a Slurm step, are read and taken out.
    """
    if text := environment.pop("TF_CONFIG", ""):
        cluster = find_cluster("auto", {"TF_CONFIG": text})
        return Worker(cluster.index, len(cluster.addresses)) if cluster else Worker()
    count = int(environment.pop("SLURM_STEP_NUM_TASKS", 1))
    return Worker(int(environment.get("SLURM_PROCID", 0)), count) if count > 1 else Worker()


def words_of_run(words: list[str], written: Container[str]) -> list[str]:
    """The arguments of a run that takes what a search has found, without those that are the search's alone.

    Args:
        words: the search's own arguments.
        written: keys of best.yaml, which a command line would override.
    """
    kept, named, rest = [], False, iter(words)
    for word in rest:
        name, equals, _ = word.removeprefix("--").partition("=")
        option = [word] if equals else [word, *itertools.islice(rest, 1)]
        if name not in SHORT and not name.startswith("search.") and name not in written:
            kept += option
        named = named or name == "config"
    # best.yaml alone would take the place of the recipe that stands where none is named.
    return kept if named else ["--config", DEFAULT_RECIPE, *kept]


def _search(config: Config, worker: Worker) -> "Search":
    from pipeline.search.search import search

    if worker.count > 1:
        one_gpu(worker)
    return search(config, worker)


def one_gpu(worker: Worker) -> None:
    """Of the GPUs that are visible here, this worker uses one."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        tf.config.set_visible_devices(gpus[worker.index % len(gpus)], "GPU")


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM between two trainings, or while one is being made ready, ends the search as one in training does."""

    def stop(number, frame):
        raise Stopped("stopped as asked: start again to go on.")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _long(word: str) -> str:
    name, equals, value = word.removeprefix("--").partition("=")
    return f"--search.{name}{equals}{value}" if word.startswith("--") and name in SHORT else word


if __name__ == "__main__":
    from pipeline.entry import run_command

    run_command(main)
