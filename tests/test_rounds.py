"""Rounds of benchmarks/run.py, with made scripts: no torch, no TensorFlow."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import rounds  # noqa: E402
from rounds import Part, take_rounds  # noqa: E402
from tables import joined  # noqa: E402

# A script as those of the folder: one value a turn, written to --json; words before that are files it looks at.
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
name, folder = sys.argv[1], Path(sys.argv[2])
asked = dict(zip(sys.argv[3::2], sys.argv[4::2]))
with (folder / "asked.txt").open("a") as file:
    print(name, asked["--first-turn"], file=file)
with (folder / "told.txt").open("a") as file:
    print(*sys.argv[3:], file=file)
if (folder / f"{name} kills").exists():
    (folder / f"{name} kills").unlink()
    os.kill(os.getppid(), signal.SIGKILL)
    sys.exit(1)
if (folder / f"{name} fails").exists():
    sys.exit("it cannot be")
values = {"ours": [2.0] * int(asked["--repeats"]), "theirs": [1.0] * int(asked["--repeats"])}
machine = {"processor": "made", "cores": 1, "versions": {}, "load": [0.0, 0.0]}
report = {"comparisons": [{"title": name, "unit": "texts/s", "values": values}], "machine": machine, "failed": {}}
Path(asked["--json"]).write_text(json.dumps(report))
"""

# One that asks a contender who does not come to an end.
SLOW = """
import argparse, sys, time
sys.path.append(sys.argv.pop(1))
from tables import Comparison, Report, add_arguments, publish
from turns import take_turns
parser = argparse.ArgumentParser()
add_arguments(parser, repeats=1)
options = parser.parse_args()
asked = {"ours": lambda turn: 2.0, "slow": lambda turn: time.sleep(600), "last": float}
values, failed = take_turns(asked, options.repeats, options.first_turn)
machine = {"processor": "made", "cores": 1, "versions": {}, "load": [0.0]}
publish(Report([Comparison("Slow", "texts/s", values)], failed=failed, machine=machine), options)
"""


def test_only_few_and_light_modules_are_needed():
    heavy = "import sys, rounds; sys.exit(any(name in sys.modules for name in ('tensorflow', 'torch', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", heavy], cwd=BENCHMARKS).returncode == 0


@pytest.fixture
def made(tmp_path):
    """Folder of the scripts, parts in it."""
    (tmp_path / "script.py").write_text(SCRIPT)
    words = [str(tmp_path / "script.py")]
    return tmp_path, [Part(name, [*words, name, str(tmp_path)], turns=2) for name in ("one", "two")]


def test_rounds_go_on_where_they_were_killed(made):
    folder, parts = made
    (folder / "two kills").touch()
    names = [f"Part({part.name!r}, {list(part.command)!r}, turns=2)" for part in parts]
    code = f"""
from pathlib import Path
from rounds import Part, take_rounds
take_rounds([{", ".join(names)}], Path({str(folder)!r}), 0, lambda states: None)
"""
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=BENCHMARKS, stderr=subprocess.DEVNULL).returncode == -signal.SIGKILL
    assert subprocess.run(command, cwd=BENCHMARKS, stderr=subprocess.DEVNULL).returncode == 0
    assert (folder / "asked.txt").read_text().split("\n") == ["one 0", "two 0", "two 0", ""]
    seen = []
    take_rounds(parts, folder, 0, seen.append)
    assert {name: len(state.reports) for name, state in seen[0].items()} == {"one": 1, "two": 1}


def test_further_rounds_while_the_minutes_allow(made):
    folder, parts = made
    states = []
    take_rounds(parts, folder, 60, states.append)
    last = states[-1]
    assert {name: len(state.reports) for name, state in last.items()} == {"one": 10, "two": 10}
    assert (folder / "asked.txt").read_text().split("\n")[:4] == ["one 0", "two 0", "one 2", "two 2"]
    assert len(joined(last["one"].reports).comparisons[0].values["ours"]) == 20


def test_what_takes_minutes_is_asked_once(made):
    folder, (part, _) = made
    take_rounds([replace(part, contenders=("ours", "theirs"), once=("theirs",))], folder, 60, lambda states: None)
    told = [line.split(" --contenders ")[1] for line in (folder / "told.txt").read_text().splitlines()]
    assert told == ["ours theirs", *["ours"] * 9]


def test_a_part_that_hangs_is_ended_with_a_word_on_it(made, monkeypatch):
    folder, parts = made
    monkeypatch.setattr(rounds, "LONGEST", 0)
    states = []
    take_rounds(parts[:1], folder, 0, states.append)
    assert "not at its end after 0 minutes" in states[-1]["one"].ended


def test_a_round_that_takes_over_its_time_keeps_what_it_has(tmp_path, monkeypatch):
    # Long enough for a Python that imports next to nothing to start on a busy machine.
    monkeypatch.setattr(rounds, "LONGEST", 5)
    (tmp_path / "script.py").write_text(SLOW)
    states = []
    take_rounds([Part("slow", [str(tmp_path / "script.py"), str(BENCHMARKS)])], tmp_path, 0, states.append)
    (report,) = states[-1]["slow"].reports
    assert report.comparisons[0].values == {"ours": [2.0], "slow": [None], "last": [None]}
    # Who was not asked is asked by the next round; who took the time is not.
    assert list(report.failed) == ["slow"] and states[-1]["slow"].broken == {"slow"}


def test_a_part_that_fails_ends_no_other_and_is_tried_again_by_the_next_start(made):
    folder, parts = made
    (folder / "one fails").touch()
    parts = [*parts, Part("three", parts[0].command, needs=("no_such_module",))]
    states = []
    take_rounds(parts, folder, 0, states.append)
    assert "it cannot be" in states[-1]["one"].ended and len(states[-1]["two"].reports) == 1
    assert states[-1]["three"].ended == "left out: no_such_module not installed"
    (folder / "one fails").unlink()
    take_rounds(parts, folder, 0, states.append)
    assert len(states[-1]["one"].reports) == 1 and not states[-1]["one"].ended
