"""Several devices and several workers against one device; workers that are lost, late, asked to stop or never there.

Clusters are real processes on this machine.
"""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import cluster_cases
import numpy as np
import pytest
import tensorflow as tf
from test_resume import ROOT, assert_same_end, position
from tiny import VOCABULARY, write_config, write_rows

from pipeline.command_line import parse
from pipeline.config import DataConfig
from pipeline.data.batching import BatchOptions, training_batches
from pipeline.data.load import load
from pipeline.errors import UserError, WorkerLost
from pipeline.launch import start_local
from pipeline.run import main
from pipeline.run_folder import fingerprint
from pipeline.text import TextEncoder
from pipeline.training.cluster import Cluster, find_cluster
from pipeline.training.rendezvous import rendezvous
from pipeline.training.strategy import choose_strategy
from pipeline.training.workers import Workers

ONE_THREAD = {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """What a case gives on one device."""

    @functools.cache
    def outcome(name):
        return cluster_cases.run_case(name, tf.distribute.get_strategy(), Workers(), tmp_path_factory.mktemp("one"))

    return outcome


def assert_alike(found, expected, name):
    """Adam makes steps of its learning rate (0.01) out of any gradient, so rounding shows; bfloat16 has 8 bits."""
    weights = 2e-3 if name == "bfloat16" else 5e-6
    assert set(found) == set(expected)
    for key, value in expected.items():
        tolerance = weights if key.startswith("weight") else 100 * weights if name == "bfloat16" else 2e-5
        np.testing.assert_allclose(found[key], value, atol=tolerance, rtol=0, err_msg=f"{name}: {key}")


def run_cluster(cases, folder, workers=2, devices=1):
    program = (str(ROOT / "tests" / "cluster_cases.py"),)
    environment = {**ONE_THREAD, "CASES": json.dumps(list(cases))}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = start_local(workers, [str(folder), str(devices)], environment, program, **options)
    outputs = [process.communicate(timeout=1500)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * workers, "\n".join(outputs)


def test_two_workers_give_the_weights_and_scores_of_one_device(tmp_path, one_device):
    """Accumulation, class weights, clipping, several updates in one execution, a last batch that one worker has nothing
    of, all at once; and a private training."""
    cases = ["together", "private"]
    run_cluster(cases, tmp_path)
    for name in cases:
        assert_alike(np.load(tmp_path / f"{name}.npz"), one_device(name), name)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "devices"), [(2, 1), (2, 2)])
def test_every_case_on_two_workers(tmp_path, one_device, workers, devices):
    # Parts of one row for each of four devices would be less than a row.
    cases = [name for name in cluster_cases.CASES if devices == 1 or name != "pretraining_several"]
    run_cluster(cases, tmp_path, workers, devices)
    for name in cases:
        assert_alike(np.load(tmp_path / f"{name}.npz"), one_device(name), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(cluster_cases.CASES))
def test_every_case_on_two_devices_of_one_process(tmp_path, one_device, name):
    found = cluster_cases.run_case(name, choose_strategy("mirrored"), Workers(), tmp_path)
    assert_alike(found, one_device(name), name)


@pytest.mark.parametrize("by_length", [True, False])
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_see_each_row_once_an_epoch_in_the_batches_of_one(tmp_path, workers, by_length):
    data = load(DataConfig(train=str(write_rows(tmp_path / "rows.csv", 150)), validation_fraction=0, test_fraction=0),
                tmp_path / "data")  # fmt: skip
    encoder = TextEncoder(VOCABULARY, True, 24)

    def batches(shard, skip=0):
        options = BatchOptions(16, by_length=by_length, shard=shard)
        dataset = training_batches(data.train, encoder, data.task, options, epoch=1, skip=skip)
        return [
            [(ids[ids > 0].tolist(), label.tolist(), float(weight)) for ids, label, weight in zip(
                inputs["token_ids"], targets, weights, strict=True)]
            for inputs, targets, weights in dataset.as_numpy_iterator()
        ]  # fmt: skip

    whole = batches((0, 1))
    assert sum(weight for batch in whole for _, _, weight in batch) == 150
    parts = [batches((index, workers)) for index in range(workers)]
    assert [[row for rows in slices for row in rows] for slices in zip(*parts, strict=True)] == whole
    assert batches((1, workers), skip=3) == parts[1][3:]


@pytest.fixture
def cluster_run(tmp_path):
    """start(run_dir, ...): two workers of pipeline.run on tiny data; all are gone at the end."""
    config = write_config(tmp_path, rows=400, training={"strategy": "auto", "epochs": 2})
    started = []

    def start(run_dir, *more):
        command = ["--config", str(config), "--run_dir", str(run_dir), *more]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
        processes = start_local(2, command, ONE_THREAD, **options)
        started.extend(processes)
        return processes

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(run_dir, moment, processes):
    while position(run_dir) < moment:
        assert all(process.poll() is None for process in processes), [p.communicate() for p in processes]
        time.sleep(0.01)


