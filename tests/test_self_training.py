"""data.unlabelled: texts are given labels by a model of the labelled rows, and learned from."""

import csv
import json
import random
from pathlib import Path

import numpy as np
import pytest
from tiny import FILLER, SUBJECTS, write_config

from pipeline import run
from pipeline.assemble import Assembly
from pipeline.methods import auto, self_training, trials


def texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts with the label that they would have."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        label = list(SUBJECTS)[number % len(SUBJECTS)]
        words = [*chance.sample(SUBJECTS[label], 3), *chance.choices(FILLER, k=3 + number % 5)]
        chance.shuffle(words)
        made.append((" ".join(words), label))
    return made


def write(path: Path, columns: list[str], rows) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


@pytest.fixture
def begun(tmp_path) -> list[str]:
    """The command of a run with 18 labelled rows and 60 texts without a label, of which three are labelled ones."""
    labelled, test = texts(18, 1), texts(30, 2)
    config = write_config(
        tmp_path,
        10,
        data={"validation_fraction": 0.0, "test_fraction": 0.0, "test": str(tmp_path / "test.csv")},
        model={"pooling": "mean"},
        training={"method": "head"},
        export={"enabled": False},
    )
    write(tmp_path / "train.csv", ["text", "label"], labelled)
    write(tmp_path / "test.csv", ["text", "label"], test)
    pool = [(f"{number}", text) for number, (text, _) in enumerate([*texts(56, 3), *labelled[:3], test[0]])]
    write(tmp_path / "pool.csv", ["id", "text"], [*pool, pool[0]])
    words = ["--config", str(config), "--data.unlabelled", str(tmp_path / "pool.csv")]
    return [*words, "--run_dir", str(tmp_path / "run")]


