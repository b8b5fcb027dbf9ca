"""A corpus tokenized once, by one process or several: what is made, kept, made anew, and in how much memory."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from corpus_reader import read_documents
from placed_corpus import FIRST, MOST, VOCABULARY, make_documents

from pipeline.errors import UserError
from pipeline.pretraining.prepare import Tokenization, prepare
from pipeline.pretraining.tokens import TokenCorpus


@pytest.fixture
def files(tmp_path):
    documents = make_documents(40, seed=2)
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY[: FIRST + MOST]) + "\n##p1\n")
    (tmp_path / "corpus.txt").write_text("\n\n".join("\n".join(document) for document in documents))
    return [str(tmp_path / "corpus.txt")], Tokenization(str(tmp_path / "vocab.txt"))


def test_two_workers_prepare_what_one_does(files, tmp_path):
    paths, tokenization = files
    read, lines = read_documents, []
    one = prepare(read, paths, tokenization, tmp_path / "one", shards=3)
    two = prepare(read, paths, tokenization, tmp_path / "two", shards=3, workers=2, progress=lines.append)
    assert one.fingerprint == two.fingerprint and len(one.stores) == 3 and one.documents == 40
    assert len(lines) == 3 and "(3 of 3 shards)" in lines[-1]
    assert TokenCorpus.open(tmp_path / "two").fingerprint == one.fingerprint


def test_killed_it_goes_on_with_the_missing_shards(files, tmp_path):
    paths, tokenization = files
    marker = tmp_path / "marker"
    marker.touch()
    read = partial(read_documents, die_at=2, marker=str(marker))
    code = (
        "import sys; from functools import partial; from corpus_reader import read_documents\n"
        "from pipeline.pretraining.prepare import Tokenization, prepare\n"
        "path, marker, vocabulary, output = sys.argv[1:]\n"
        "read = partial(read_documents, die_at=2, marker=marker)\n"
        "prepare(read, [path], Tokenization(vocabulary), output, shards=4)\n"
    )
    output, root = tmp_path / "tokens", Path(__file__).parents[1]
    process = subprocess.run(
        [sys.executable, "-c", code, paths[0], str(marker), tokenization.vocabulary, str(output)],
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"},
    )
    assert process.returncode == -9
    with pytest.raises(UserError, match="no completely prepared corpus"):
        TokenCorpus.open(output)
    finished = {path.name: path.stat().st_ino for path in output.glob("shard-*")}
    assert len(finished) == 2 and len(list(output.glob(".shard-*"))) == 1
    marker.unlink()
    lines = []
    corpus = prepare(read, paths, tokenization, output, shards=4, progress=lines.append)
    assert len(lines) == 2
    assert all((output / name).stat().st_ino == inode for name, inode in finished.items())
    assert not list(output.glob(".shard-*"))
    assert corpus.fingerprint == prepare(read, paths, tokenization, tmp_path / "fresh", shards=4).fingerprint


def test_a_changed_corpus_or_tokenization_is_prepared_anew(files, tmp_path):
    paths, tokenization = files
    read, lines = read_documents, []

    def again(tokenization=tokenization, shards=2):
        lines.clear()
        return prepare(read, paths, tokenization, tmp_path / "t", shards=shards, progress=lines.append).fingerprint

    first = again()
    assert len(lines) == 2
    assert again() == first and not lines
    again(Tokenization(tokenization.vocabulary, lowercase=False))
    assert len(lines) == 2
    again(shards=3)
    assert len(lines) == 3 and len(list((tmp_path / "t").glob("shard-*"))) == 3
    with open(paths[0], "a") as file:
        file.write("\n\nw1 w2")
    assert again() != first and len(lines) == 2
    with pytest.raises(UserError, match="the vocabulary cannot be read"):
        again(Tokenization(str(tmp_path / "none.txt")))


@pytest.mark.slow
@pytest.mark.parametrize("keep", [False, True])
def test_memory_does_not_grow_with_the_corpus(tmp_path, keep):
    """120 MB of text in a process that may have 48 MB more than it has after its first batch; a list of it may not."""
    code = (
        "import resource, sys; from corpus_reader import endless_words; from tiny import VOCABULARY\n"
        "from pipeline.pretraining.tokens import write_store; from pipeline.text import TextEncoder\n"
        "encoder = TextEncoder(VOCABULARY)\n"
        "write_store(endless_words(300, 20, 100), encoder, sys.argv[1])\n"
        "used = next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmData'))\n"
        "limit = (used << 10) + (48 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))\n"
        "documents = endless_words(10_000, 20, 100)\n"
        "try:\n"
        "    store = write_store(list(documents) if sys.argv[2] == 'True' else documents, encoder, sys.argv[1])\n"
        "    print(store.meta.tokens)\n"
        "except MemoryError:\n"
        "    print('no memory')\n"
    )
    root = Path(__file__).parents[1]
    process = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store"), str(keep)],
        capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"},
    )  # fmt: skip
    assert process.stdout.strip() == ("no memory" if keep else "20000000"), process.stderr
