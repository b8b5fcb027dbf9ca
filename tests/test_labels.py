"""Labels looked after: wrong ones found, texts to label chosen, both by command."""

import csv
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from tiny import FILLER, SUBJECTS, write_config

from export.texts import Row
from pipeline import run
from pipeline.command_line import parse
from pipeline.data.load import load
from pipeline.errors import UserError
from pipeline.features import Features
from pipeline.features.columns import Vector
from pipeline.labels import __main__ as command
from pipeline.labels import drop as drop_module
from pipeline.labels.choose import choose, unlike
from pipeline.labels.confident import Doubts, confident_joint, doubt_classes, doubt_labels, doubt_numbers
from pipeline.labels.drop import without_suspicious
from pipeline.labels.next import refuse_other_sizes
from pipeline.labels.twins import Twin, equal_twins, near_twins, plain
from pipeline.methods.cross_validation import cross_validate
from pipeline.tasks.label_task import LabelTask
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.number import Number
from pipeline.tasks.single_label import SingleLabel
from pipeline.training.workers import Workers

# Confident learning.


def noisy_classes(share=0.2, rows=600, classes=4, seed=0):
    """True and given classes, and probabilities of a model that mostly knows the true ones."""
    chance = np.random.default_rng(seed)
    true = chance.integers(0, classes, rows)
    wrong = chance.random(rows) < share
    given = np.where(wrong, (true + chance.integers(1, classes, rows)) % classes, true)
    logits = chance.normal(0, 1, (rows, classes)) + 3.5 * np.eye(classes)[true]
    return true, given, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_joint_by_hand():
    """Limits are 0.7 and 0.6: the third row counts as the other class, the fourth as none, and is shared out."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.5, 0.5], [0.3, 0.5]])
    given = np.array([0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(confident_joint(given, probabilities), [[2, 1], [0, 3]])
    found = doubt_classes(given, probabilities)
    assert np.flatnonzero(found.wrong).tolist() == [2]
    assert found.suggested[2] == 1 and found.quality[2] == pytest.approx(0.3)


def test_planted_wrong_labels_are_found_and_the_worst_come_first():
    true, given, probabilities = noisy_classes()
    found = doubt_classes(given, probabilities)
    wrong = given != true
    assert found.wrong[wrong].mean() > 0.85 and wrong[found.wrong].mean() > 0.85
    assert (found.suggested == true)[found.wrong & wrong].mean() > 0.9
    worst = np.argsort(found.quality)[: wrong.sum() // 2]
    assert wrong[worst].mean() > 0.95


def test_as_cleanlab_finds_them():
    """Its default rule; it may round a count the other way."""
    find_label_issues = pytest.importorskip("cleanlab.filter", exc_type=ImportError).find_label_issues
    _, given, probabilities = noisy_classes()
    theirs = find_label_issues(given, probabilities, n_jobs=1)
    assert (theirs != doubt_classes(given, probabilities).wrong).sum() <= 4


def test_a_class_that_no_row_has_is_suggested_to_none():
    given = np.array([0, 1, 0, 1])
    probabilities = np.array([[0.5, 0.1, 0.4], [0.1, 0.5, 0.4], [0.1, 0.1, 0.8], [0.2, 0.7, 0.1]])
    assert not doubt_classes(given, probabilities).wrong.any()


def test_rare_classes_are_flagged_too():
    """Each class is held to its own confidence."""
    true = np.concatenate([np.zeros(300, int), np.ones(20, int)])
    given = true.copy()
    given[:2], given[-2:] = 1, 0
    rare = np.where(true == 1, 0.6, 0.1)
    found = doubt_classes(given, np.stack([1 - rare, rare], axis=1))
    assert found.wrong[[0, 1, -1, -2]].all() and found.wrong.sum() == 4


def test_several_labels_are_judged_one_by_one():
    chance = np.random.default_rng(1)
    true = (chance.random((300, 3)) < 0.4).astype(np.float32)
    given = true.copy()
    given[:10, 1] = 1 - given[:10, 1]
    probabilities = np.clip(0.1 + 0.8 * true + chance.normal(0, 0.05, true.shape), 0, 1)
    found = doubt_labels(given, probabilities)
    doubted = found.wrong.nonzero()[0]
    assert len(doubted) >= 8 and doubted.max() < 10
    np.testing.assert_array_equal(found.suggested[doubted], true[doubted])
    assert set(np.argsort(found.quality)[:10]) == set(range(10))


def test_numbers_far_from_their_predictions():
    chance = np.random.default_rng(2)
    given = chance.normal(0, 10, 200)
    predictions = given + chance.normal(5, 0.5, 200)
    given[7] += 8
    found = doubt_numbers(given, predictions)
    assert found.quality.argmin() == 7 and found.wrong[7] and found.wrong.sum() <= 3
    assert found.suggested[7] == predictions[7]


def test_numbers_are_written_as_they_are():
    """Not with six digits, by which a row of its file would not be found."""
    values = np.array([1234567.89, 20240115.0, 0.1, -3.0, 1e22, 2.5e-9])
    written = Number().written(values)
    assert written == ["1234567.89", "20240115", "0.1", "-3", "1e+22", "2.5e-09"]
    assert [float(one) for one in written] == values.tolist()
    # Predictions too, in the precision that they have.
    assert Number().written(np.array([0.1, 7.0], np.float32)) == ["0.1", "7"]


def test_exact_predictions_of_numbers_doubt_nothing():
    assert not doubt_numbers(np.arange(5.0), np.arange(5.0)).wrong.any()


# Twins.


@pytest.mark.parametrize(
    ("one", "other"),
    [("Is it  good?", "is it good"), ("naïve", "NAI\u0308VE"), ("ＡＢＣ", "abc"), ("?!", " ?! ")],
)
def test_texts_that_are_equal(one, other):
    assert plain(one) == plain(other)


@pytest.mark.parametrize(("one", "other"), [("?!", "!"), ("C++", "C"), ("ก็", "ก"), ("it is 5", "it is 6")])
def test_texts_that_are_not(one, other):
    assert plain(one) != plain(other)


def test_equal_texts_under_two_labels():
    found = equal_twins(["a b", "c", "A  B.", "c", "a b"], np.array([0, 1, 1, 1, 0]))
    assert found == {0: Twin(2), 2: Twin(0), 4: Twin(2)}


def test_near_texts_are_the_nearest_of_another_label(monkeypatch):
    monkeypatch.setattr("pipeline.labels.twins.BLOCK", 2)
    vectors = np.array([[1, 0], [0.99, 0.01], [0.95, 0.2], [-1, 0.1], [-1, -0.31]], np.float32)
    found = near_twins(vectors, np.array([0, 0, 1, 1, 1]), 0.9)
    assert {row: twin.row for row, twin in found.items()} == {0: 2, 1: 2, 2: 1}
    assert near_twins(vectors, np.array([0, 0, 1, 1, 1]), 1.0) == {}


# What to label next.


def blobs(sizes=(50, 30, 10), seed=0):
    chance = np.random.default_rng(seed)
    centres = 10 * np.eye(len(sizes))
    kinds = np.repeat(np.arange(len(sizes)), sizes)
    return kinds, (centres[kinds] + chance.normal(0, 0.5, (len(kinds), len(sizes)))).astype(np.float32)


def test_the_first_texts_are_of_every_kind_the_most_common_first():
    kinds, vectors = blobs()
    assert kinds[choose(vectors, 3, seed=0)].tolist() == [0, 1, 2]


def test_unsure_texts_of_every_kind_the_least_sure_first(monkeypatch):
    monkeypatch.setattr("pipeline.labels.choose.CANDIDATES", 30)
    kinds, vectors = blobs()
    unsure = np.linspace(0, 1, len(kinds))
    chosen = choose(vectors, 3, seed=0, unsure=unsure)
    assert chosen.tolist() == [89, 79, 49]
    # Of few candidates, the least sure decide.
    monkeypatch.setattr("pipeline.labels.choose.CANDIDATES", 1)
    assert choose(vectors, 3, seed=0, unsure=unsure).tolist() == [89, 88, 87]


def test_as_many_as_asked_for_where_vectors_are_equal():
    vectors = np.zeros((5, 3), np.float32)
    assert sorted(choose(vectors, 4, seed=0).tolist()) != [] and len(set(choose(vectors, 4, seed=0))) == 4
    assert sorted(choose(vectors, 5, 0, np.arange(5.0))) == list(range(5))


def test_rows_unlike_all_that_is_known():
    assert unlike(np.array([[0.0, 0], [3, 4]]), np.array([[0.0, 0], [0, 1]])).tolist() == [0, pytest.approx(18**0.5)]


def test_what_predictions_say_of_their_certainty():
    one = SingleLabel(("a", "b", "c")).uncertainty(np.array([[0.5, 0.4, 0.1], [0.4, 0.2, 0.4]]))
    np.testing.assert_allclose(one, [0.9, 1.0])
    several = MultiLabel(("a", "b"), threshold=0.3).uncertainty(np.array([[0.9, 0.35], [0.6, 0.0]]))
    np.testing.assert_allclose(several, [-0.05, -0.3], atol=1e-6)
    assert Number().uncertainty(np.array([[1.0]])) is None


# The commands.


def read(path: Path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def clear_rows(count: int, seed: int = 0) -> list[dict]:
    """Texts that say by most of their words what they are about."""
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        label = chance.choice(list(SUBJECTS))
        words = [*chance.choices(SUBJECTS[label], k=5), *chance.choices(FILLER, k=3)]
        chance.shuffle(words)
        rows.append({"text": " ".join(words), "label": label})
    return rows


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A config of rows of which some have wrong labels, their lines, and the folder."""
    folder = tmp_path_factory.mktemp("labels")
    config = write_config(folder, 10, data={"test_fraction": 0.0, "validation_fraction": 0.1})
    rows = clear_rows(200)
    wrong = list(range(0, 200, 20))
    for number in wrong:
        rows[number]["label"] = next(label for label in SUBJECTS if label != rows[number]["label"])
    rows.append(rows[5] | {"text": rows[5]["text"].upper() + " !", "label": "other"})
    rows.append({"text": "rocket orbit", "label": "other"})
    write(folder / "train.csv", rows)
    # The header is line 1.
    return config, {str(number + 2) for number in wrong}, folder


