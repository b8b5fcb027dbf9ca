"""Scripts in rounds, each round in a file of its own: what has been measured is kept, whatever ends this process.

The next round is always that of the script with the fewest, so that all have been measured once before any is twice,
and turns of one script are spread over the whole time.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from commands import finishes
from tables import Report, read
from turns import missing

# Rounds of a part; seconds of a round, and those behind it in which it may write down what it has by then.
MOST, LONGEST, GRACE = 10, 1800, 120


@dataclass(frozen=True)
class Part:
    """A script with its words.

    Attributes:
        name: of its files.
        command: the script and what it is told, but for turns.
        contenders: what `--contenders` gets, where the script has that option.
        once: those of them that are asked until they have given a value, as they take minutes.
        turns: of a round.
        needs: modules without which it is left out.
        before: words for Python that make what it reads; run until they have come to a good end once.
    """

    name: str
    command: Sequence[str]
    contenders: Sequence[str] = ()
    once: Sequence[str] = ()
    turns: int = 1
    needs: Sequence[str] = ()
    before: Sequence[str] = ()


@dataclass
class State:
    """What is known of a part.

    Attributes:
        reports: of its rounds.
        seconds: that its rounds took, those without a report included.
        ended: why there will be no more of them in this start.
        broken: contenders that failed in this start: to fail can take minutes, so they are not asked again.
    """

    reports: list[Report] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    ended: str = ""
    broken: set[str] = field(default_factory=set)


def take_rounds(parts: Sequence[Part], folder: Path, minutes: float, after: Callable[[dict[str, State]], None]) -> None:
    """Measure until the minutes are over, those of earlier starts with the same folder included.

    Args:
        parts: what to measure. Each gets one round, however long that takes; further ones while they fit.
        folder: gets `rounds/` and `logs/`. What failed in an earlier start is tried again.
        minutes: for all rounds together.
        after: called with the state of each part before the first round and after each.
    """
    (folder / "rounds").mkdir(parents=True, exist_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    states = {part.name: _known(folder, part) for part in parts}
    after(states)
    while True:
        left = 60 * minutes - sum(second for state in states.values() for second in state.seconds)
        fitting = [part for part in parts if _goes_on(states[part.name], left)]
        if not fitting:
            return
        part = min(fitting, key=lambda part: len(states[part.name].reports))
        number = len(states[part.name].reports)
        print(f"{part.name}, round {number + 1}; {max(left, 0) / 60:.0f} minutes left", file=sys.stderr, flush=True)
        _take(part, number, folder, states[part.name])
        after(states)


def _measured(state: State) -> set[str]:
    """Contenders that have given a value."""
    comparisons = [one for report in state.reports for one in report.comparisons]
    return {name for one in comparisons for name, values in one.values.items() if any(values)}


def _goes_on(state: State, left: float) -> bool:
    fits = not state.reports or state.seconds[-1] <= left
    return not state.ended and len(state.reports) < MOST and fits


def _known(folder: Path, part: Part) -> State:
    """What earlier starts have left."""
    state = State()
    while (path := _file(folder, part, len(state.reports))).exists():
        record = json.loads(path.read_text("utf-8"))
        state.reports.append(read(record["report"]))
        state.seconds.append(record["seconds"])
    absent = missing({part.name: part.needs})
    state.ended = f"left out: {absent[part.name]}" if absent else ""
    return state


def _file(folder: Path, part: Part, number: int) -> Path:
    return folder / "rounds" / f"{part.name}-{number}.json"


def _take(part: Part, number: int, folder: Path, state: State) -> None:
    """One round; where it gives no report, it is the part's last one in this start."""
    # Of this process: one that was killed may have left a script that still writes its own.
    made, log = folder / "rounds" / f".{part.name}-{os.getpid()}", folder / "logs" / f"{part.name}-{number}.txt"
    command = [sys.executable, *part.command, "--repeats", str(part.turns)]
    command += ["--first-turn", str(number * part.turns), "--json", str(made)]
    if part.contenders:
        left_out = state.broken | (set(part.once) & _measured(state))
        command += ["--contenders", *(name for name in part.contenders if name not in left_out)]
    if part.before and not _prepared(part, folder / "rounds" / f"{part.name}.prepared", log):
        state.ended = f"failed: {_end(log)}"
        return
    started = time.monotonic()
    with log.open("a", encoding="utf-8") as output:
        finishes(command, LONGEST, output, GRACE)
    state.seconds.append(time.monotonic() - started)
    if not made.exists():
        hung = f"not at its end after {LONGEST // 60} minutes; "
        state.ended = f"failed: {hung if state.seconds[-1] >= LONGEST else ''}{_end(log)}"
        return
    record = {"seconds": state.seconds[-1], "report": json.loads(made.read_text("utf-8"))}
    made.write_text(json.dumps(record, indent=1), "utf-8")
    os.replace(made, _file(folder, part, number))
    state.reports.append(read(record["report"]))
    state.broken.update(record["report"]["failed"])
    if part.contenders and state.broken >= set(part.contenders):
        state.ended = "failed: all contenders did"


def _prepared(part: Part, mark: Path, log: Path) -> bool:
    if not mark.exists():
        with log.open("w", encoding="utf-8") as output:
            if not finishes([sys.executable, *part.before], LONGEST, output):
                return False
        mark.touch()
    return True


def _end(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    return f"{lines[-1]} ({log})" if lines else f"without a word ({log})"
