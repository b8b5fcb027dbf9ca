"""Near duplicates of documents: found as exact shingles say, left out of what is prepared, said with their number."""

import json
import random

import numpy as np
import pytest
from placed_corpus import FIRST, MOST, VOCABULARY

from pipeline.config import CorpusConfig
from pipeline.data.near_duplicates import HASHES, SHINGLE, near_duplicates, signature
from pipeline.pretraining.duplicates import left_out
from pipeline.pretraining.prepare import main
from pipeline.pretraining.tokens import TokenCorpus

WORDS = [f"word{number}" for number in range(3000)]


def documents(count: int, words: int = 150) -> list[list[str]]:
    made = random.Random(1)
    return [made.choices(WORDS, k=words) for _ in range(count)]


def changed(words: list[str], count: int, seed: int) -> list[str]:
    """With so many words replaced, each some way from the next."""
    made, found = random.Random(seed), list(words)
    for place in range(0, count * 10, 10):
        found[place] = made.choice(WORDS)
    return found


def shingles(words: list[str]) -> set:
    return {tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}


def jaccard(one: list[str], other: list[str]) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def test_signatures_estimate_the_share_of_common_shingles():
    for number, words in enumerate(documents(20, 300)):
        other = changed(words, number, number)
        equal = (signature(" ".join(words)) == signature(" ".join(other))).mean()
        # Five standard deviations of a share of so many.
        assert equal == pytest.approx(jaccard(words, other), abs=5 * 0.5 / HASHES**0.5)


@pytest.mark.parametrize(("replaced", "low", "high"), [(1, 0.97, 1), (2, 0.8, 1), (7, 0, 0.2), (12, 0, 0)])
def test_what_is_found_by_how_much_is_changed(replaced, low, high):
    """One word of 150 leaves 0.93 of the shingles, two 0.87, seven 0.62, twelve 0.42."""
    first = documents(200)
    texts = [*first, *(changed(words, replaced, number) for number, words in enumerate(first))]
    found = near_duplicates(np.stack([signature(" ".join(words)) for words in texts]))
    assert not found[:200].any(), "the first stays"
    assert low <= found[200:].mean() <= high


def test_case_marks_and_spaces_do_not_count_and_short_texts_are_whole():
    assert (signature("The  team, and THE coach!") == signature("the team and the coach")).all()
    texts = ["a b", "a b", "b a", "我喜欢", "我喜欢。", "我不喜欢"]
    assert near_duplicates(np.stack([signature(text) for text in texts])).tolist() == [0, 1, 0, 0, 1, 0]
    assert signature(" ... ") is None


def prepared(folder, output, *arguments):
    (folder / "vocabulary").write_text("\n".join(VOCABULARY[: FIRST + MOST]) + "\nword1\nword2\n")
    return main([f"--corpus.train={folder}/*.txt", f"--vocabulary={folder}/vocabulary", f"--output={folder}/{output}",
                 "--workers=1", *arguments])  # fmt: skip


def test_a_corpus_is_prepared_without_them(tmp_path, capsys):
    first = documents(30)
    again = [changed(words, 1, number) for number, words in enumerate(first[:6])]
    for name, found in (("a", first), ("b", [*again, *first[:3], *documents(40)[30:]])):
        (tmp_path / f"{name}.txt").write_text("\n\n".join(" ".join(words) for words in found))
    for shards in (1, 4):
        assert prepared(tmp_path, shards, "--corpus.deduplicate=true", f"--shards={shards}") == 0
        assert "9 of 49 documents (18.4%) are near duplicates of others: left out." in capsys.readouterr().out
        corpora = [TokenCorpus.open(tmp_path / str(shards) / name) for name in ("train", "validation")]
        assert sum(corpus.documents for corpus in corpora) == 40
    assert prepared(tmp_path, "all") == 0
    assert sum(TokenCorpus.open(tmp_path / "all" / name).documents for name in ("train", "validation")) == 49


def test_what_is_left_out_is_kept_and_found_anew_when_a_file_changes(tmp_path, capsys):
    text = "\n\n".join(" ".join(words) for words in documents(3))
    (tmp_path / "a.txt").write_text(text)
    config = CorpusConfig(train=str(tmp_path / "*.txt"), deduplicate=True)
    first = left_out(config, tmp_path)
    assert first is not None and first.of(str(tmp_path / "a.txt")) == frozenset()
    before = (tmp_path / "duplicates.json").stat().st_mtime_ns
    assert left_out(config, tmp_path) == first and (tmp_path / "duplicates.json").stat().st_mtime_ns == before
    (tmp_path / "b.txt").write_text(text)
    second = left_out(config, tmp_path, workers=2)
    assert second is not None and second.of(str(tmp_path / "b.txt")) == {0, 1, 2}
    assert first != second and repr(second) == f"LeftOut(digest={second.digest!r})"
    assert json.loads((tmp_path / "duplicates.json").read_text())["documents"] == 6
    assert "3 of 6 documents" in capsys.readouterr().out