def test_check_names_file_line_and_suggestion(planted, capsys):
    config, wrong, folder = planted
    output = folder / "found.csv"
    assert command.main(["check", "--config", str(config), "--output", str(output)]) == 0
    said = capsys.readouterr().out
    assert "182 train rows, predicted by a linear layer" in said
    found = read(output)
    assert {row["file"] for row in found} == {str(folder / "train.csv")}
    # A tenth of the rows are validation rows.
    predicted = {row["line"] for row in found if row["reason"].startswith("predicted otherwise")}
    assert len(predicted & wrong) >= 7
    lines = (folder / "train.csv").read_text().splitlines()
    assert all(row["text"] in lines[int(row["line"]) - 1] for row in found)
    qualities = [float(row["quality"]) for row in found]
    assert qualities == sorted(qualities)
    twins = {row["line"]: row["reason"] for row in found if "equal text under" in row["reason"]}
    assert f"equal text under 'other': {folder / 'train.csv'}, line 202" in twins["7"]
    assert "202" in twins


def test_a_file_with_somebodys_work_is_not_written_over(planted, capsys):
    config, _, folder = planted
    (folder / "taken.csv").write_text("mine")
    for words in (["check"], ["next", "--unlabelled", str(folder / "train.csv")]):
        assert command.main([*words, "--config", str(config), "--output", str(folder / "taken.csv")]) == 2
        assert "taken.csv is there already" in capsys.readouterr().err
    assert (folder / "taken.csv").read_text() == "mine"


