"""Does a training step compile for a TPU and fit its memory? Asked of the TPU's own compiler, without a TPU."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.tpu.target import TpuTarget

GIB = 2**30
# Found while memory is assigned, or before that, from the sum of what is live at once.
_SHORT_OF_MEMORY = (
    r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm",
    r"HLO temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)",
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass
class Compiled:
    """The compiler's answer for a step that fits."""

    peak_bytes: int
    """Largest use of a core's HBM."""
    flops: float
    """Of one core in one update."""
    seconds: float
    """That the compiler took."""


@dataclass
class TooLarge:
    """The compiler's answer for a step that does not fit."""

    used_bytes: int
    limit_bytes: int


@dataclass
class Checked:
    """The outcome for one step."""

    name: str
    at_once: int
    """Sequences that a core takes at once."""
    parts: int
    """That it takes one after the other."""
    answer: Compiled | TooLarge
    largest: int | None = None
    """Where it is too large: the most sequences at once that fit; 0: not even one."""


def check(config: Config, target: TpuTarget, python: Path, search: bool = True) -> Iterator[Checked]:
    """Build, check and compile each training step of a config for a slice.

    Args:
        config: from `target.adapt`.
        target: the slice.
        python: has jax and libtpu.
        search: whether to search for the largest batch that fits where one does not.

    Raises:
        UserError: the step cannot run on a TPU at all, or the compiler failed.
    """
    from pipeline.tpu.step import steps_of

    for step in steps_of(config, target.cores):

        def compiled(at_once: int, step=step) -> Compiled | TooLarge:
            return compile_step(step.lower(at_once, target.cores), target, python)

        answer = compiled(step.at_once)
        largest = None
        if search and isinstance(answer, TooLarge):
            largest = largest_that_fits(compiled, step.at_once, answer)
        yield Checked(step.name, step.at_once, step.parts, answer, largest)


def compile_step(module: bytes, target: TpuTarget, python: Path) -> Compiled | TooLarge:
    """Compile serialized StableHLO for all cores of a slice.

    Raises:
        UserError: the compiler failed for another reason than memory.
    """
    program = Path(__file__).with_name("compile_ahead.py")
    with tempfile.NamedTemporaryFile(suffix=".stablehlo") as file:
        file.write(module)
        file.flush()
        command = [str(python), str(program), file.name, target.topology, str(target.cores)]
        command += [target.chip_config] if target.chip_config else []
        try:
            process = subprocess.run(command, capture_output=True, text=True, env=_environment())
        except OSError as error:
            raise UserError(f"--jax_python {python}: {error.strerror}.") from error
    try:
        answer = json.loads(process.stdout.strip().splitlines()[-1])
    except (IndexError, json.JSONDecodeError) as error:
        lines = process.stderr.strip().splitlines() or ["it printed nothing"]
        raise UserError(f"the TPU compiler ended with status {process.returncode}: {lines[-1]}") from error
    if "error" in answer:
        return refusal(answer["error"])
    return Compiled(answer["peak_bytes"], answer["flops"], answer["seconds"])


def refusal(message: str) -> TooLarge:
    """Parse the compiler's refusal where memory is short, which has one of two forms.

    Raises:
        UserError: the message is about something else.
    """
    for pattern in _SHORT_OF_MEMORY:
        found = re.search(pattern, message)
        if found:
            used, used_unit, limit, limit_unit = found.groups()
            return TooLarge(int(float(used) * _UNITS[used_unit]), int(float(limit) * _UNITS[limit_unit]))
    raise UserError(f"the TPU compiler refused the step: {' '.join(message.split())[:600]}")


def largest_that_fits(compiled: Callable[[int], Compiled | TooLarge], refused: int, answer: TooLarge) -> int:
    """The most sequences at once that fit, in steps of 8 from 8 on.

    A refusal takes seconds, a compilation minutes: so the search comes from above, by linear
    extrapolation from the last two refusals.

    Args:
        compiled: asks the compiler about a number of sequences.
        refused, answer: a number that does not fit, and the compiler's answer.

    Returns:
        0 where not even one fits.
    """
    fits, above, seen = 0, refused, [(refused, answer.used_bytes)]
    while True:
        below = _rounded(above - 1)
        if below <= fits:
            return fits
        # Without a second point: memory in proportion to the sequences, which is too low a guess, if any.
        (x0, y0), (x1, y1) = seen[-1], seen[-2] if len(seen) > 1 else (0, 0)
        guess = x0 - (y0 - answer.limit_bytes) * (x0 - x1) / (y0 - y1) if y0 != y1 else above / 2
        number = min(max(_rounded(int(guess)), _rounded(fits + 8) if fits >= 8 else fits + 1), below)
        result = compiled(number)
        if isinstance(result, TooLarge):
            above = number
            seen.append((number, result.used_bytes))
        else:
            fits = number
            seen.append((number, result.peak_bytes))


def _rounded(number: int) -> int:
    return number // 8 * 8 if number >= 8 else number


def _environment() -> dict[str, str]:
    """Without this process's module path: the other Python has packages of its own."""
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}


def describe(checked: Checked, target: TpuTarget) -> str:
    """One line for the person at the keyboard."""
    parts = f", {checked.parts} parts an update" if checked.parts > 1 else ""
    start = f"{checked.name}, {checked.at_once} rows a core{parts}, {target.accelerator_type}"
    answer = checked.answer
    if isinstance(answer, Compiled):
        return (
            f"{start}: fits; peak HBM {answer.peak_bytes / GIB:.2f} of {target.hbm_gib:g} GiB a core, "
            f"{answer.flops:.3g} flops a core and update, compiled in {answer.seconds:.0f} s"
        )
    largest = {None: "", 0: "; not even one row fits"}.get(
        checked.largest, f"; the most that fits is {checked.largest}"
    )
    return (
        f"{start}: too large; it takes {answer.used_bytes / GIB:.2f} GiB a core ({answer.used_bytes} bytes) of "
        f"{answer.limit_bytes / GIB:.2f} GiB ({answer.limit_bytes} bytes){largest}"
    )
