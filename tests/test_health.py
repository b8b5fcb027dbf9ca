"""Warnings on what the data is: each with its number, on the console, in the report and again at the end of a run."""

import html

import numpy as np
import pytest
from tiny import SUBJECTS, VOCABULARY, write_config

from pipeline.config import DataConfig
from pipeline.data.health import conflicting_rows, label_set_keys, look_alike_labels, size_warnings
from pipeline.data.load import load
from pipeline.data.reading import cut_shares_of_labels, read, read_splits, vocabulary_warnings
from pipeline.run import main
from pipeline.text import TextEncoder

WHOLE = {"validation_fraction": 0, "test_fraction": 0}


def load_rows(tmp_path, rows, **settings):
    content = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows)
    (tmp_path / "rows.csv").write_text(content, encoding="utf-8")
    return load(DataConfig(train=str(tmp_path / "rows.csv"), **settings), tmp_path / "cache")


def distinct(count):
    """Rows of different texts under two labels."""
    return [(f"{SUBJECTS['sport'][i % 6]} number {i}", "ab"[i % 2]) for i in range(count)]


@pytest.mark.parametrize(
    "other",
    ["CAF\u00c9", "cafe\u0301", "caf\u00e9\u200b", "\ufeffcaf\u00e9", "ca\u00adf\u00e9", "\u200ecaf\u00e9\u202c"],
)
def test_labels_that_look_alike_are_named_with_their_rows(tmp_path, other):
    data = load_rows(tmp_path, [("x", "caf\u00e9"), ("y", other), ("z", other), ("w", "tea")], **WHOLE)
    (warning,) = data.warnings
    assert "2 labels look like another" in warning and "(2 rows) and " in warning and "(1 row)" in warning
    assert "tea" not in warning
    assert data.summary["labels_that_look_alike"] == 2
    # What prints alike is told apart.
    first, second = (part.split(" (")[0].split(": ")[-1] for part in warning.split(" and ")[1:3])
    assert first != second


def test_spaces_of_all_kinds_look_alike_and_other_labels_do_not():
    names = ["not bad", "not\u00a0bad", "not  bad", "notbad", "bad", "b\u00e4d", "1", "10"]
    assert look_alike_labels(names, [1, 5, 2, 1, 1, 1, 1, 1]) == [[1, 2, 0]]


def test_equal_texts_under_different_labels_are_counted_with_an_example(tmp_path):
    data = load_rows(
        tmp_path, [*distinct(20), *[("same", "a")] * 3, ("same", "b"), ("twice", "a"), ("twice", "a")], **WHOLE
    )
    (warning,) = data.warnings
    assert "1 text of the train source" in warning and "4 of 26 rows (15.4%)" in warning
    assert "rows.csv, line 22 says 'a'" in warning and "rows.csv, line 25 says 'b'" in warning
    assert data.summary["train"]["texts_under_several_labels"] == 1


def test_equal_sets_of_labels_do_not_conflict_whatever_their_order(tmp_path):
    rows = [("x", "a|b"), ("x", "b|a"), ("y", "a"), ("y", "a|b"), ("z", ""), ("z", "b")]
    data = load_rows(tmp_path, rows, **WHOLE, label_separator="|")
    (warning,) = data.warnings
    assert "2 texts of the train source" in warning and "4 of 6 rows" in warning
    assert "line 4 says 'a', " in warning and "line 5 says 'a' and 'b'" in warning


def test_conflicts_agree_with_counting_by_hand():
    chance = np.random.default_rng(0)
    hashes = chance.integers(0, 60, 200).astype(np.uint64)
    sets = [sorted(chance.choice(5, chance.integers(0, 4), replace=False)) for _ in hashes]
    keys = label_set_keys(np.array([len(s) for s in sets]), np.array([c for s in sets for c in s], np.int32))
    assert [[a == b for b in keys] for a in keys] == [[a == b for b in sets] for a in sets]
    texts, rows, example = conflicting_rows(hashes, keys)
    answers = {h: {tuple(s) for s, other in zip(sets, hashes, strict=True) if other == h} for h in set(hashes)}
    assert texts == sum(len(found) > 1 for found in answers.values()) > 0
    assert rows.tolist() == [len(answers[h]) > 1 for h in hashes]
    first, second = example
    assert hashes[first] == hashes[second] and sets[first] != sets[second]


def test_a_split_that_equal_texts_keep_small_is_named(tmp_path):
    data = load_rows(tmp_path, [*distinct(15), *[("same", "a")] * 100], test_fraction=0.2, validation_fraction=0)
    (warning,) = data.warnings
    assert f"asks for 23 test rows, and {len(data.test)} could be split off" in warning
    assert "the 115 rows hold 16 different texts" in warning


def test_a_split_about_as_large_as_asked_for_is_not_worth_a_word(tmp_path):
    assert load_rows(tmp_path, distinct(40)).warnings == []
    assert size_warnings("test", 2.4, 1, 24, 24) == []
    assert len(size_warnings("test", 10.0, 30, 100, 50)) == 1


def encoder(length=16):
    return TextEncoder(
        [*VOCABULARY, "t", "##t", *"0123456789", *(f"##{i}" for i in range(10))], lowercase=True, sequence_length=length
    )