def ends(processes, *statuses):
    """Standard output of the chief and standard errors of all, after they have ended with these statuses."""
    outputs = [process.communicate(timeout=550) for process in processes]
    assert tuple(process.returncode for process in processes) == statuses, outputs
    return outputs[0][0], [error for _, error in outputs]


FREQUENT = ("--training.checkpoint_seconds", "0.05")


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_other_with_its_name(tmp_path, cluster_run):
    processes = cluster_run(tmp_path / "run", *FREQUENT)
    wait_for(tmp_path / "run", (0, 3), processes)
    processes[1].kill()
    _, errors = ends(processes, 69, -signal.SIGKILL)
    assert "error: worker 1 (127.0.0.1:" in errors[0] and "is gone" in errors[0]
    assert "Traceback" not in errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_killed_and_started_again_ends_bit_for_bit_as_if_nothing_had_happened(tmp_path, cluster_run, lost):
    ends(cluster_run(tmp_path / "whole", *FREQUENT), 0, 0)
    processes = cluster_run(tmp_path / "killed", *FREQUENT)
    wait_for(tmp_path / "killed", (1, 3), processes)
    processes[lost].kill()
    statuses = [69, 69]
    statuses[lost] = -signal.SIGKILL
    _, errors = ends(processes, *statuses)
    assert ["the chief (", "worker 1 ("][lost] in errors[1 - lost]
    output, _ = ends(cluster_run(tmp_path / "killed", *FREQUENT), 0, 0)
    assert "resuming in epoch 2 after" in output
    assert_same_end(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "number"), [([0], signal.SIGTERM), ([1], signal.SIGTERM), ([1], signal.SIGINT), ([0, 1], signal.SIGINT)]
)
def test_a_signal_to_any_worker_saves_and_stops_all(tmp_path, cluster_run, asked, number):
    """SIGTERM to one; Ctrl-C to all, as from a terminal."""
    ends(cluster_run(tmp_path / "whole"), 0, 0)
    processes = cluster_run(tmp_path / "stopped")
    wait_for(tmp_path / "stopped", (1, 0), processes)
    for index in asked:
        processes[index].send_signal(number)
    ends(processes, 75, 75)
    assert position(tmp_path / "stopped") > (1, 0)
    ends(cluster_run(tmp_path / "stopped"), 0, 0)
    assert_same_end(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.slow
def test_a_worker_that_hangs_is_found_out(tmp_path, cluster_run):
    """Stopped, not killed: its connections stay."""
    processes = cluster_run(tmp_path / "run", *FREQUENT)
    wait_for(tmp_path / "run", (0, 3), processes)
    processes[1].send_signal(signal.SIGSTOP)
    processes[0].wait(timeout=120)
    processes[1].kill()
    _, errors = ends(processes, 69, -signal.SIGKILL)
    assert "is gone" in errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_worker_that_dies_before_tensorflow_connects_ends_the_other(tmp_path, lost):
    config = write_config(tmp_path, rows=40, training={"strategy": "auto"})
    arguments = ["--config", str(config), "--run_dir", str(tmp_path / "run"), "--training.workers_timeout", "30"]
    places = addresses(2)
    cluster = {"cluster": {"worker": places}, "task": {"type": "worker", "index": 1 - lost}}
    environment = {**os.environ, **ONE_THREAD, "TF_CONFIG": json.dumps(cluster)}
    process = subprocess.Popen([sys.executable, "-m", "pipeline.run", *arguments], env=environment, cwd=ROOT)
    try:
        rendezvous(Cluster(places, lost), fingerprint(parse(arguments)), 30)
        assert process.wait(timeout=90) == -signal.SIGALRM
    finally:
        process.kill()


@pytest.mark.slow
def test_two_workers_go_all_the_way_from_raw_text(tmp_path):
    """Pre-training, fine-tuning and export; the chief alone writes."""
    from test_pretraining import write_pretraining_config

    config = write_pretraining_config(tmp_path)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    command = ["--config", str(config), "--run_dir", str(tmp_path / "run"), "--training.strategy", "multiworker"]
    processes = start_local(2, command, ONE_THREAD, **options)
    output, _ = ends(processes, 0, 0)
    assert "exported and verified" in output
    assert "2 workers with 1 CPU device each, batch of 8, 4 a device, float32" in output
    assert len(list((tmp_path / "run" / "logs" / "pretraining").iterdir())) == 1


def addresses(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    for each in sockets:
        each.close()
    return found


def meeting(cluster_addresses, index, outcomes, settings="same", timeout=10.0):
    def run():
        try:
            rendezvous(Cluster(cluster_addresses, index), settings, timeout)
            outcomes[index] = "met"
        except (UserError, WorkerLost) as error:
            outcomes[index] = error

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_late_worker_is_waited_for():
    places, outcomes = addresses(3), {}
    threads = [meeting(places, 1, outcomes)]
    time.sleep(0.3)
    threads.append(meeting(places, 0, outcomes))
    time.sleep(0.3)
    # A health check, and a worker that is started twice.
    socket.create_connection(("127.0.0.1", int(places[0].rpartition(":")[2]))).close()
    assert not outcomes
    threads.append(meeting(places, 2, outcomes))
    for thread in threads:
        thread.join()
    assert outcomes == dict.fromkeys(range(3), "met")


def test_a_worker_that_never_comes_is_named_by_all():
    places, outcomes = addresses(3), {}
    for thread in [meeting(places, index, outcomes, timeout=1.0) for index in (0, 1)]:
        thread.join()
    for error in outcomes.values():
        assert isinstance(error, WorkerLost)
        assert f"worker 2 ({places[2]}) did not come within 1 s" in str(error)
    with pytest.raises(WorkerLost, match=rf"the chief \({places[0]}\) did not come within 0.1 s"):
        rendezvous(Cluster(places, 1), "", 0.1)


def test_workers_with_other_settings_are_refused():
    places, outcomes = addresses(2), {}
    for thread in [meeting(places, index, outcomes, settings=str(index)) for index in (0, 1)]:
        thread.join()
    for error in outcomes.values():
        assert isinstance(error, UserError)
        assert f"worker 1 ({places[1]}) has other settings" in str(error)


def tf_config(index=0, job="worker", **jobs):
    return {"TF_CONFIG": json.dumps({"cluster": jobs, "task": {"type": job, "index": index}})}


def test_clusters_of_tf_config():
    assert find_cluster("auto", {}) is None
    assert find_cluster("auto", tf_config(worker=["a:1"])) is None
    assert find_cluster("auto", {"TF_CONFIG": "{}"}) is None
    assert find_cluster("auto", tf_config(1, worker=["a:1", "b:1"])) == Cluster(("a:1", "b:1"), 1)
    assert find_cluster("auto", tf_config("0", worker=["b:1"], chief=["a:1"])) == Cluster(("a:1", "b:1"), 1)
    assert find_cluster("auto", tf_config(0, "chief", worker=["b:1"], chief=["a:1"])) == Cluster(("a:1", "b:1"), 0)


def test_clusters_of_slurm():
    """Ranks follow Slurm's order of hosts, in which n9 comes before n10."""
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "5", "SLURM_STEP_NODELIST": "n[9-10],m2",
            "SLURM_STEP_TASKS_PER_NODE": "2(x2),1", "SLURM_PROCID": "2"}  # fmt: skip
    cluster = find_cluster("auto", step)
    assert cluster == Cluster(("n9:12007", "n9:12008", "n10:12007", "n10:12008", "m2:12007"), 2)
    assert find_cluster("auto", {**step, "SLURM_STEP_NUM_TASKS": "1"}) is None
    with pytest.raises(UserError, match="describe 6 tasks, but 5"):
        find_cluster("auto", {**step, "SLURM_STEP_NUM_TASKS": "6"})


@pytest.mark.parametrize(
    ("strategy", "environment", "message"),
    [
        ("auto", tf_config(worker=["a:1"], ps=["b:1"]), "the job 'ps'"),
        ("auto", tf_config(job="evaluator", worker=["a:1", "b:1"]), "the job 'evaluator'"),
        ("auto", tf_config(2, worker=["a:1", "b:1"]), "this is worker 2, but has 2"),
        ("auto", tf_config(worker=["a:1", "a:1"]), "a host:port of its own"),
        ("auto", tf_config(worker=["a", "b:1"]), "'a': give each worker a host:port"),
        ("auto", {"TF_CONFIG": "worker"}, "TF_CONFIG is not of the form"),
        ("one", tf_config(worker=["a:1", "b:1"]), "training.strategy one is for one process"),
        ("multiworker", {}, "needs a cluster of two workers"),
    ],
)
def test_clusters_that_cannot_be_used_are_refused(strategy, environment, message):
    with pytest.raises(UserError, match=message):
        find_cluster(strategy, environment)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--training.strategy", "mirrored", "--training.batch_size", "7"],
            "batch_size 7 does not divide into 2 devices",
        ),
        (["--training.strategy", "mirrored", "--training.batch_size", "6", "--training.accumulation", "2"], "times 2"),
        (["--training.strategy", "tpu"], "there is no TPU at 'local'"),
        (["--training.strategy", "multiworker"], "needs a cluster"),
    ],
)
def test_devices_that_cannot_be_used_are_one_sentence(tmp_path, capsys, arguments, message):
    config = write_config(tmp_path)
    assert main(["--config", str(config), "--run_dir", str(tmp_path / "run"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
