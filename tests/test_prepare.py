"""A corpus tokenized once, by one process or several: what is made, kept, made anew, and in how much memory."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from corpus_reader import read_documents
from placed_corpus import FIRST, MOST, VOCABULARY, make_documents
from tiny import SPECIAL

from pipeline.config import CorpusConfig
from pipeline.data.corpus import files_of, reader
from pipeline.errors import UserError
from pipeline.pretraining import prepare as preparing
from pipeline.pretraining.prepare import Part, Tokenization, divided, main, prepare
from pipeline.pretraining.tokens import TokenCorpus


@pytest.fixture
def files(tmp_path):
    documents = make_documents(40, seed=2)
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY[: FIRST + MOST]) + "\n##p1\n")
    (tmp_path / "corpus.txt").write_text("\n\n".join("\n".join(document) for document in documents))
    return [str(tmp_path / "corpus.txt")], Tokenization(str(tmp_path / "vocab.txt"))


@pytest.mark.slow
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


@pytest.fixture
def many(tmp_path):
    """A corpus in six files of 40 documents each, its config and its vocabulary."""
    (tmp_path / "vocab.txt").write_text(
        "\n".join([*SPECIAL, *"abcdefghijkl", *"0123456789", *["##0", "##1", "##2", "##3"]])
    )
    (tmp_path / "texts").mkdir()
    for name in "abcdef":
        write_texts(tmp_path, name)
    config = CorpusConfig(train=str(tmp_path / "texts"), lines="documents", validation_fraction=0.2)
    return config, Tokenization(str(tmp_path / "vocab.txt"))


def write_texts(folder, name, first=0):
    (folder / "texts" / f"{name}.txt").write_text("".join(f"{name} {i}\n" for i in range(first, first + 40)))


def test_files_that_come_change_or_go_redo_only_their_shards(many, tmp_path):
    config, tokenization = many
    lines = []

    def again(output="tokens"):
        lines.clear()
        corpora = []
        for name in ("train", "validation"):
            files, read = reader(config, name)
            folder = tmp_path / output / name
            corpora.append(prepare(read, files, tokenization, folder, shards=6, progress=lines.append))
        return corpora

    train, held_out = again()
    whole = len(lines)
    assert train.documents + held_out.documents == 240 and 20 < held_out.documents < 80
    assert whole > 4 and len(list((tmp_path / "tokens" / "train").glob("shard-*"))) == whole // 2
    again()
    assert not lines
    # In the middle of the others, added, changed and taken away; what is left of it all is what a fresh folder gets.
    for step in (lambda: write_texts(tmp_path, "bb"), lambda: write_texts(tmp_path, "c", 5),
                 lambda: (tmp_path / "texts" / "d.txt").unlink()):  # fmt: skip
        step()
        train, held_out = again()
        assert len(lines) in (0, 2), lines
    fresh = again("fresh")
    assert [train.fingerprint, held_out.fingerprint] == [corpus.fingerprint for corpus in fresh]
    # A list of the same files is the same corpus.
    config.train = files_of(config.train)
    assert again()[0].fingerprint == train.fingerprint and not lines


def test_shards_by_size(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "LARGE", 100)
    for name, size in (("a", 10), ("b", 20), ("c", 300)):
        (tmp_path / name).write_bytes(b"x" * size)
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert divided([a, b]) == [Part((a, b))]
    pieces = [Part((c,), index, 4) for index in range(4)]
    assert divided([c]) == pieces
    # A large one is cut as if it were alone, and small ones lie in the same shards with and without it.
    assert [part for part in divided([a, b, c]) if part.files == (c,)] == pieces
    assert {part.files for part in divided([a, b, c])} == {(a,), (b,), (c,)}
    assert divided(["tfds:x"])[0] == Part(("tfds:x",), 0, 4)
    assert divided([a], 3) == [Part((a,), index, 3) for index in range(3)]
    names = [str(tmp_path / f"file{i}") for i in range(50)]
    together = divided(names, 7)
    assert len(together) == 7 and sorted(file for part in together for file in part.files) == sorted(names)


def run_command(config, tmp_path, *arguments):
    return main([
        "--corpus.train", str(config.train), "--corpus.lines", "documents", "--vocabulary", str(tmp_path / "vocab.txt"),
        "--output", str(tmp_path / "out"), "--workers", "1", *arguments,
    ])  # fmt: skip


def test_nothing_held_out_is_remarked(many, tmp_path, capsys):
    config, _ = many
    assert run_command(config, tmp_path, "--corpus.validation_fraction", "0.2") == 0
    assert "warning" not in capsys.readouterr().err
    assert run_command(config, tmp_path, "--corpus.validation_fraction", "0.00001") == 0
    assert "none of 240 documents fell to corpus.validation_fraction 1e-05; raise it" in capsys.readouterr().err
    assert run_command(config, tmp_path, "--corpus.validation_fraction", "0") == 0
    assert "nothing is held out" in capsys.readouterr().err
    assert not TokenCorpus.open(tmp_path / "out" / "validation").documents
    (tmp_path / "blank.txt").write_text(" \n")
    assert run_command(config, tmp_path, "--corpus.validation", str(tmp_path / "blank.txt")) == 0
    assert "corpus.validation has no text" in capsys.readouterr().err
    config.train = tmp_path / "blank.txt"
    assert run_command(config, tmp_path) == 2
    assert "blank.txt: there is no text" in capsys.readouterr().err
