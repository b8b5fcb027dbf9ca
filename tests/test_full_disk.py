"""A disk that fills up at any moment of a run: one sentence, status 2, and the same command goes on afterwards."""

import errno
import json
import os
import subprocess
from random import Random

import pytest
from tiny import write_config

from pipeline.errors import UserError
from pipeline.files import full_disk, in_a_sentence, write_text
from pipeline.pretraining.prepare import main as prepare
from pipeline.run import main
from pipeline.vocabulary import main as learn


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, and a function that changes its size in KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder, lambda size: subprocess.run(["mount", "-o", f"remount,size={size}k", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# What was buffered for files that are given up cannot be written either.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_disk_that_fills_up_is_one_sentence_and_the_run_goes_on(small_disk, tmp_path, capfd):
    disk, resize = small_disk
    config = write_config(tmp_path / "given", rows=3000, training={"epochs": 1})
    command = ["--config", str(config), "--run_dir", str(disk / "run"), "--training.checkpoint_seconds", "0.01"]
    failed_at = set()
    for size in [64, 128, 256, 384, 512, 640, 768, 1024, 1536, 2048, 3072, 4096, 8192, 32768]:
        resize(size)
        capfd.readouterr()
        status = main(command)
        lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
        if status == 0:
            break
        assert status == 2
        assert len(lines) == 1 and str(disk) in lines[0] and "No space left on device" in lines[0], lines
        finished = (disk / "run" / "checkpoints").glob("[0-9]*/progress.json")
        stages = [json.loads(path.read_text())["progress"]["finished"] for path in finished]
        failed_at.add("data" if not stages else "after training" if any(stages) else "training")
    assert status == 0
    assert {"data", "after training"} <= failed_at, failed_at
    assert json.loads((disk / "run" / "metrics.json").read_text())["test"]
    assert [path.name for path in (disk / "run" / "saved_model").iterdir() if not path.name.startswith(".")] == ["1"]


def test_a_file_that_cannot_be_written_leaves_what_was_there(small_disk):
    disk, _ = small_disk
    write_text(disk / "file.txt", "before")
    with pytest.raises(OSError, match="No space left"):
        write_text(disk / "file.txt", "x" * 100_000)
    assert [path.name for path in disk.iterdir()] == ["file.txt"] and (disk / "file.txt").read_text() == "before"


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_the_commands_of_pretraining_name_what_they_could_not_write(small_disk, tmp_path, capsys, workers):
    disk, resize = small_disk
    random = Random(0)
    words = ["".join(random.choices("abcdefgh", k=7)) for _ in range(4000)]
    (tmp_path / "text.txt").write_text("\n".join(" ".join(random.choices(words, k=20)) for _ in range(3000)))
    source = ["--source", str(tmp_path / "text.txt")]
    resize(16)
    assert learn(["learn", *source, "--size", "9000", "--output", str(disk / "vocab.txt")]) == 2
    assert f"error: {disk}/vocab.txt cannot be written to (No space left on device)" in capsys.readouterr().err
    assert learn(["learn", *source, "--size", "500", "--output", str(tmp_path / "vocab.txt")]) == 0
    command = ["--corpus.train", str(tmp_path / "text.txt"), "--vocabulary", str(tmp_path / "vocab.txt")]
    assert prepare([*command, "--output", str(disk / "out"), "--workers", workers, "--shards", workers]) == 2
    error = capsys.readouterr().err
    assert f"error: {disk}/out/train/shard-" in error and "No space left on device" in error
    assert not list(disk.glob("out/train/*shard-*"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_errors_of_a_full_disk_name_the_file_or_the_folder(number):
    words = os.strerror(number)
    assert full_disk(OSError(number, words, "/there/file"), "run").startswith("/there/file cannot be written to")
    assert full_disk(OSError(number, words), "run").startswith(f"run cannot be written to ({words})")
    assert full_disk(RuntimeError(f"run/variables; {words}"), "run").startswith("run cannot be written to")
    assert full_disk(OSError(errno.ENOENT, "no such file", "x"), "run") is None
    assert full_disk(ValueError("shape"), "run") is None


def test_what_is_no_fault_of_the_user_is_raised_again():
    assert in_a_sentence(UserError("no rows"), "run", (UserError, OSError)) == "no rows"
    full = RuntimeError(os.strerror(errno.ENOSPC))
    assert in_a_sentence(full, "run", (UserError, OSError)).startswith("run cannot be written to")
    with pytest.raises(ValueError, match="shape"):
        in_a_sentence(ValueError("shape"), "run", (UserError, OSError))