@pytest.mark.slow
def test_what_comes_next_comes_back_as_training_rows(planted, tmp_path, capsys):
    """From no label at all over a first round to a run, and on from the run."""
    config, _, _ = planted
    pool = [{"id": str(i), "text": row["text"], "note": 'a "b", c'} for i, row in enumerate(clear_rows(90, seed=3))]
    labels = {row["text"]: row["label"] for row in clear_rows(90, seed=3)}
    write(tmp_path / "pool.csv", [*pool, pool[0]])

    def ask(*words: str, output: str) -> list[dict]:
        words = ("next", *words, "--unlabelled", str(tmp_path / "pool.csv"), "--count", "12")
        assert command.main([*words, "--output", str(tmp_path / output)]) == 0
        rows = read(tmp_path / output)
        assert list(rows[0]) == ["text", "label", "id", "note"] and len(rows) == 12
        assert all(row["label"] == "" and row["note"] == 'a "b", c' for row in rows)
        write(tmp_path / output, [row | {"label": labels[row["text"]]} for row in rows])
        return rows

    first = ask("--config", str(config), output="first.csv")
    assert "none is labelled" in capsys.readouterr().out
    second = ask("--config", str(config), "--data.train", str(tmp_path / "first.csv"), output="second.csv")
    assert "by 12 labelled rows" in capsys.readouterr().out
    files = f"[{tmp_path / 'first.csv'}, {tmp_path / 'second.csv'}]"
    begun = ["--config", str(config), "--data.train", files, "--run_dir", str(tmp_path / "run")]
    assert run.main([*begun, "--training.epochs", "1", "--export.enabled", "false"]) == 0
    third = ask(str(tmp_path / "run"), output="third.csv")
    texts = [{row["text"] for row in rows} for rows in (first, second, third)]
    assert {row["text"] for row in ask(str(tmp_path / "run"), "--by", "fit", output="fourth.csv")} != texts[2]
    assert len(set.union(*texts)) == 36
    assert command.main(["check", str(tmp_path / "run"), "--output", str(tmp_path / "found.csv")]) == 0
    assert all(Path(row["file"]).name in ("first.csv", "second.csv") for row in read(tmp_path / "found.csv"))
    assert command.main(
        ["check", str(tmp_path / "run"), "--split", "test", "--output", str(tmp_path / "other.csv")]
    ) == 2  # fmt: skip
    assert "there are no test rows; there are train, validation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check"], "name the folder of a run, or --config NAME"),
        (["check", "nowhere"], "nowhere is no folder of a run"),
        (["check", "nowhere", "--config", "trec"], "--config: nowhere is a run with settings of its own"),
        (["check", "--config", "trec", "--data.trian", "x"], "--data.trian is not a setting"),
        (["check", "--config", "trec", "--output", "found.txt"], "end its name in .csv"),
        (["next", "--config", "trec", "--unlabelled", "nowhere.csv"], "--unlabelled nowhere.csv: no such file"),
    ],
)
def test_what_is_refused(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.main(words) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_pool_of_labelled_texts_alone_is_refused(planted, tmp_path, capsys):
    config, _, folder = planted
    words = ["next", "--config", str(config), "--data.train", str(folder / "train.csv"), "--unlabelled"]
    assert command.main([*words, str(folder / "train.csv"), "--output", str(tmp_path / "next.csv")]) == 2
    assert "no text to choose from that has no label yet" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("task", ["number", "multi_label"])
def test_other_tasks(tmp_path, task, capsys):
    """Numbers far off are named; labels of a row are judged one by one."""
    rows = clear_rows(120)
    names = list(SUBJECTS)
    for row in rows:
        both = f"{row['label']}|{'long' if len(row['text']) > 42 else 'short'}"
        row["label"] = both if task == "multi_label" else f"{names.index(row['label'])}"
    rows[3]["label"] = "" if task == "multi_label" else "40"
    data = {"task": task, "test_fraction": 0.0, "validation_fraction": 0.0}
    config = write_config(tmp_path, 10, data=data | ({"label_separator": "|"} if task == "multi_label" else {}))
    write(tmp_path / "train.csv", rows)
    assert command.main(["check", "--config", str(config), "--output", str(tmp_path / "found.csv")]) == 0
    found = next(row for row in read(tmp_path / "found.csv") if row["line"] == "5")
    assert found["given"] == rows[3]["label"] and found["suggested"] not in ("", found["given"])
    write(tmp_path / "pool.csv", clear_rows(30, seed=8))
    words = ["next", "--config", str(config), "--data.train", str(tmp_path / "train.csv"), "--count", "4"]
    output = tmp_path / "next.csv"
    assert command.main([*words, "--unlabelled", str(tmp_path / "pool.csv"), "--output", str(output)]) == 0
    assert len(read(output)) == 4


def test_columns_are_looked_at_when_texts_are_chosen(tmp_path, capsys):
    """Equal texts with another number are other rows; those whose number lies between the labels' are least sure."""
    names, chance = list(SUBJECTS), random.Random(3)
    data = {"numeric_columns": ["size"], "test_fraction": 0.0, "validation_fraction": 0.0}
    config = write_config(tmp_path, 10, data=data, model={"fusion": "concat"}, export={"signatures": ["top_k"]})
    texts = [" ".join(chance.sample(FILLER, 6)) for _ in range(40)]
    write(tmp_path / "train.csv", [{"text": t, "label": names[i % 2], "size": i % 2} for i, t in enumerate(texts)])
    write(tmp_path / "pool.csv", [{"size": size, "id": f"{size}", "text": texts[0]} for size in (0, 1, 0.5, -3, 4)])
    words = ["next", "--config", str(config), "--data.train", str(tmp_path / "train.csv"), "--count", "1"]
    output = tmp_path / "next.csv"
    assert command.main([*words, "--unlabelled", str(tmp_path / "pool.csv"), "--output", str(output)]) == 0
    assert "1 of 4 texts, by 40 labelled rows" in capsys.readouterr().out
    assert read(output) == [{"text": texts[0], "label": "", "size": "0.5", "id": "0.5"}]


@pytest.mark.slow
def test_suspicious_rows_are_left_out_once_and_for_all(planted, tmp_path, capsys, monkeypatch):
    config, wrong, _ = planted
    begun = ["--config", str(config), "--run_dir", str(tmp_path / "run"), "--training.drop_suspicious", "true"]
    begun += ["--export.enabled", "false", "--training.epochs", "1"]
    assert run.main(begun) == 0
    said = capsys.readouterr().out
    dropped = {row["line"] for row in read(tmp_path / "run" / "dropped.csv")}
    assert len(dropped & wrong) >= 7
    # One label has a single row, which stays.
    assert "203" not in dropped
    assert f"{len(dropped)} of 182 training rows" in said and f"{182 - len(dropped)} train, 20 validation rows" in said
    report = (tmp_path / "run" / "report.html").read_text()
    assert f"{len(dropped)} of 182 training rows" in report
    # A run that is taken up again does not judge them again, and goes on with the same.
    monkeypatch.setattr("pipeline.labels.drop._dropped", None)
    assert run.main([*begun, "--export.force", "true"]) == 0
    again = capsys.readouterr().out
    assert "training is already complete" in again and f"{182 - len(dropped)} train, 20 validation rows" in again
    assert run.main(["--config", str(config), "--run_dir", str(tmp_path / "run"), "--training.epochs", "1"]) == 2
    assert "training.drop_suspicious: True -> False" in capsys.readouterr().err


# training.drop_suspicious.


def drop(folder: Path, monkeypatch, rows: list[dict], wrong: list[int], folds: int = 0, **data):
    """Splits of rows before and after those of the numbers `wrong` are doubted."""
    config = write_config(folder, 10, data={"test_fraction": 0.0, "validation_fraction": 0.0} | data,
                          training={"drop_suspicious": True}, evaluation={"cross_validation": folds},
                          export={"signatures": []})  # fmt: skip
    write(folder / "train.csv", rows)
    settings = parse(["--config", str(config), "--run_dir", str(folder / "run")])
    monkeypatch.setattr("pipeline.labels.drop.frozen", lambda config, features: lambda split: np.zeros((len(split), 2)))
    doubted = np.isin(np.arange(len(rows)), wrong)
    monkeypatch.setattr(
        "pipeline.labels.drop.learn",
        lambda task, split, *_: SimpleNamespace(held_out=doubted[split.rows], strength=1.0),
    )
    for kind in (SingleLabel, MultiLabel, Number):
        monkeypatch.setattr(kind, "doubts", lambda task, values, held: Doubts(held, np.ones(len(values)), values))
    splits = load(settings.data, folder / "cache")
    return splits, without_suspicious(settings, splits, Workers())


def labelled(*labels: str, **cells: list[str]) -> list[dict]:
    rows = [{"text": f"text number {n}", "label": label} for n, label in enumerate(labels)]
    return [row | {name: column[n] for name, column in cells.items()} for n, row in enumerate(rows)]


def test_every_label_of_a_row_keeps_its_rows(tmp_path, monkeypatch):
    """Not only the first: "rare" has two rows, both doubted, and so has "late"; a row without labels goes."""
    rows = labelled("common", "common|rare", "common|rare", "late", "", "common", "late", "common|late")
    _, left = drop(tmp_path, monkeypatch, rows, [1, 2, 3, 4, 5], task="multi_label", label_separator="|")
    assert left.train is not None and left.train.rows.tolist() == [0, 1, 2, 6, 7]


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"text_columns": ["text"], "numeric_columns": ["size"]}, ["text"]),
        ({"text_columns": ["text", "kind", "size"]}, ["text_a", "text_b", "text_c"]),
    ],
)
def test_the_table_of_rows_with_columns_has_a_heading_for_each_cell(tmp_path, monkeypatch, columns, named):
    drop(tmp_path, monkeypatch, labelled(*"aaabbb", size=[*"123456"], kind=[*"uvwxyz"]), [1], **columns)
    (row,) = read(tmp_path / "run" / "dropped.csv")
    assert list(row)[6:] == named and row[named[0]] == "text number 1" and None not in row


