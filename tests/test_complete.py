"""A run that is complete: the same command again does nothing, in the time of an import."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_pretraining import write_pretraining_config
from tiny import write_config

from pipeline.run import main

ROOT = Path(__file__).parents[1]
SAID = "nothing has changed since"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A config, its finished run, and the command."""
    folder = tmp_path_factory.mktemp("complete")
    config = write_config(folder, rows=60, model={"num_layers": 1}, training={"epochs": 1})
    words = ["--config", str(config), "--run_dir", str(folder / "run")]
    assert main(words) == 0
    return config, folder / "run", [sys.executable, "-m", "pipeline.run", *words]


def started(command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def versions(run_dir):
    return sorted(path.name for path in (run_dir / "saved_model").iterdir() if path.name.isdigit())


def test_the_same_command_again_exports_nothing_and_imports_no_tensorflow(finished):
    _, run_dir, command = finished
    before = (run_dir / "metrics.json").read_text()
    without = [sys.executable, "-X", "importtime", *command[1:]]
    done = subprocess.run(without, cwd=ROOT, check=True, capture_output=True, text=True)
    assert SAID in done.stdout
    assert not any(line.split("|")[-1].strip() in ("tensorflow", "keras") for line in done.stderr.splitlines())
    assert versions(run_dir) == ["1"] and (run_dir / "metrics.json").read_text() == before


def test_train_gives_what_the_run_has_made(finished):
    from pipeline import read_config, train

    config, run_dir, _ = finished
    settings = read_config(config)
    settings.run_dir = str(run_dir)
    run = train(settings)
    assert run.metrics == json.loads((run_dir / "metrics.json").read_text())
    assert run.saved_model == run_dir / "saved_model" / "1"


@pytest.mark.parametrize("what", ["a setting", "the data", "the report", "the model", "the code"])
def test_whatever_changes_is_done_again(finished, monkeypatch, what):
    from pipeline import complete
    from pipeline.command_line import parse
    from pipeline.run_folder import held

    _, run_dir, command = finished
    words = [*command[3:], *(["--evaluation.mistakes", "3"] if what == "a setting" else [])]
    with held(parse(command[3:])) as (config, _):
        assert complete.metrics_of_complete(config, complete.state_of(config)) is not None
    source = Path(str(config.data.train))
    rows = source.read_bytes()
    moved = {"the report": run_dir / "report.html", "the model": run_dir / "saved_model" / "1"}.get(what)
    if moved:
        moved.rename(moved.with_suffix(".away"))
    if what == "the data":
        source.write_bytes(rows[:-3] + b"x\r\n")
    if what == "the code":
        monkeypatch.setattr(complete, "version", lambda name: "3.0")
    try:
        with held(parse(words)) as (config, _):
            assert complete.metrics_of_complete(config, complete.state_of(config)) is None
    finally:
        if moved:
            moved.with_suffix(".away").rename(moved)
        source.write_bytes(rows)


@pytest.mark.parametrize("what", ["saved again", "away"])
def test_a_source_that_is_saved_again_or_away_is_no_change(finished, what):
    from pipeline import complete
    from pipeline.command_line import parse
    from pipeline.run_folder import held

    _, _, command = finished
    with held(parse(command[3:])) as (config, _):
        source = Path(str(config.data.train))
    if what == "away":
        source.rename(source.with_suffix(".away"))
    else:
        os.utime(source, ns=(0, 0))
    try:
        with held(parse(command[3:])) as (config, _):
            assert complete.metrics_of_complete(config, complete.state_of(config)) is not None
    finally:
        if what == "away":
            source.with_suffix(".away").rename(source)


def test_a_run_that_ends_halfway_under_other_settings_leaves_nothing_complete(finished, tmp_path, monkeypatch, capsys):
    """Scores and report are then of the other settings, whatever was noted before."""
    import pipeline.publish

    config, run_dir, _ = finished
    words = ["--config", str(config), "--run_dir", str(shutil.copytree(run_dir, tmp_path / "run"))]
    assert main(words) == 0 and SAID in capsys.readouterr().out

    def killed(*_):
        raise OSError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(pipeline.publish, "export", killed)
        assert main([*words, "--evaluation.mistakes", "3"]) == 2
    assert main(words) == 0 and SAID not in capsys.readouterr().out
    assert versions(tmp_path / "run") == ["1", "2"]


def test_stage_pretrain_of_a_finished_run_leaves_its_results(tmp_path):
    """The calibration among them, which `convert` reads."""
    config = write_pretraining_config(tmp_path, [{"steps": 2, "sequence_length": 16, "batch_size": 8}])
    words = ["--config", str(config), "--run_dir", str(tmp_path / "run"), "--export.enabled", "false"]
    assert main(words) == 0
    results = {name: (tmp_path / "run" / name).read_bytes() for name in ("metrics.json", "report.html")}
    assert "test" in json.loads(results["metrics.json"])
    assert main([*words, "--stage", "pretrain"]) == 0
    assert {name: (tmp_path / "run" / name).read_bytes() for name in results} == results


@pytest.mark.slow
def test_force_exports_once_more(finished):
    _, run_dir, command = finished
    assert SAID not in started([*command, "--export.force", "true"])
    assert versions(run_dir)[-1] == "2"
    assert SAID in started(command)