def test_reading_counts_words_and_pieces():
    reading = read(encoder(6), [["goal ttt unheard", "goal unheard unheard goal goal goal", "unheard", ""]])
    assert (reading.words, reading.pieces, reading.unknown, reading.only_unknown) == (10, 12, 4, 1)
    assert reading.lengths.tolist() == [7, 8, 3, 2]
    assert reading.lost.tolist() == [1, 2, 0, 0]
    assert reading.length_for(1.0) == 8


@pytest.mark.parametrize("length", [5, 8, 12])
@pytest.mark.parametrize("pair", [False, True])
def test_what_is_said_to_be_cut_is_what_the_encoder_cuts(length, pair):
    chance = np.random.default_rng(1)
    columns = [[" ".join(["goal"] * n) for n in chance.integers(0, 12, 50)] for _ in range(1 + pair)]
    reading = read(encoder(length), columns)
    kept = encoder(length)(*columns)["padding_mask"].numpy().sum(axis=1)
    np.testing.assert_array_equal(reading.lengths - reading.lost, kept)
    assert reading.lost.any()


def test_a_vocabulary_without_the_words_or_with_only_the_letters_is_named():
    unknown = {"train": read(encoder(), [["goal match", "unheard goal"]])}
    assert "25.0% of the words of the train texts are [UNK]" in vocabulary_warnings(unknown)[0]
    spelled = {"train": read(encoder(), [["ttttt", "ttttttt"]])}
    assert "6.0 pieces on average" in vocabulary_warnings(spelled)[0]
    good = read(encoder(), [["goal match"] * 30])
    assert vocabulary_warnings({"train": good}) == []
    (warning,) = vocabulary_warnings({"train": good, "test": read(encoder(), [["unheard"]])})
    assert "100.0% of the words of the test texts are [UNK]" in warning and "1 of 1 texts" in warning


def test_shares_of_labels_count_rows_with_several():
    cut = np.array([True] * 20 + [False] * 20)
    counts = np.array([2] * 20 + [1] * 20)
    classes = np.array([0, 1] * 20 + [1] * 20)
    assert cut_shares_of_labels(cut, counts, classes) == {0: 1.0, 1: 0.5}


def test_texts_that_are_cut_are_counted_by_split_and_by_label(tmp_path):
    rows = [("goal " * (3 if i % 2 else 30) + f"{i}", "ab"[i % 2]) for i in range(200)]
    data = load_rows(tmp_path, rows)
    (warning,) = read_splits(data, encoder(), positions=512)
    assert "text.sequence_length 16 cuts 50.0% of the train texts (validation 50.0%, test 50.0%)" in warning
    assert "of the label 'a' 100.0% of the texts, of 'b' 0.0%" in warning and "40 would leave 99% whole" in warning
    assert data.summary["test"]["share_of_texts_cut"] == 0.5
    (warning,) = read_splits(data, encoder(), positions=24)
    assert "at 24, the most that the model has positions for, it would be 50.0%" in warning
    assert read_splits(data, encoder(40), positions=512) == []


def test_a_rare_label_of_long_texts_is_named(tmp_path):
    rows = [
        ("goal " * (30 if i % 50 == 0 else 3) + f"{i}", "long" if i % 50 == 0 else "ab"[i % 2]) for i in range(1500)
    ]
    data = load_rows(tmp_path, rows, **WHOLE)
    (warning,) = read_splits(data, encoder(), positions=512)
    assert "cuts 2.0% of the train texts" in warning and "of the label 'long' 100.0%" in warning


def test_a_run_says_all_warnings_again_at_its_end_and_in_the_report(tmp_path, capsys):
    config = write_config(tmp_path, training={"epochs": 1}, export={"enabled": False})
    rows = [*distinct(60), ("goal " * 60, "a"), ("goal", "a"), ("goal", "b"), ("coach " * 50, "B")] + [
        ("goal " * 70, "b")
    ] * 5
    data = tmp_path / "other.csv"
    data.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    run_dir = tmp_path / "run"
    assert main(["--config", str(config), "--data.train", str(data), "--run_dir", str(run_dir)]) == 0
    output = capsys.readouterr().out
    said = [line.removeprefix("warning: ") for line in output.splitlines() if line.startswith("warning: ")]
    last = output.split("warnings:\n")[1].splitlines()
    again = [line.strip() for line in last if line.startswith("  ")]
    assert again[: len(said)] == said and len(again) > len(said)
    for start in ("2 labels look like another", "1 text of the train source", "text.sequence_length 24 cuts"):
        assert any(line.startswith(start) for line in said)
    assert any("of the words of the train texts are [UNK]" in line for line in said)
    assert any("set is small" in line for line in again)
    page = html.unescape((run_dir / "report.html").read_text())
    assert all(warning in page for warning in again)
    assert "share of texts cut" in page and "labels that look alike" in page


@pytest.mark.slow
def test_a_run_without_warnings_says_nothing_of_them(tmp_path, capsys):
    config = write_config(tmp_path, rows=2000, training={"epochs": 2, "learning_rate": 0.01}, export={"enabled": False})
    arguments = ["--config", str(config), "--run_dir", str(tmp_path / "run"), "--data.test_fraction", "0.4"]
    # Words decide these labels: nobody is better than a linear model.
    arguments += ["--evaluation.baseline", "none"]
    assert main([*arguments, "--text.sequence_length", "32"]) == 0
    output = capsys.readouterr().out
    assert "warnings:" not in output, output