def test_a_tenth_of_numbers_keeps_its_rows(tmp_path, monkeypatch):
    """Where all rows but a few have one number, the others are what there is to learn."""
    rows = labelled(*["0"] * 17, *["5"] * 3)
    _, left = drop(tmp_path, monkeypatch, rows, [3, 17, 18, 19], task="number")
    assert left.train is not None and left.train.rows.tolist() == [n for n in range(20) if n != 3]


def test_what_is_said_of_training_rows_is_of_those_that_are_left(tmp_path, monkeypatch):
    rows = labelled(*"aaaaabbbb", lang=[*"eeeedddde"])
    more = {"language_column": "lang", "language_temperature": 1e6}
    before, left = drop(tmp_path, monkeypatch, rows, [0, 1, 2], **more)
    assert isinstance(before.task, LabelTask) and before.task.train_counts == (5, 4)
    assert isinstance(left.task, LabelTask) and left.task.train_counts == (2, 4)
    summary = left.summary["train"]
    assert summary["labels"] == {"a": 2, "b": 4} and summary["languages"] == {"d": 4, "e": 2} and summary["rows"] == 6
    assert summary["dropped_as_suspicious"] == 3
    assert [note for note in left.notes if "an epoch draws" in note] == [
        "rows that an epoch draws at data.language_temperature 1e+06: d 3 (has 4), e 3 (has 2)."
    ]
    assert len(left.warnings) == 1 + len(before.warnings) and left.fingerprint.startswith(f"{before.fingerprint} ")


