"""A run on a TPU slice of Google Cloud: request it, set it up, train, request another when preempted, delete it.

Everything is done by `gcloud`, as a person would. What a run writes lies in a bucket, which the machine mounts with
gcsfuse under /gcs; so the slice can be preempted at any moment, and the next one resumes. The bucket must have a
hierarchical namespace: there a folder is renamed atomically, which checkpoints rely on (files.py).
"""

import dataclasses
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config, to_yaml
from pipeline.errors import TRY_AGAIN, UserError
from pipeline.files import write_text
from pipeline.local_paths import SETTINGS, is_here, items
from pipeline.tpu.target import TpuTarget

MOUNT = "/gcs"
# Sources that a machine in the cloud reaches too.
REMOTE = ("gs://", "tfds:", "wheel:", "https://")
# States of a queued resource from which it can still become ACTIVE.
WAITING = ("STATE_UNSPECIFIED", "CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING")
# ssh's own status when the connection fails, and a run's when it was asked to stop (errors.Stopped).
RESUMABLE = (255, TRY_AGAIN)
MOST_STARTS = 5
# Between two polls of the queue, and before a lost connection is retried.
POLL_SECONDS = 30.0
ROOT = Path(__file__).parents[2]


@dataclass
class Launch:
    """What is to be run, and where."""

    target: TpuTarget
    config: Config
    """From `target.adapt`."""
    name: str = "bert-pipeline"
    """Of the queued resource and of its node."""
    zone: str = ""
    project: str | None = None
    spot: bool = True

    def tpus(self, *words: str) -> list[str]:
        """A command of `gcloud compute tpus`."""
        project = [f"--project={self.project}"] if self.project else []
        return ["gcloud", "compute", "tpus", *words, f"--zone={self.zone}", *project]

    def create(self) -> list[str]:
        target = self.target
        options = ["--spot"] if self.spot else []
        if target.valid_until_duration:
            options.append(f"--valid-until-duration={target.valid_until_duration}")
        return self.tpus(
            "queued-resources", "create", self.name, f"--node-id={self.name}",
            f"--accelerator-type={target.accelerator_type}", f"--runtime-version={target.runtime_version}",
            "--scopes=https://www.googleapis.com/auth/cloud-platform", *options, "--quiet",
        )  # fmt: skip

    def queue_state(self) -> list[str]:
        return self.tpus("queued-resources", "describe", self.name, "--format=value(state.state)")

    def node_state(self) -> list[str]:
        return self.tpus("tpu-vm", "describe", self.name, "--format=value(state)")

    def copy(self, files: list[str]) -> list[str]:
        return self.tpus("tpu-vm", "scp", *files, f"{self.name}:", "--worker=all", "--quiet")

    def install(self) -> list[str]:
        return self.tpus("tpu-vm", "ssh", self.name, "--worker=all", "--command=bash install.sh", "--quiet")

    def start(self) -> list[str]:
        """TensorFlow drives all hosts of a slice from the first."""
        return self.tpus("tpu-vm", "ssh", self.name, "--worker=0", "--command=bash start.sh", "--quiet")

    def delete(self) -> list[str]:
        return self.tpus("queued-resources", "delete", self.name, "--force", "--quiet")

    def bucket_kind(self) -> list[str]:
        bucket = str(self.config.run_dir).removeprefix("gs://").partition("/")[0]
        wanted = "--format=value(hierarchical_namespace.enabled)"
        return ["gcloud", "storage", "buckets", "describe", f"gs://{bucket}", wanted]


def script(plan: Launch) -> str:
    """What `run` does, but for the repetition after a loss, as a script for bash."""
    _check_places(plan.config)
    line = shlex.join
    documents = "\n".join(f"cat > {name} <<'END'\n{text}END" for name, text in _files(plan).items())
    wheel = "bert_pipeline-*.whl"
    return f"""#!/usr/bin/env bash
set -euo pipefail
[ "$({line(plan.bucket_kind())})" = True ]  # a bucket with a hierarchical namespace
{documents}
python -m pip wheel --quiet --no-deps --wheel-dir . {shlex.quote(str(ROOT))}
{line(plan.create())}
trap {shlex.quote(line(plan.delete()))} EXIT
until [ "$({line(plan.queue_state())})" = ACTIVE ]; do sleep {POLL_SECONDS:g}; done
{line(plan.copy([wheel, *_files(plan)])).replace(shlex.quote(wheel), wheel)}
{line(plan.install())}
{line(plan.start())}
# --run repeats from `create` when the slice is preempted, until the run is done.
"""


