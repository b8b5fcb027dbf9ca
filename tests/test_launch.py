"""What `python -m pipeline.launch` prints is valid, and what it starts locally ends as its workers do."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline import launch
from pipeline.training.cluster import find_cluster

ROOT = Path(__file__).parents[1]
QUOTED = ["--data.text_columns", "[first, second]", "--config", "it's.yaml"]


def printed(capsys, *arguments):
    assert launch.main([*arguments, "--", *QUOTED]) == 0
    return capsys.readouterr().out


def test_slurm_script(capsys, tmp_path):
    script = printed(capsys, "slurm", "--nodes", "4", "--gpus", "2", "--cpus", "24")
    assert "#SBATCH --nodes=4\n" in script and "#SBATCH --gpus-per-node=2\n" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    assert "--gpus" not in printed(capsys, "slurm", "--gpus", "0")

    # Run it, with a srun that writes down what it was given and ends like a run that was asked to stop.
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, body in {
        "srun": f'printf "%s\\n" "$@" > {tmp_path}/srun; exit $SRUN_STATUS',
        "scontrol": f'echo "$@" > {tmp_path}/scontrol',
    }.items():
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    for status, again in ((0, False), (2, False), (69, True), (75, True), (142, True)):
        (tmp_path / "scontrol").unlink(missing_ok=True)
        environment = {"PATH": f"{tools}:/usr/bin:/bin", "SRUN_STATUS": str(status), "SLURM_JOB_ID": "7"}
        assert subprocess.run(["bash", "-c", script], env=environment).returncode == status
        assert (tmp_path / "scontrol").is_file() == again
    given = (tmp_path / "srun").read_text().splitlines()
    # srun of Slurm 22.05 and later gives a task one core where it is not told.
    assert "#SBATCH --cpus-per-task=24\n" in script and "--cpus-per-task=24" in given[: given.index("python")]
    assert given[given.index("pipeline.run") + 1 :] == [*QUOTED, "--training.strategy", "multiworker"]


def test_kubernetes_manifest(capsys):
    text = printed(capsys, "kubernetes", "--workers", "3", "--gpus", "2", "--image", "image:1", "--claim", "runs")
    service, job = yaml.safe_load_all(text)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 3
    assert service["spec"]["selector"] == job["spec"]["template"]["metadata"]["labels"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert container["command"][3:] == [*QUOTED, "--training.strategy", "multiworker"]
    config = {item["name"]: item for item in container["env"]}["TF_CONFIG"]["value"]
    cluster = find_cluster("multiworker", {"TF_CONFIG": config.replace("$(WORKER_INDEX)", "2")})
    assert cluster.index == 2
    assert cluster.addresses == tuple(f"bert-{i}.bert:12345" for i in range(3))


def test_workers_of_a_search_have_trials_of_their_own(capsys):
    script = printed(capsys, "slurm", "--nodes", "4", "--gpus", "2", "--cpus", "16", "--search")
    assert "#SBATCH --ntasks-per-node=2\n#SBATCH --cpus-per-task=8\n#SBATCH --gpus-per-node=2\n" in script
    assert "--cpus-per-task=8 python -m pipeline.search --data.text_columns" in script and "multiworker" not in script
    text = printed(capsys, "kubernetes", "--gpus", "8", "--search", "--image", "image:1", "--claim", "runs")
    (container,) = list(yaml.safe_load_all(text))[1]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "pipeline.search", *QUOTED]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_kubernetes_accepts_the_manifest(capsys):
    validate = pytest.importorskip("kubernetes_validate", reason="pip install -e '.[test]'")
    for document in yaml.safe_load_all(printed(capsys, "kubernetes", "--image", "image:1", "--claim", "runs")):
        validate.validate(document, "1.30", strict=True)


def test_local_workers_are_given_one_cluster_and_their_worst_status_is_returned(tmp_path):
    program = tmp_path / "worker.py"
    program.write_text(
        "import json, os, sys\n"
        "index = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
        f"open(rf'{tmp_path}/{{index}}', 'w').write(os.environ['TF_CONFIG'])\n"
        "sys.exit([69, int(sys.argv[1]), 69][index])\n"
    )

    def statuses(status):
        processes = launch.start_local(3, [str(status)], program=(str(program),))
        return [process.wait() for process in processes]

    assert statuses(75) == [69, 75, 69]
    clusters = [find_cluster("auto", {"TF_CONFIG": (tmp_path / str(index)).read_text()}) for index in range(3)]
    assert [cluster.index for cluster in clusters] == [0, 1, 2]
    assert len({cluster.addresses for cluster in clusters}) == 1
    assert len(set(clusters[0].addresses)) == 3
    assert launch.worst([69, 75, 69]) == 75
    assert launch.worst([0, 69]) == 69
    assert launch.worst([69, -9]) == 137
    assert launch.worst([-14, -9]) == 137
    assert launch.worst([0, -14]) == 142
    assert launch.worst([0, 0]) == 0


@pytest.mark.parametrize("search", [[], ["--search"]], ids=["run", "search"])
def test_wrong_settings_are_one_sentence_from_all_workers(search):
    command = [sys.executable, "-m", "pipeline.launch", "local", *search, "--", "--config", "nowhere"]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == 2
    assert process.stderr.count("error: --config nowhere: no such file") == 2
    assert not process.stdout