def test_rows_that_are_left_out_are_scored_and_not_learned(tmp_path, monkeypatch):
    """A fold's model learns from no doubted row, and is asked about those of its fold."""
    judged = []
    true = drop_module._dropped_beside

    def judge(config, task, train, vectors, out):
        judged.append(train.rows[out])
        return true(config, task, train, vectors, out)

    monkeypatch.setattr(drop_module, "_dropped_beside", judge)
    splits, left = drop(tmp_path, monkeypatch, labelled(*"ab" * 10), [4, 7, 12], folds=4)
    assert splits.train is not None
    learned, asked = [], []

    def fold(trials, name, title, known, out):
        learned.append(trials.rows.rows[known])
        asked.append(trials.rows.rows[out])
        return np.zeros((out.sum(), 2), np.float32)

    monkeypatch.setattr("pipeline.methods.trials.Trials._fold", fold)
    settings = SimpleNamespace(evaluation=SimpleNamespace(cross_validation=4, baseline="none", threshold=0.5),
                               training=SimpleNamespace(method="head", seed=0))  # fmt: skip
    found = cross_validate(cast(Any, SimpleNamespace(config=settings, data=left, updates=1)), left.task, Workers())
    assert found["cross_validation"]["rows"] == 20 and sorted(np.concatenate(asked).tolist()) == list(range(20))
    # None of a fold is looked at where its model's rows are chosen.
    for known, out, unseen in zip(learned, asked, judged, strict=True):
        assert unseen.tolist() == out.tolist()
        assert sorted([*known, *out]) == sorted({*range(20)} - {4, 7, 12} | {*out})


def test_texts_to_choose_from_have_vectors_like_the_labelled_rows():
    features, names = Features(("text",), (Vector("v", (0.0, 0.0)),)), ("a.csv, line 2", "a.csv, line 3")
    rows = [Row(name, [], ("x", cell), "", False) for name, cell in zip(names, ("0.5 1.0", "0.5"), strict=True)]
    refuse_other_sizes(features, rows[:1])
    with pytest.raises(UserError, match=r"a\.csv, line 3: the row has a list of another length .* 1 in place of 2"):
        refuse_other_sizes(features, rows)
