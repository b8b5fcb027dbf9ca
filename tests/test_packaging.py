"""What is installed holds all that runs from a checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from tiny import write_config

from pipeline.command_line import RECIPES
from pipeline.tpu.target import shipped_names
from pipeline.version import __version__

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "export", "tpu_configs")
# Started by the other modules alone.
INNER = {"export.answer", "export.server.c_api", "pipeline.pretraining.prepare", "pipeline.tpu.compile_ahead"}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The project's wheel, of a copy: a build leaves files beside its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(sources)]
    try:
        if int(version("setuptools").partition(".")[0]) >= 77:
            # No package index is asked for what is here.
            command.append("--no-build-isolation")
    except PackageNotFoundError:
        pass
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_all_code_and_data(wheel):
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()}
    needed = {str(path) for path in files if "__pycache__" not in path.parts}
    # What folders say of themselves may stay behind.
    assert {name for name in packed ^ needed if not name.endswith(".md")} == set()
    assert wheel.name.startswith(f"bert_pipeline-{__version__}-")


def commands() -> list[str]:
    """Modules that people start with python -m."""
    files = [path for name in ("pipeline", "export") for path in (ROOT / name).rglob("*.py")]
    started = [path for path in files if '__name__ == "__main__"' in path.read_text()]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__") for path in started}
    return sorted(names - INNER)


@pytest.mark.slow
def test_an_installed_wheel_runs_from_an_empty_folder(wheel, tmp_path):
    """In an environment that sees the packages of this one, but not the checkout."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    python = tmp_path / "env/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    # On a PYTHONPATH, the checkout would pass for an installation.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([*pip, str(wheel)], check=True, env=environment)
    (site_packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
    # A path in a .pth file: the .pth files there, such as an editable installation's, are not read.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    empty = tmp_path / "empty"
    empty.mkdir()

    def run(*words: str) -> str:
        process = subprocess.run([python, *words], cwd=empty, env=environment, capture_output=True, text=True)
        assert process.returncode == 0, f"{words}: {process.stderr}"
        return process.stdout

    for name in ("pipeline", "export"):
        assert str(site_packages) in run("-c", f"import {name}; print({name}.__path__)")
    assert run("-c", "from importlib.metadata import version; print(version('bert-pipeline'))").strip() == __version__
    for name in commands():
        assert "usage:" in run("-m", name, "--help")
    run("-m", "pipeline.tpu", "check", "--help")
    names = (
        "from pipeline.tpu.target import read_target, shipped_names as n; print(*[x for x in n() if read_target(x)])"
    )
    assert run("-c", names).split() == shipped_names() != []
    for recipe in sorted(path.stem for path in RECIPES.glob("*.yaml")):
        assert "run_dir:" in run("-m", "pipeline.run", "--config", recipe, "--print_config")

    config = write_config(tmp_path / "data", rows=90, training={"epochs": 1})
    run("-m", "pipeline.run", "--config", str(config), "--run_dir", "run")
    assert "<html" in (empty / "run/report.html").read_text()
    run("-m", "export.kit", "run", "--out", "kit")
    assert {"Dockerfile", "docker-compose.yml"} <= {path.name for path in (empty / "kit").rglob("*")}
