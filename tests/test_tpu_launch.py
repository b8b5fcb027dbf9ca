"""Launching on TPU slices, against a stand-in for gcloud and with real shells."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.local_paths import SETTINGS
from pipeline.tpu import launch
from pipeline.tpu.__main__ import main
from pipeline.tpu.launch import _wheel

ARGUMENTS = [
    "launch", "v5e-8", "--config", "own_csv", "--data.train", "gs://bucket/data/*.csv", "--model.backbone",
    "wheel:a==1/b", "--run_dir", "gs://bucket/runs/one", "--name", "mine",
]  # fmt: skip
GOOD = {"bucket": [[0, "True"]], "queue": [[0, "ACTIVE"]], "node": [[0, "READY"]]}


class Gcloud:
    """The stand-in, on PATH."""

    def __init__(self, folder: Path):
        self.folder = folder
        program = folder / "gcloud"
        source = Path(__file__).with_name("fake_gcloud.py").read_text()
        program.write_text(f"#!{sys.executable}\n{source}")
        program.chmod(0o755)

    def answer(self, **answers) -> None:
        (self.folder / "answers.json").write_text(json.dumps(GOOD | answers))

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls.json"
        return [" ".join(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []

    def kinds(self) -> list[str]:
        """What was asked, but for looks at states."""
        names = {"create": "create", "scp": "copy", "install.sh": "install", "start.sh": "start", "delete": "delete"}
        return [
            next(name for word, name in names.items() if word in " ".join(call.split()[2:5]) or f"bash {word}" in call)
            for call in self.calls
            if "describe" not in call
        ]


@pytest.fixture
def gcloud(tmp_path, monkeypatch) -> Gcloud:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(launch, "_wheel", lambda folder: str(Path(folder) / "bert_pipeline-0.whl"))
    monkeypatch.setattr(launch, "POLL_SECONDS", 0.0)
    fake = Gcloud(folder)
    fake.answer()
    return fake


WHOLE = ["create", "copy", "install", "start", "delete"]


def test_a_run_goes_from_the_queue_to_the_end_and_leaves_nothing(gcloud, capsys):
    gcloud.answer(queue=[[0, "WAITING_FOR_RESOURCES"], [0, "PROVISIONING"], [0, "ACTIVE"]])
    assert main([*ARGUMENTS, "--run", "--zone", "somewhere", "--project", "ours"]) == 0
    assert gcloud.kinds() == WHOLE
    (create,) = (call for call in gcloud.calls if " create " in call)
    assert "--accelerator-type=v5litepod-8 --runtime-version=v2-alpha-tpuv5-lite" in create
    assert "--spot" in create
    assert all("--zone=somewhere --project=ours" in call for call in gcloud.calls if "compute tpus" in call)
    (install,) = (call for call in gcloud.calls if "install.sh --quiet" in call)
    assert "--worker=all" in install
    assert "done: gs://bucket/runs/one" in capsys.readouterr().out


@pytest.mark.parametrize(
    "lost",
    [
        {"start": [[255, ""], [0, ""]], "queue": [[0, "ACTIVE"], [0, "SUSPENDED"], [0, "ACTIVE"]]},
        {"start": [[255, ""], [0, ""]], "node": [[0, "PREEMPTED"], [0, "READY"]]},
        {"start": [[75, ""], [0, ""]], "queue": [[0, "ACTIVE"], [1, ""], [0, "ACTIVE"]]},
    ],
    ids=["suspended", "preempted", "gone"],
)
def test_a_slice_taken_away_is_asked_for_again_with_the_same_run(gcloud, lost):
    gcloud.answer(**lost)
    assert main([*ARGUMENTS, "--run"]) == 0
    assert gcloud.kinds() == [*WHOLE, *WHOLE]
    starts = [call for call in gcloud.calls if "start.sh --quiet" in call]
    assert starts[0] == starts[1]


def test_a_slice_taken_away_during_the_setting_up_is_asked_for_again(gcloud):
    gcloud.answer(install=[[1, ""], [0, ""]], queue=[[0, "ACTIVE"], [0, "SUSPENDING"], [0, "ACTIVE"]])
    assert main([*ARGUMENTS, "--run"]) == 0
    assert gcloud.kinds() == ["create", "copy", "install", "delete", *WHOLE]


def test_a_lost_connection_is_taken_up_again_on_the_same_slice(gcloud):
    gcloud.answer(start=[[255, ""], [255, ""], [0, ""]])
    assert main([*ARGUMENTS, "--run"]) == 0
    assert gcloud.kinds() == ["create", "copy", "install", "start", "start", "start", "delete"]


@pytest.mark.parametrize(
    ("answers", "said", "kinds"),
    [
        ({"start": [[2, ""]]}, "ended with status 2", WHOLE),
        ({"start": [[255, ""]]}, "lost 5 times in a row", ["create", "copy", "install", *["start"] * 5, "delete"]),
        ({"install": [[1, ""]]}, "could not be set up", ["create", "copy", "install", "delete"]),
        ({"queue": [[0, "FAILED"]]}, "ended as FAILED", ["create", "delete"]),
        ({"create": [[1, ""]]}, "failed with status 1", ["create"]),
        ({"bucket": [[0, "None"]]}, "hierarchical namespace", []),
    ],
)
def test_a_failure_is_one_sentence_and_leaves_no_slice_of_ours(gcloud, capsys, answers, said, kinds):
    gcloud.answer(**answers)
    assert main([*ARGUMENTS, "--run"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and said in lines[0]
    assert gcloud.kinds() == kinds


def test_a_slice_that_could_not_be_deleted_is_named(gcloud, capsys):
    gcloud.answer(delete=[[1, ""]])
    assert main([*ARGUMENTS, "--run"]) == 0
    assert "cost money: gcloud compute tpus queued-resources delete mine" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_launcher_that_is_stopped_deletes_its_slice(gcloud, number):
    gcloud.answer(queue=[[0, "WAITING_FOR_RESOURCES"]])
    program = (
        # A test run in the background has inherited that SIGINT is ignored.
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pipeline.tpu import launch, __main__ as tpu\n"
        "launch._wheel = lambda folder: 'x.whl'; launch.POLL_SECONDS = 0.05\n"
        f"sys.exit(tpu.main({[*ARGUMENTS, '--run']!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any("queued-resources describe" in call for call in gcloud.calls):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=60) != 0
    assert gcloud.kinds() == ["create", "delete"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--run_dir", "runs/here"], "run_dir runs/here would be lost"),
        (["--data.train", "here.csv"], "data.train here.csv is on this machine"),
        (["--data.test", "[gs://a/b.csv, c.csv]"], "data.test c.csv is on this machine"),
        (["--model.backbone", "."], r"model.backbone . is on this machine"),
        (["--training.batch_size", "12"], "does not divide among the 8 cores"),
    ],
)
def test_what_the_slice_cannot_reach_or_divide_is_refused_before_anything_is_asked_for(gcloud, capsys, arguments, said):
    for extra in ([], ["--run"]):
        assert main([*ARGUMENTS, *arguments, *extra]) == 2
        assert said in capsys.readouterr().err
    assert gcloud.calls == []


@pytest.mark.parametrize(("section", "key"), SETTINGS)
def test_each_setting_that_may_name_a_local_file_is_looked_at(section, key, tmp_path):
    (tmp_path / "here").touch()
    config = Config(run_dir="gs://bucket/run")
    kept = getattr(getattr(config, section), key)
    for place, refused in ((str(tmp_path / "here"), True), ("gs://bucket/there", False)):
        setattr(getattr(config, section), key, [place] if isinstance(kept, list) else place)
        with (
            pytest.raises(UserError, match=rf"{section}\.{key} .*here is on this machine") if refused else nullcontext()
        ):
            launch._check_places(config)


def test_without_gcloud_it_says_so(gcloud, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    assert main([*ARGUMENTS, "--run"]) == 2
    assert "gcloud is not installed" in capsys.readouterr().err


def test_the_printed_script_does_the_same(gcloud, capsys, tmp_path):
    assert main([*ARGUMENTS, "--run"]) == 0
    ran = [call for call in gcloud.calls if "tpu-vm describe" not in call]
    capsys.readouterr()
    assert main(ARGUMENTS) == 0
    script = tmp_path / "script.sh"
    script.write_text(capsys.readouterr().out)
    (gcloud.folder / "calls.json").unlink()
    # In place of pip's build.
    (gcloud.folder / "python").write_text("#!/bin/sh\ntouch bert_pipeline-0.whl\n")
    (gcloud.folder / "python").chmod(0o755)
    subprocess.run(["bash", script], cwd=tmp_path, check=True)
    folders = (Path(word).parent for call in ran for word in call.split() if word.endswith("run.yaml"))
    folder = f"{next(folders)}/"
    assert gcloud.calls == [call.replace(folder, "") for call in ran]


@pytest.fixture
def machine(tmp_path, capsys, monkeypatch) -> Path:
    """A home folder as on a slice's machine, with run.yaml and the scripts, and stand-ins for what only it has."""
    assert main(ARGUMENTS) == 0
    home = tmp_path / "home"
    (home / "venv" / "bin").mkdir(parents=True)
    text = capsys.readouterr().out
    for name in ("install.sh", "start.sh", "run.yaml"):
        body = text.split(f"cat > {name} <<'END'\n")[1].split("\nEND\n")[0]
        (home / name).write_text(body + "\n")
    programs = {
        "venv/bin/python": 'if [ "$1" = -c ]; then echo /lib/libtpu.so; exit; fi\n'
        'trap "echo stopped >> $HOME/started; exit 75" TERM\n'
        'rm "$HOME/wait" 2> /dev/null && wait=yes\n'
        'echo "$@" "$PJRT_DEVICE" "$TF_PLUGGABLE_DEVICE_LIBRARY_PATH" >> "$HOME/started"\n'
        '[ -z "$wait" ] || while :; do sleep 0.05; done\n',
        "sudo": "", "mountpoint": "exit 1", "gcsfuse": 'echo "$@" > "$HOME/mounted"',
    }  # fmt: skip
    (home / "bin").mkdir()
    for name, body in programs.items():
        path = home / name if "/" in name else home / "bin" / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{home / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("USER", "me")
    return home


def test_the_machine_runs_the_config_with_the_bucket_mounted(machine):
    subprocess.run(["bash", "start.sh"], cwd=machine, check=True)
    assert (machine / "started").read_text() == "-m pipeline.run --config run.yaml TPU /lib/libtpu.so\n"
    assert (machine / "mounted").read_text() == "--implicit-dirs /gcs\n"
    config = yaml.safe_load((machine / "run.yaml").read_text())
    assert config["run_dir"] == "/gcs/bucket/runs/one" and config["data"]["train"] == "/gcs/bucket/data/*.csv"
    assert config["text"]["fixed_length"] and config["training"]["strategy"] == "tpu"
    subprocess.run(["bash", "-n", "install.sh"], cwd=machine, check=True)


def test_a_second_start_lets_the_first_save_its_state(machine):
    (machine / "wait").touch()
    first = subprocess.Popen(["bash", "start.sh"], cwd=machine)
    while not (machine / "started").exists():
        time.sleep(0.02)
    second = subprocess.Popen(["bash", "start.sh"], cwd=machine)
    # The second waits until the first is gone, and that is when its parent has asked for its status.
    assert first.wait(timeout=60) == 75
    assert second.wait(timeout=60) == 0
    lines = (machine / "started").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["-m", "stopped", "-m"]


@pytest.mark.network
def test_the_wheel_holds_the_project(tmp_path):
    names = zipfile.ZipFile(_wheel(tmp_path)).namelist()
    assert {"pipeline/run.py", "pipeline/tpu/compile_ahead.py", "pipeline/configs/bert_base.yaml"} <= set(names)
    assert {"export/loading.py", "pipeline/evaluation/report.html.j2"} <= set(names)


def test_outside_a_checkout_there_is_no_wheel(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "ROOT", tmp_path)
    with pytest.raises(UserError, match="no checkout"):
        _wheel(tmp_path)
