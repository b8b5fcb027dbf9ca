"""Documents left out by named rules: which, how many are said, and the same wherever it is done."""

import json
import os

import pytest
from tiny import VOCABULARY

from pipeline.config import CorpusConfig
from pipeline.data.corpus import reader, training_documents
from pipeline.data.filters import RULES, Filters, Text, filters_of
from pipeline.errors import UserError
from pipeline.pretraining.prepare import Part, Tokenization, key_of, main

# Forty different words a line: prose by every rule.
PROSE = [" ".join(f"{a}{b}" for b in ("ward", "light", "house", "stone")) + f" that {a} have {a}ed."
         for a in ("north", "south", "west", "east", "moon", "day", "star", "fire", "wind", "snow")]  # fmt: skip
HASHED, BULLETS = [line.replace(" ", " # ") for line in PROSE], [f"• {line}" for line in PROSE]
BAD = {
    "min_words": PROSE[:2],
    "max_words": [f"that have {n} go{n}" for n in range(26_000)],
    "min_word_length": ["the of a b c d e f g h " + " ".join(chr(97 + n) for n in range(26)) * 3],
    "max_word_length": [line.replace(" ", "unendinglylongword ") for line in PROSE],
    "max_hashes": HASHED,
    "max_ellipses": [line.replace("light", "...").replace("house", "…") for line in PROSE],
    "max_bullet_lines": BULLETS,
    "max_open_lines": [line + ".." if n % 2 else line for n, line in enumerate(PROSE)],
    "min_words_with_letters": [line.replace("stone", "12 34 56 78") for line in PROSE],
    "min_stop_words": [line.split(" that")[0] + " walking slowly." for line in PROSE],
    "max_repeated_lines": [*PROSE, *["that is all"] * 6],
    "max_repeated_line_characters": [*PROSE, *PROSE[:3]],
    "max_commonest_2gram": [line + " not one day" * 5 for line in PROSE],
    "min_sentences": [line.rstrip(".") for line in PROSE],
    "max_lorem_ipsum": [*PROSE, "Lorem ipsum dolor sit amet."],
    "max_curly_brackets": [*PROSE, "if (a) { return; }"],
}


def test_prose_stays():
    assert filters_of([], ["gopher", "c4"])(PROSE) is None


@pytest.mark.parametrize("rule", BAD)
def test_each_rule_leaves_out_what_it_is_for(rule):
    assert filters_of([], [rule])(BAD[rule]) == rule
    assert filters_of([], ["gopher", "c4"])(BAD[rule]) is not None


def test_measures_are_those_of_a_count_by_hand():
    text = ["a b c d e f", "a b c d e g h"]
    measured = {name: rule.measure(Text(text)) for name, rule in RULES.items()}
    assert measured["min_words"] == 13 and measured["max_word_length"] == 1
    # "a b" twice is the first of the commonest; the second a b c d e lies in a repeated 5-gram: 5 of 25 characters.
    assert measured["max_commonest_2gram"] == 6 / 25 and measured["max_repeated_5grams"] == 5 / 25
    assert measured["max_repeated_6grams"] == measured["max_repeated_lines"] == 0


def test_bounds_are_those_given_last():
    assert filters_of([], ["min_words"]) == Filters(bounds=(("min_words", 50),))
    assert filters_of([], ["gopher", "min_words=20"]).bounds[0] == ("min_words", 20)
    assert filters_of([], []) is None
    with pytest.raises(UserError, match=r"corpus.quality 'min_wrds': give c4, gopher or one of min_words, "):
        filters_of([], ["min_wrds"])
    for value in ("few", "nan"):
        with pytest.raises(UserError, match=f"'min_words={value}': '{value}' is no number"):
            filters_of([], [f"min_words={value}"])


def test_a_stop_word_counts_once():
    assert RULES["min_stop_words"].measure(Text(["the the the cat and the dog"])) == 2


def test_languages():
    pytest.importorskip("py3langid", reason="the extra languages is not installed here")
    keep = filters_of(["en", "zh"], [])
    assert keep(PROSE) is None and keep(["今天天气很好，我们去公园散步，晚上一起吃饭。"]) is None
    assert keep(["Die Kinder spielen heute im Garten, weil das Wetter so schön ist."]) == "languages"
    with pytest.raises(UserError, match=r"corpus.languages 'english': it is one of ace, af, "):
        filters_of(["english"], [])


def corpus(tmp_path):
    documents = [[f"{n} {line}" for line in lines] for n in range(20) for lines in (PROSE, HASHED, PROSE[:1])]
    (tmp_path / "a.txt").write_text("\n\n".join("\n".join(document) for document in documents))


def test_shards_say_what_was_left_out_of_them(tmp_path, capsys):
    corpus(tmp_path)
    given = [f"--corpus.train={tmp_path}/a.txt", f"--vocabulary={tmp_path}/vocab.txt", "--vocabulary_size=90",
             f"--output={tmp_path}/out", "--workers=1", "--shards=3", "--corpus.validation_fraction=0.2",
             "--corpus.quality=[max_hashes, min_words]"]  # fmt: skip
    assert main(given) == 0
    left = [json.loads((tmp_path / "out" / name / "left_out.json").read_text()) for name in ("train", "validation")]
    assert [sum(part.get(rule, 0) for part in left) for rule in ("max_hashes", "min_words")] == [20, 20]
    assert f"left out: {left[0]['max_hashes']} by max_hashes" in capsys.readouterr().out.replace("\n", " ")
    assert left[0]["max_hashes"] and left[1]["max_hashes"]
    # Found again, nothing is read anew, and the same is said.
    assert main(given) == 0
    assert "shard-" not in (output := capsys.readouterr().out) and "by max_hashes" in output
    assert main([*given[:-1], "--corpus.quality=[]"]) == 0
    assert not (tmp_path / "out" / "train" / "left_out.json").exists()


def test_a_corpus_that_rules_leave_out_as_a_whole_is_refused_with_the_rules(tmp_path, capsys):
    corpus(tmp_path)
    given = [f"--corpus.train={tmp_path}/a.txt", f"--output={tmp_path}/out", "--workers=1",
             "--corpus.quality=[min_words=9999, max_hashes]", "--corpus.validation_fraction=0.2"]  # fmt: skip
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY))
    assert main([*given, f"--vocabulary={vocabulary}"]) == 2
    assert "all documents are left out (60 by min_words): ask for less" in capsys.readouterr().err
    config = CorpusConfig(train=str(tmp_path / "a.txt"), validation_fraction=0.2, quality=["min_words=9999"])
    with pytest.raises(UserError, match=r"all documents are left out \(60 by min_words\)"):
        list(training_documents(config))


def test_without_the_settings_keys_stay_as_they_are(tmp_path):
    (tmp_path / "a.txt").write_text("one\n")
    os.utime(tmp_path / "a.txt", (0, 0))
    config = CorpusConfig(train=str(tmp_path / "a.txt"))
    read = {quality: reader(CorpusConfig(train=config.train, quality=list(quality)), "train")[1]
            for quality in ((), ("min_words",), ("min_words=9",))}  # fmt: skip
    keys = {key_of(each, Part(()), Tokenization("v"), b"") for each in read.values()}
    assert len(keys) == 3 and "filters" not in read[()].keywords and "quality" not in repr(read[()])
