"""The table of tpu_configs/README.md: does BERT-base's fine-tuning step, at full depth, compile for each slice?"""

import itertools
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

from pipeline.command_line import parse
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.tpu.check import GIB, Checked, TooLarge, check
from pipeline.tpu.target import SHIPPED, TpuTarget, adapt, read_target, shipped_names

LENGTH = 128
HEAD = (
    "| slice | cores | sequences a core | peak HBM a core, GiB | of GiB | flops a core and update | compiled in, s |\n"
    "|---|---|---|---|---|---|---|\n"
)


def write_table(names: list[str], python: Path) -> int:
    """Compile the step of each slice and write its row at once.

    Args:
        names: of shipped files.
        python: has jax and libtpu.

    Returns:
        1 where a step is too large, else 0.
    """
    status = 0
    # A process for each, which gives back the memory of its model.
    with ProcessPoolExecutor(1, max_tasks_per_child=1) as processes:
        for name, checked in zip(names, processes.map(_checked, names, repeat(python)), strict=True):
            line = row(name, read_target(name), checked)
            print(line, end="", flush=True)
            put(SHIPPED / "README.md", name, line)
            status = max(status, int(isinstance(checked.answer, TooLarge)))
    return status


def _checked(name: str, python: Path) -> Checked:
    target = read_target(name)
    size = target.cores * target.most_at_once("finetune", 768, LENGTH)
    arguments = ["--config", "bert_base", "--stage", "finetune", "--training.batch_size", str(size)]
    (checked,) = check(adapt(parse(arguments), target), target, python, search=False)
    return checked


def row(name: str, target: TpuTarget, checked: Checked) -> str:
    """A line of the table."""
    answer, start = checked.answer, f"| `{name}` | {target.cores} | {checked.at_once} x {LENGTH} |"
    if isinstance(answer, TooLarge):
        return f"{start} too large: {answer.used_bytes / GIB:.2f} | {answer.limit_bytes / GIB:.2f} | | |\n"
    return f"{start} {answer.peak_bytes / GIB:.2f} | {target.hbm_gib:g} | {answer.flops:.2e} | {answer.seconds:.0f} |\n"


def put(path: Path, name: str, line: str) -> None:
    """Put a line in the place of the one for the same slice, in the order of `shipped_names`."""
    text = path.read_text()
    before, found, after = text.partition(HEAD)
    if not found:
        raise UserError(f"{path} has no table to write into.")
    lines = list(itertools.takewhile(lambda text: text.startswith("|"), after.splitlines(keepends=True)))
    rest = after[sum(map(len, lines)) :]
    rows = {line.split("`")[1]: line for line in lines} | {name: line}
    write_text(path, before + HEAD + "".join(rows[key] for key in shipped_names() if key in rows) + rest)