def run(plan: Launch) -> int:
    """Train to the end, on as many slices as it takes, and delete each.

    Returns:
        The exit status: 0.

    Raises:
        UserError: one sentence on what failed; the slice is deleted.
    """
    _check_places(plan.config)
    if _output(plan.bucket_kind()).strip() != "True":
        bucket = plan.bucket_kind()[4]
        raise UserError(
            f"run_dir {plan.config.run_dir}: {bucket} has no hierarchical namespace, or cannot be seen; make one with "
            "gcloud storage buckets create gs://NAME --location=REGION --uniform-bucket-level-access "
            "--enable-hierarchical-namespace."
        )
    # SIGTERM like Ctrl-C: the slice is deleted on the way out.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory() as folder:
            files = [_wheel(Path(folder))]
            for name, text in _files(plan).items():
                write_text(Path(folder) / name, text)
                files.append(str(Path(folder) / name))
            while not _on_one_slice(plan, files):
                print(f"{plan.name} was preempted; requesting another", flush=True)
    finally:
        signal.signal(signal.SIGTERM, before)
    print(f"done: {plan.config.run_dir}")
    return 0


def _on_one_slice(plan: Launch, files: list[str]) -> bool:
    """Whether the run ended before the slice was preempted; the slice is deleted either way."""
    # Only what this call has created is deleted: create fails where the name is taken.
    _do(plan.create())
    try:
        if not _wait_until_active(plan):
            return False
        for command in (plan.copy(files), plan.install()):
            if _status(command):
                if _is_there(plan):
                    raise UserError(f"{plan.name} could not be set up: {shlex.join(command)[:160]} failed, see above.")
                return False
        for _ in range(MOST_STARTS):
            status = _status(plan.start())
            if status == 0:
                return True
            if not _is_there(plan):
                return False
            if status not in RESUMABLE:
                raise UserError(f"the run on {plan.name} ended with status {status}, see above.")
            time.sleep(POLL_SECONDS)
        raise UserError(f"the connection to {plan.name} was lost {MOST_STARTS} times in a row.")
    finally:
        if _status(plan.delete()):
            print(
                f"warning: {plan.name} may still be there and cost money: {shlex.join(plan.delete())}", file=sys.stderr
            )


def _wait_until_active(plan: Launch) -> bool:
    """Whether the slice was granted; False where it was preempted before it was ready."""
    while True:
        state = _output(plan.queue_state()).strip()
        if state == "ACTIVE":
            return True
        if state.startswith("SUSPEND"):
            return False
        if state not in WAITING:
            raise UserError(
                f"the request for {plan.target.accelerator_type} in {plan.zone} ended as {state or 'unknown'}: try "
                f"another --zone, or see {shlex.join(plan.queue_state()[:-1])}."
            )
        print(f"{plan.name}: {state}", flush=True)
        time.sleep(POLL_SECONDS)


def _is_there(plan: Launch) -> bool:
    return _output(plan.queue_state()).strip() == "ACTIVE" and _output(plan.node_state()).strip() == "READY"


def _files(plan: Launch) -> dict[str, str]:
    """The files that go to the machines beside the wheel, by name."""
    return {"run.yaml": to_yaml(mounted(plan.config)), "install.sh": _install(plan.target), "start.sh": _start(plan)}


