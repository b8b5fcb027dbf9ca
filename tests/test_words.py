"""Words counted in plain Python are those that the encoder cuts, and their merges those of Hugging Face's trainer."""

import random
import subprocess
import sys
from collections import Counter

import pytest
from reference_tokenizer import basic_tokenize
from test_vocabulary import CASES, CORPUS
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from pipeline import words
from pipeline.errors import UserError
from pipeline.merging import merge_pairs
from pipeline.text import TextEncoder
from pipeline.tokenizer_rules import SPECIAL_TOKENS
from pipeline.words import WordCounter

HARD = [
    "ΑΣ ΑΣ. ΑΣΑ Σ ΑΣ\u00ad ΑΣ\u0301Α Α\u200bΣ’Α 'ΑΣ' Σ.Σ", "a\tb\x0bc\u3000d\u2028e\x85f\x00g\ufffdh",
    "中国x人，。ー한국어İIıß",
    "x" * 200 + " " + "y" * 201, "각" * 70, "\ue000 \u0378 豈 \U0002f800 \U00020000x", "don't (x-ray)#1 ~`$^", "",
]  # fmt: skip


def tokens(encoder, strings):
    return [token for row in encoder.tokenize(strings).to_list() for token in row]


@CASES
def test_words_have_the_tokens_of_their_text(lowercase):
    chance = random.Random(0)
    codes = [*range(32, 0x3100), *range(0xA000, 0xA100), 0x4E00, 0xAC00, 0xFF0C, 0x1F600, 0x1D165, 0x378, 0x10FFFF]
    fuzz = ["".join(chr(chance.choice(codes)) for _ in range(30)) for _ in range(3000)]
    letters = sorted({c for text in HARD + fuzz for word in basic_tokenize(text, lowercase) for c in word})
    vocabulary = [*SPECIAL_TOKENS, *letters, *(f"##{c}" for c in letters)]
    encoder, counter = TextEncoder(vocabulary, lowercase), WordCounter(lowercase, vocabulary)
    assert counter.unknown == encoder.unknown_character
    for text in HARD + fuzz:
        found = counter.words(text)
        assert tokens(encoder, found) == tokens(encoder, [text]), ascii(text)
        # A word is not cut by what it is in: alone it is one word too.
        assert [counter.words(word) for word in found] == [[word] for word in found], ascii(text)


@CASES
def test_words_are_those_of_google_research_bert(lowercase):
    counter = WordCounter(lowercase)
    for text in HARD[:3] + HARD[6:]:
        text = text.replace("\u2028", " ").replace("\u0378", "")
        assert counter.words(text) == basic_tokenize(text, lowercase)
    assert counter.words(HARD[3]) == ["x" * 200, counter.unknown]
    assert counter.words("a\ud800b") == ["ab"]


def test_parts_of_a_count_add_up(monkeypatch):
    texts = [sentence for document in CORPUS for sentence in document]
    whole = list(WordCounter(True).count(texts))
    monkeypatch.setattr(words, "_LOOKED_AT", 100)
    monkeypatch.setattr(words, "MOST_STRINGS", 20)
    parts = list(WordCounter(True).count(texts))
    assert len(whole) == 1 and len(parts) > 10
    assert sum(parts, Counter()) == whole[0]
    assert list(WordCounter(True).count([])) == []


def trainers_merges(counts, first, size, min_count, longest):
    """What Hugging Face's trainer makes of words, each written as often as it was counted."""
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="##"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=min_count, special_tokens=first, continuing_subword_prefix="##",
        max_token_length=longest, show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator((f"{word} " * count for word, count in counts.items()), trainer)
    numbers = tokenizer.get_vocab()
    return sorted(numbers, key=numbers.__getitem__)


def begin(counts):
    letters = sorted(set("".join(counts)))
    return [*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters)]


@pytest.mark.parametrize("letters", ["ab", "abcdefgh", "aé中😀"], ids=["two letters", "eight", "scripts"])
@pytest.mark.parametrize("seed", range(5))
def test_merges_are_those_of_hugging_face(letters, seed):
    """Runs of one letter, many ties, tokens that several pairs make, and no more pairs before the size is reached."""
    chance = random.Random(seed)
    counts = {"".join(chance.choices(letters, k=chance.randint(1, 12))): chance.randint(1, 9) for _ in range(200)}
    first = begin(counts)
    for size, min_count in ((len(first), 1), (len(first) + 40, 2), (400, 5), (5000, 1)):
        expected = trainers_merges(counts, first, size, min_count, 64)
        assert merge_pairs(counts.items(), first, size, min_count, 64) == expected


def test_merges_of_language_are_those_of_hugging_face(shared):
    from pipeline.config import CorpusConfig
    from pipeline.data.corpus import documents

    found = documents(str(shared / "data/corpora/wikitext2_valid.txt.xz"), CorpusConfig())
    counts = sum(WordCounter(True).count(sentence for document in found for sentence in document), Counter())
    first = begin(counts)
    assert merge_pairs(counts.items(), first, 8000, 2, 64) == trainers_merges(counts, first, 8000, 2, 64)


def test_long_tokens_are_not_merged():
    counts = {"a" * 40: 3, "b" * 9: 2}
    first = begin(counts)
    for longest in (5, 8, 64):
        merged = merge_pairs(counts.items(), first, 100, 1, longest)
        assert merged == trainers_merges(counts, first, 100, 1, longest)
        assert max(len(token.removeprefix("##")) for token in merged[5:]) < longest


def test_a_size_beyond_all_characters_is_refused():
    with pytest.raises(UserError, match="at most 1114112 tokens"):
        merge_pairs([], [], 2_000_000, 1, 64)


def test_a_vocabulary_is_learned_without_tensorflow(tmp_path):
    (tmp_path / "text.txt").write_text("Some words, some more.\n" * 9, encoding="utf-8")
    code = (
        "import sys, pipeline.vocabulary as v\n"
        "status = v.main(['learn', '--source', 'text.txt', '--size', '99', '--output', 'v.txt'])\n"
        "print(status, 'tensorflow' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert process.stdout.splitlines()[-1] == "0 False", process.stderr
