"""A corpus prepared on Apache Beam: the shards of `prepare`, byte for byte, however they come."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from corpus_reader import read_documents
from placed_corpus import FIRST, MOST, VOCABULARY, make_documents

from pipeline.pretraining.prepare import Tokenization, main, prepare

pytest.importorskip("apache_beam", reason="the extra beam is not installed here")


@pytest.fixture
def corpus(tmp_path):
    for number in range(3):
        documents = make_documents(30, seed=number)
        (tmp_path / f"{number}.txt").write_text("\n\n".join("\n".join(document) for document in documents))
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY[: FIRST + MOST]) + "\n##p1\n")
    return [f"--corpus.train={tmp_path}/*.txt", f"--vocabulary={tmp_path}/vocab.txt", "--shards=6",
            "--corpus.validation_fraction=0.1"]  # fmt: skip


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_shards_are_those_of_prepare_byte_for_byte(corpus, tmp_path):
    filtered = [*corpus, "--corpus.quality=[min_words=200]"]
    assert main([*filtered, f"--output={tmp_path}/here", "--workers=1"]) == 0
    assert main([*filtered, f"--output={tmp_path}/beam", "--engine=beam"]) == 0
    expected = bytes_of(tmp_path / "here")
    assert b"min_words" in expected["train/left_out.json"]
    assert bytes_of(tmp_path / "beam") == expected and len(expected) > 24


def test_in_any_order_and_twice(tmp_path):
    from pipeline.pretraining.beam import _write, run

    (tmp_path / "a.txt").write_text("\n\n".join("\n".join(document) for document in make_documents(40, seed=2)))
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY[: FIRST + MOST]))
    make = partial(prepare, read_documents, [str(tmp_path / "a.txt")], Tokenization(str(tmp_path / "vocab.txt")),
                   shards=4)  # fmt: skip

    def backwards(jobs):
        for job in jobs[::-1]:
            _write(job)
        return run([], jobs)

    make(tmp_path / "here")
    make(tmp_path / "beam", engine=backwards)
    assert bytes_of(tmp_path / "beam") == bytes_of(tmp_path / "here")


def test_a_killed_command_goes_on(corpus, tmp_path):
    command = [sys.executable, "-m", "pipeline.pretraining.prepare", *corpus, "--engine=beam"]
    runner = ["--", "--runner=DirectRunner", "--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    output = tmp_path / "beam"
    process = subprocess.Popen([*command, f"--output={output}", *runner], env=environment, start_new_session=True)
    while process.poll() is None and not list((output / "train").glob("shard-*/meta.json")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert main([*corpus, f"--output={output}", "--engine=beam"]) == 0
    assert main([*corpus, f"--output={tmp_path}/here", "--workers=1"]) == 0
    assert bytes_of(output) == bytes_of(tmp_path / "here")


def test_a_vocabulary_is_counted_by_a_combine_as_here(corpus, tmp_path):
    learn = [corpus[0], "--corpus.validation_fraction=0.1", "--shards=6", "--vocabulary_size=60"]
    for engine in ("local", "beam"):
        output = ["--workers=1", f"--engine={engine}", f"--output={tmp_path}/{engine}"]
        assert main([*learn, *output, f"--vocabulary={tmp_path}/{engine}.vocab"]) == 0
        assert not (tmp_path / engine / "words").exists()
    assert (tmp_path / "beam.vocab").read_bytes() == (tmp_path / "local.vocab").read_bytes()
    assert bytes_of(tmp_path / "beam") == bytes_of(tmp_path / "local")


def test_counting_goes_on_where_it_was_killed(corpus, tmp_path):
    given = [corpus[0], "--shards=6", "--vocabulary_size=60"]
    learned = [*given, "--engine=beam", f"--vocabulary={tmp_path}/learned.vocab", f"--output={tmp_path}/beam"]
    command = [sys.executable, "-m", "pipeline.pretraining.prepare", *learned]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    words = tmp_path / "beam" / "words"
    while process.poll() is None and not list(words.glob("*.tsv")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "learned.vocab").exists()
    # What is counted is taken as it is: a word that no document has tells.
    (counted, *_) = words.glob("*.tsv")
    counted.write_bytes(counted.read_bytes() + "ø\t99\n".encode())
    assert main(learned) == 0
    assert main([*given, f"--vocabulary={tmp_path}/here.vocab", "--workers=1", f"--output={tmp_path}/here"]) == 0
    here, learned = ((tmp_path / f"{name}.vocab").read_text().split() for name in ("here", "learned"))
    assert "ø" in learned and [token for token in learned if token != "ø"] == here[:-1]
