"""The Python that holds the TPU's compiler."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock

from pipeline.errors import UserError
from pipeline.files import replaced_folder
from pipeline.wheel import cache_folder

# compile_ahead.py relies on private calls, which other versions may lack. As in pyproject.toml's tpu-check.
PINS = {"jax": "0.10.2", "libtpu": "0.0.42.1"}


def compiler_python() -> Path:
    """This Python where it has the pinned packages (extra tpu-check), else one of its own, made at first use.

    A place of its own is the better one: beside jax, TensorFlow's import takes twice as long.

    Raises:
        UserError: pip cannot get the packages.
    """
    if _has_pins():
        return Path(sys.executable)
    python = own_python()
    if not python.is_file():
        folder = python.parents[1]
        folder.parent.mkdir(parents=True, exist_ok=True)
        # One process installs, others wait for it.
        with FileLock(f"{folder}.lock"):
            if not python.is_file():
                _make(folder)
    return python


def own_python() -> Path:
    """Where the compiler's own environment is, or will be."""
    name = "-".join(f"{package}{number}" for package, number in PINS.items())
    return cache_folder() / f"tpu-compiler-{name}" / "bin" / "python"


def _has_pins() -> bool:
    try:
        return all(version(package) == number for package, number in PINS.items())
    except PackageNotFoundError:
        return False


def _make(folder: Path) -> None:
    requirements = [f"{package}=={number}" for package, number in PINS.items()]
    print(f"installing the TPU compiler ({', '.join(requirements)}) in {folder} ...", file=sys.stderr, flush=True)
    with replaced_folder(folder) as temporary:
        for command in (
            [sys.executable, "-m", "venv", str(temporary)],
            # As a module: the scripts of an environment name the folder that it was made in.
            [str(temporary / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements],
        ):
            process = subprocess.run(command, capture_output=True, text=True)
            if process.returncode:
                lines = (process.stderr + process.stdout).strip().splitlines()
                errors = [line for line in lines if line.startswith("ERROR")] or lines or ["it printed nothing"]
                raise UserError(
                    f"the TPU compiler could not be installed ({errors[-1]}); give --jax_python, a Python that has "
                    f"{' and '.join(requirements)}."
                )
