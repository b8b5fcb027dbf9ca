"""Words counted in stretches and parts: always the same, with the rarest left out."""

import itertools
import random
from collections import Counter
from functools import partial

import pytest

from pipeline import word_counts
from pipeline.pretraining.prepare import Part
from pipeline.pretraining.words import WordJob, count_here, count_words
from pipeline.word_counts import WordCounts, totals

WORDS = Counter({f"w{number}": 1 + 400 // (1 + number) for number in range(300)} | {"ü": 3, "肾": 500})


def stretches(seed):
    """Counts that add up to WORDS, divided and ordered at random."""
    draw = random.Random(seed)
    parts = [Counter() for _ in range(7)]
    for word in WORDS.elements():
        draw.choice(parts)[word] += 1
    return parts


@pytest.mark.parametrize("most", [1000, 302, 40, 3])
def test_sums_are_exact_whatever_lies_on_disk(monkeypatch, most):
    monkeypatch.setattr(word_counts, "MOST_WORDS", most)
    monkeypatch.setattr(word_counts, "MOST_FILES", 3)
    assert list(totals(stretches(1))) == sorted(WORDS.items())


@pytest.mark.parametrize("most", [1000, 100, 30])
def test_what_is_kept_follows_from_the_counts_alone(monkeypatch, most):
    monkeypatch.setattr(word_counts, "MOST_WORDS", most)
    # The lowest counts go, whole, until no more than `most` are left.
    least = next(c for c in itertools.count(1) if sum(count >= c for count in WORDS.values()) <= most)
    for seed in range(20):
        items = random.Random(seed).sample(sorted(WORDS.items()), len(WORDS))
        cuts = [items[i::5] for i in range(5)]
        merged = WordCounts().merge(WordCounts().add(cut) for cut in cuts)
        for found in (WordCounts().add(items).prune(), merged):
            assert found.words == {word: count for word, count in WORDS.items() if count >= least}
            assert found.first == {"w": sum(WORDS.values()) - 503, "ü": 3, "肾": 500}
            assert found.within.total() == sum(count * (len(word) - 1) for word, count in WORDS.items())


def one_document(files, part, text, met=None):
    yield [text] if part[0] == 0 else ["b " + text]


def test_a_part_that_is_counted_is_not_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(word_counts, "MOST_FILES", 2)
    jobs = [WordJob(partial(one_document, text="a b c"), Part(("x",), number, 5), True, str(tmp_path / f"{number}.tsv"))
            for number in range(5)]  # fmt: skip
    count_words(jobs[0])
    assert (tmp_path / "0.tsv").read_bytes() == b"a\t1\nb\t1\nc\t1\n"
    (tmp_path / "0.tsv").write_bytes(b"kept\t7\n")
    assert count_here(1, jobs).words == {"a": 4, "b": 8, "c": 4, "kept": 7}
    assert len(list(tmp_path.iterdir())) == 5