def _install(target: TpuTarget) -> str:
    quoted, alone = shlex.join(target.packages), shlex.join(target.packages_alone)
    return f"""set -eu
cd ~
# The images' own Python is older than the pipeline takes.
python3 -m pip install --user --quiet uv
[ -d venv ] || ~/.local/bin/uv venv --quiet --seed --python {target.python} venv
install="$HOME/.local/bin/uv pip install --quiet --python venv/bin/python"
$install {quoted}
$install --no-deps {alone}
$install --no-deps bert_pipeline-*.whl
if ! command -v gcsfuse > /dev/null; then
  key=/usr/share/keyrings/cloud.google.asc
  curl -fsS https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee $key > /dev/null
  echo "deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list > /dev/null
  sudo apt-get update -qq && sudo apt-get install -y -qq gcsfuse
fi
"""


def _start(plan: Launch) -> str:
    """Safe to be run again after a lost connection: a run still in progress is asked to save its state and stop."""
    exports = dict(plan.target.environment)
    if plan.target.hosts > 1:
        exports |= {"TPU_NAME": plan.name, "TPU_LOAD_LIBRARY": "0"}
    lines = "\n".join(f"export {key}={shlex.quote(value)}" for key, value in exports.items())
    return f"""set -eu
cd ~
if [ -f run.pid ] && kill -TERM "$(cat run.pid)" 2> /dev/null; then
  tail --pid="$(cat run.pid)" -f /dev/null
fi
sudo mkdir -p {MOUNT} && sudo chown "$USER" {MOUNT}
mountpoint -q {MOUNT} || gcsfuse --implicit-dirs {MOUNT}
{lines}
TF_PLUGGABLE_DEVICE_LIBRARY_PATH=$(venv/bin/python -c 'import libtpu; print(libtpu.get_library_path())')
export TF_PLUGGABLE_DEVICE_LIBRARY_PATH
echo $$ > run.pid
exec venv/bin/python -m pipeline.run --config run.yaml
"""


def mounted(value):
    """A config, or a part of it, with gs://bucket/... as the path under which the machine has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{item.name: mounted(getattr(value, item.name)) for item in dataclasses.fields(value)}
        )
    if isinstance(value, list):
        return [mounted(item) for item in value]
    if isinstance(value, str) and value.startswith("gs://"):
        return f"{MOUNT}/{value.removeprefix('gs://')}"
    return value


def _check_places(config: Config) -> None:
    """Refuse sources that only this machine has."""
    if not str(config.run_dir).startswith("gs://"):
        raise UserError(f"run_dir {config.run_dir} would be lost with the slice: give --run_dir gs://BUCKET/FOLDER.")
    for section, key in SETTINGS:
        if config.stage == "pretrain" and section in ("data", "distillation"):
            continue
        for source in items(getattr(getattr(config, section), key)):
            # A backbone that is no file here is one by its name.
            if not source.startswith(REMOTE) and (key != "backbone" or is_here(source)):
                raise UserError(
                    f"{section}.{key} {source} is on this machine: copy it to a bucket (gcloud storage cp) and name it "
                    "gs://BUCKET/..."
                )


def _wheel(folder: Path) -> str:
    """This project as a wheel."""
    if not (ROOT / "pyproject.toml").is_file():
        raise UserError(f"{ROOT} is no checkout of the project: launch from one, for it goes to the TPU's machines.")
    # Of a copy: a build leaves files beside its sources.
    sources = folder / "sources"
    sources.mkdir()
    for name in ("pipeline", "export", "tpu_configs"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(sources)]
    process = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        lines = process.stderr.strip().splitlines() or ["no wheel came"]
        raise UserError(f"the project could not be built: {lines[-1]}")
    return str(wheels[0])


def _status(command: list[str]) -> int:
    """Run a command with its output on ours; returns its status."""
    print(f"+ {shlex.join(command)}", flush=True)
    try:
        return subprocess.run(command).returncode
    except FileNotFoundError as error:
        raise UserError("gcloud is not installed: see https://cloud.google.com/sdk/docs/install.") from error


def _do(command: list[str]) -> None:
    status = _status(command)
    if status:
        raise UserError(f"{shlex.join(command)} failed with status {status}, see above.")


def _output(command: list[str]) -> str:
    """What a command prints; nothing where it fails."""
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout
    except FileNotFoundError as error:
        raise UserError("gcloud is not installed: see https://cloud.google.com/sdk/docs/install.") from error