def test_columns_beside_the_texts_are_learned_from_too(begun, tmp_path, capsys):
    """A number alone tells the label, in labelled rows and in those without one."""
    names, chance = list(SUBJECTS), random.Random(5)
    rows = [(" ".join(chance.choices(FILLER, k=6)), names[i % 3], i % 3 * 10 + chance.random()) for i in range(90)]
    write(tmp_path / "train.csv", ["text", "label", "size"], rows[:30])
    write(tmp_path / "test.csv", ["text", "label", "size"], rows[30:45])
    # A text that is also a labelled one, with another number, is another row.
    pool = [(text, size) for text, _, size in rows[45:]] + [(rows[0][0], 20.5), (rows[0][0], rows[0][2])]
    write(tmp_path / "pool.csv", ["text", "size"], pool)
    columns = ["--data.numeric_columns", "[size]", "--model.fusion", "concat", "--export.signatures", "[top_k]"]
    assert run.main([*begun, *columns]) == 0
    assert "self-training on 46 texts of" in capsys.readouterr().out
    learned = (tmp_path / "run" / "self_training" / "rows-1.jsonl").read_text().splitlines()[30:]
    labelled = [json.loads(line) for line in learned]
    assert len(labelled) > 20
    assert all(row["label"] == names[int(float(row["size"]) // 10)] for row in labelled)


def test_the_surest_texts_of_each_answer_are_learned_from(begun, tmp_path, capsys):
    assert run.main(begun) == 0
    said = capsys.readouterr().out
    assert "self-training on 56 texts of" in said
    assert "head fitted on 18 rows" in said
    rows = [json.loads(line) for line in (tmp_path / "run" / "self_training" / "rows-1.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows[:18]] == [text for text, _ in texts(18, 1)]
    given = {row["text"]: row["label"] for row in rows[18:]}
    assert f"head fitted on {len(rows)} rows" in said and f"{len(given)} texts are given a label" in said
    # Three fifths of each answer, rounded up.
    assert 34 <= len(given) <= 36 and set(given) <= {text for text, _ in texts(56, 3)}
    truth = dict(texts(56, 3))
    assert np.mean([truth[text] == label for text, label in given.items()]) > 0.6
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["rows"] == 30


@pytest.mark.parametrize("rounds", [1, 2])
def test_few_labels_keep_the_updates_of_auto_in_every_training(begun, tmp_path, monkeypatch, rounds):
    """It chooses once, for the labelled rows; folds and the last training are no shorter than the first."""
    made, asked = [], []

    def trial(run, rows, *others):
        true_method("fine_tune")(run, rows, *others)
        made.append((len(rows), int(run.model.optimizer.iterations)))

    def fit(run, *others):
        progress = true_fit(run, *others)
        made.append((len(run.data.to_learn), int(run.model.optimizer.iterations)))
        return progress

    def choose(run, rows, workers):
        asked.append(len(rows))
        return auto.Choice("fine_tune", "by what was tried", {"head": {"loss": 1.0}, "fine_tune": {"loss": 0.5}})

    true_method, true_fit = trials.method, Assembly.fit
    monkeypatch.setattr(trials, "method", lambda _: trial)
    monkeypatch.setattr(Assembly, "fit", fit)
    monkeypatch.setattr(auto, "_choose", choose)
    words = ["--training.method", "auto", "--training.epochs", "1", "--training.self_training", f"{rounds}"]
    assert run.main([*begun, *words, "--evaluation.cross_validation", "2"]) == 0
    *first, one, other, last = made
    assert asked == [18] and first[0] == (18, 40) and len(first) == rounds
    assert one == other == (9, 40) and last[0] > 40
    assert {updates for _, updates in made} == {40}
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "training.method auto has chosen by held-out rows" in metrics["cross_validation"]["note"]
    assert json.loads((tmp_path / "run" / "method.json").read_text())["method"] == "fine_tune"


class Killed(Exception):
    pass


@pytest.mark.parametrize("method", ["fine_tune", pytest.param("contrastive", marks=pytest.mark.slow)])
def test_cross_validation_is_of_a_training_on_the_labelled_rows(begun, monkeypatch, method):
    """Its folds make the updates of these, with their learning rates, and the run those of all that it learns from."""
    made = []

    def noted(rows: int, run) -> None:
        # The learning rate is what the next update would have.
        made.append((rows, int(run.model.optimizer.iterations), float(run.model.optimizer.learning_rate)))

    def trial(run, rows, *others):
        true_method(method)(run, rows, *others)
        noted(len(rows), run)

    def fit(run, *others):
        progress = true_fit(run, *others)
        noted(len(run.data.to_learn), run)
        return progress

    true_method, true_fit = trials.method, Assembly.fit
    monkeypatch.setattr(trials, "method", lambda _: trial)
    monkeypatch.setattr(Assembly, "fit", fit)
    words = ["--training.method", method, "--training.epochs", "10", "--training.batch_size", "4"]
    assert run.main([*begun, *words, "--evaluation.cross_validation", "2"]) == 0
    rows = made[-1][0]
    assert rows > 40
    assert made == [(18, 50, 0.0), (9, 50, 0.0), (9, 50, 0.0), (rows, 10 * -(-rows // 4), 0.0)]


def killed(*_, **__):
    raise Killed


def test_labels_are_those_of_the_rows_and_texts_as_they_are(begun, tmp_path, capsys, monkeypatch):
    """Killed before its own training begins, a run may find other files."""
    pool, rows = tmp_path / "pool.csv", tmp_path / "run" / "self_training" / "rows-1.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.methods.cross_validation.cross_validate", killed)
        for _ in range(2):
            with pytest.raises(Killed):
                run.main(begun)
        before = rows.read_bytes(), rows.stat().st_mtime_ns
        write(pool, ["text"], [(text,) for text, _ in texts(40, 7)])
        with pytest.raises(Killed):
            run.main(begun)
        learned = {json.loads(line)["text"] for line in rows.read_text().splitlines()[18:]}
        assert learned and learned <= {text for text, _ in texts(40, 7)}
        # What is there holds where its files are gone, and where they are the same again.
        changed_at = rows.stat().st_mtime_ns
        moved = pool.rename(tmp_path / "moved.csv")
        with pytest.raises(Killed):
            run.main(begun)
        assert rows.stat().st_mtime_ns == changed_at and rows.read_bytes() != before
        moved.rename(pool)
    labels = dict(zip(SUBJECTS, [*SUBJECTS][::-1], strict=True))
    write(tmp_path / "train.csv", ["text", "label"], [(text, labels[label]) for text, label in texts(18, 1)])
    assert run.main(begun) == 2
    assert "the data changed since this run began; use another run_dir" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_goes_on_with_what_was_decided(begun, tmp_path, capsys, monkeypatch):
    words = [*begun, "--training.method", "fine_tune", "--training.self_training", "2", "--training.updates", "6"]
    assert run.main([*words, "--run_dir", str(tmp_path / "whole")]) == 0

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.assemble.Assembly.forward", killed)
        with pytest.raises(Killed):
            run.main(words)
    assert not (tmp_path / "run" / "self_training" / "rows-1.jsonl").exists()
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.methods.cross_validation.cross_validate", killed)
        with pytest.raises(Killed):
            run.main(words)
    assert (tmp_path / "run" / "self_training" / "rows-2.jsonl").exists()
    # The rounds are over: nothing of them is trained again.
    monkeypatch.setattr(self_training, "_round", _only_kept(self_training._round))
    assert run.main(words) == 0
    files = [tmp_path / name / "self_training" / "rows-2.jsonl" for name in ("whole", "run")]
    assert files[0].read_bytes() == files[1].read_bytes()
    losses = [json.loads((tmp_path / name / "metrics.json").read_text())["test"]["loss"] for name in ("whole", "run")]
    assert losses[0] == losses[1]


def _only_kept(round_of):
    def kept(config, data, pool, folder, place):
        assert (folder / "answers.npz").is_file()
        return round_of(config, data, pool, folder, place)

    return kept


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.unlabelled", "nowhere.csv"], "nowhere.csv"),
        (["--data.task", "number"], "data.unlabelled is for tasks with labels"),
        (["--data.weight_column", "weight"], "data.unlabelled goes without data.weight_column"),
    ],
)
def test_what_is_refused(begun, words, message, capsys):
    assert run.main([*begun, *words]) == 2
    assert message in capsys.readouterr().err


def test_labelled_texts_alone_are_refused(begun, tmp_path, capsys):
    assert run.main([*begun, "--data.unlabelled", str(tmp_path / "train.csv")]) == 2
    assert "has no text that is not among the labelled rows" in capsys.readouterr().err


def test_a_vector_of_another_size_than_the_labelled_rows_is_refused(begun, tmp_path, capsys):
    vectors = ["[0.5, 1.0]", "[0.5, 1.0, 2.0]"]
    for name, columns, rows in (
        ("train", ["text", "label", "v"], [(f"goal {i}", list(SUBJECTS)[i % 3], vectors[0]) for i in range(12)]),
        ("test", ["text", "label", "v"], [("goal", next(iter(SUBJECTS)), vectors[0])]),
        ("pool", ["text", "v"], [(f"bank {i}", vectors[i % 2]) for i in range(2)]),
    ):
        write(tmp_path / f"{name}.csv", columns, rows)
    assert run.main([*begun, "--data.vector_columns", "[v]", "--export.signatures", "[top_k]"]) == 2
    assert "pool.csv, line 3: the row has a list of another length" in capsys.readouterr().err
