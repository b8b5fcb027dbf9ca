"""A linear model over TF-IDF beside the score."""

import random
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from tiny import write_rows

from export.config import ExportConfig
from pipeline.config import DataConfig, EvaluationConfig
from pipeline.data.folds import fold_numbers
from pipeline.data.load import load
from pipeline.evaluation import baseline
from pipeline.evaluation import evaluate as evaluate_module
from pipeline.evaluation.baseline import NAME, Baseline, Tfidf, baselines, out_of_fold_baseline, unspaced
from pipeline.evaluation.evaluate import evaluate

CHINESE = [("今天 天气很好", "good"), ("服务太差了", "bad"), ("非常满意", "good"), ("再也不来了", "bad")]


def rows_of(folder, settings=None, rows=120):
    source = folder / "rows.csv"
    if not source.exists():
        write_rows(source, rows)
    fractions = {"validation_fraction": 0.0, "test_fraction": 0.3}
    return load(DataConfig(train=str(source), **fractions | (settings or {})), folder / "data")


def test_it_learns_what_words_tell(tmp_path):
    data = rows_of(tmp_path)
    always = np.tile(np.eye(3)[0], (len(data.test), 1))
    (found,) = baselines({"test": always}, data.train, [data.test], data.task)
    assert found.scores["test"]["accuracy"] > 0.9
    by, low, high = found.better["test"]
    right = data.test.targets() == 0
    assert by == pytest.approx(right.mean() - found.scores["test"]["accuracy"]) and low < by < high < 0
    assert found.warning("test").startswith(f"The model is worse than {NAME} on the test rows: the difference is -0.")
    assert found.line(data.task, "test").startswith(f"{NAME} on the same rows: accuracy 1.000, macro f1 1.000")


def test_rows_of_a_fold_are_not_learned_from_where_it_is_asked_about(tmp_path):
    data = rows_of(tmp_path, {"test_fraction": 0.0})
    rows, always = replace(data.train, name="folds"), np.tile(np.eye(3)[0], (120, 1))
    found = out_of_fold_baseline(always, rows, fold_numbers(rows, 3, 0), None, data.task)
    assert found.scores["folds"]["accuracy"] > 0.9 and found.better["folds"][0] < -0.3
    kept = Baseline.of_metrics(found.metrics(data.task))
    assert kept.line(data.task, "folds") == found.line(data.task, "folds") and kept.better == found.better
    lines = [f"word{row},{random.Random(row).choice('ab')}" for row in range(120)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines]))
    data = rows_of(tmp_path, {"test_fraction": 0.0})
    rows, always = replace(data.train, name="folds"), np.tile(np.eye(2)[0], (120, 1))
    found = out_of_fold_baseline(always, rows, fold_numbers(rows, 3, 0), None, data.task)
    assert found.scores["folds"]["accuracy"] < 0.75


def test_it_learns_no_more_of_texts_than_the_model_reads(tmp_path):
    data = rows_of(tmp_path)
    always = {"test": np.tile(np.eye(3)[0], (len(data.test), 1))}

    def redacted(texts):
        return tf.where([b"goal" in text or b"bank" in text for text in texts], "[GONE]", tf.constant(texts))

    known = Tfidf(data.train, redacted=redacted)._fitted[0].vocabulary_
    assert {"gone", "planet"} <= set(known) and not {"goal", "bank"} & set(known)
    (plain,), (less,) = (baselines(always, data.train, [data.test], data.task, redacted=r) for r in (None, redacted))
    assert less.scores["test"]["accuracy"] < plain.scores["test"]["accuracy"]


def test_many_classes_have_fewer_features_and_too_many_no_baseline(tmp_path, monkeypatch):
    data, asked = rows_of(tmp_path), []
    fit = data.task.baseline_predictions

    def watched(features, *arguments, **named):
        asked.append(features.shape[1])
        return fit(features, *arguments, **named)

    monkeypatch.setattr(type(data.task), "baseline_predictions", lambda task, *a, **k: watched(*a, **k))

    def has_one(kind):
        always = np.tile(np.eye(3)[0], (len(data.test), 1))
        return evaluate(lambda split: always, data, data.task, EvaluationConfig(baseline=kind)).baseline is not None

    assert has_one("auto") and asked[-1] > 20
    monkeypatch.setattr(baseline, "MOST_WEIGHTS", 60)
    assert has_one("auto") and asked[-1] == 20
    monkeypatch.setattr(evaluate_module, "MOST_DECISIONS", 3 * len(data.train))
    assert not has_one("auto") and has_one("tfidf")


def test_boosting_has_a_limit_of_its_own(tmp_path, monkeypatch):
    """A tree a label takes far longer than a linear model does."""
    head, *lines = write_rows(tmp_path / "rows.csv", 120).read_text().splitlines()
    rows = [f"{line},{number}" for number, line in enumerate(lines)]
    (tmp_path / "rows.csv").write_text("\n".join([f"{head},size", *rows]) + "\n")
    data = rows_of(tmp_path, {"numeric_columns": ["size"]})

    def asked(kind):
        always = np.tile(np.eye(3)[0], (len(data.test), 1))
        found = evaluate(lambda split: always, data, data.task, EvaluationConfig(baseline=kind))
        return found.baseline is not None, len(found.boosted)

    monkeypatch.setattr(evaluate_module, "MOST_BOOSTED", 3 * len(data.train))
    assert asked("auto") == (True, 2)
    monkeypatch.setattr(evaluate_module, "MOST_BOOSTED", 3 * len(data.train) - 1)
    assert asked("auto") == (True, 0) and asked("tfidf") == (True, 2)


def columns_of(folder, words):
    """Rows whose columns have as many words each, all of them in some row."""
    lines = (",".join(f"c{column}w{row % count}" for column, count in enumerate(words)) for row in range(60))
    names = [f"c{column}" for column in range(len(words))]
    rows = "".join(f"{line},{'ab'[row % 2]}\n" for row, line in enumerate(lines))
    (folder / "rows.csv").write_text(f"{','.join(names)},label\n{rows}")
    return rows_of(folder, {"text_columns": names, "test_fraction": 0.5})


@pytest.mark.parametrize(("words", "most", "name"), [
    ((1, 1, 40), 18, "TF-IDF of 8 features with a linear model"),
    ((30,), 20, NAME),
])  # fmt: skip
def test_a_baseline_is_named_by_its_features_where_a_column_is_cut(tmp_path, monkeypatch, words, most, name):
    data = columns_of(tmp_path, words)
    always = np.tile(np.eye(2)[0], (len(data.test), 1))
    monkeypatch.setattr(baseline, "MOST_WEIGHTS", most * data.task.baseline_outputs)
    (found,) = baselines({"test": always}, data.train, [data.test], data.task)
    assert found.name == name
    if name == NAME:
        # Not cut, though more than half of what there is room for.
        assert most / 2 < Tfidf(data.train)(data.train).shape[1] < most


def test_a_model_that_is_clearly_better_is_not_warned_of(tmp_path):
    data = rows_of(tmp_path)
    # Labels at random: only who knows them is right.
    shuffled = replace(data.train, of_store=Shuffled(data.train.of_store))
    (found,) = baselines({"test": np.eye(3)[data.test.targets()]}, shuffled, [data.test], data.task)
    assert found.better["test"][1] > 0 and found.warning("test") is None


def with_a_rare_label(folder, several):
    """Rows of which one in eight has a label that a word tells, in splits of 0.3 each."""
    chance = random.Random(0)
    filler, lines = [f"w{i}" for i in range(60)], []
    for row in range(480):
        rare = row % 8 == 0
        words = [*chance.choices(filler, k=4), *(["goal"] if rare else [])]
        lines.append(f"{' '.join(words)},{int(rare) if several else ('usual', 'rare')[rare]}")
    (folder / "rows.csv").write_text(f"text,{'rare' if several else 'label'}\n" + "\n".join(lines) + "\n")
    return rows_of(folder, {"validation_fraction": 0.3} | ({"label_columns": ["rare"]} if several else {}))


@pytest.mark.parametrize("several", [False, True])
def test_it_is_judged_by_thresholds_of_its_own(tmp_path, several):
    data = with_a_rare_label(tmp_path, several)
    rare = 0 if several else data.task.names.index("rare")

    def timid(split):
        """A model that is right with a threshold of 0.035, by which many rows of TF-IDF's would be the rare label."""
        given = split.targets()[:, 0] > 0 if several else split.targets() == rare
        score = np.where(given, 0.05, 0.02).astype(np.float32)
        return score[:, None] if several else np.stack([score, 1 - score], axis=1)[:, [rare, 1 - rare]]

    config = EvaluationConfig(threshold="tuned", baseline="tfidf")
    export = ExportConfig() if several else ExportConfig(coverage=0.9, abstain_error=0.2)
    found = evaluate(timid, data, data.task.served(config, export), config)
    assert found.scores["test"]["accuracy"] == 1
    assert found.baseline is not None and found.baseline.scores["test"]["accuracy"] == 1
    assert found.baseline.better["test"][0] == 0 and "not clearly better" in str(found.baseline.warning("test"))
    # The model's own answers are by its own threshold.
    thresholds = found.scores["test"]["thresholds"] if several else found.scores["test"]["decision"]
    assert thresholds["rare" if several else "threshold"] == pytest.approx(0.035)


class Shuffled:
    """Targets of other rows."""

    def __init__(self, targets):
        self.targets = targets

    def values(self, rows):
        return np.random.default_rng(0).permutation(self.targets.values(rows))


@pytest.mark.parametrize("kind", ["several labels", "a number", "pairs", "Chinese", "no words"])
def test_every_kind_of_rows_has_one(tmp_path, kind):
    lines = {
        "several labels": ["text,label", *(f"{a} {b},{a}|{b}" for a in ("x", "yy", "zz") for b in ("u", "v", "w"))] * 3,
        "a number": ["text,label", *(f"{'good ' * (i % 5)}thing,{i % 5}" for i in range(30))],
        "pairs": ["a,b,label", *(f"one {i},two {i % 3},{'yes' if i % 3 else 'no'}" for i in range(30))],
        "Chinese": ["text,label", *(f"{text},{label}" for text, label in CHINESE * 6)],
        "no words": ["text,label", *(f"{text},{label}" for text, label in (("!", "a"), ("?", "b")) * 12)],
    }[kind]
    rows = [line for i, line in enumerate(lines) if i == 0 or line != lines[0]]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    settings = {
        "several labels": {"label_separator": "|"},
        "a number": {"task": "number"},
        "pairs": {"text_columns": ["a", "b"]},
    }.get(kind, {})
    data = rows_of(tmp_path, settings | {"test": str(tmp_path / "rows.csv")})
    perfect = data.task.activation(data.task.training_targets(data.test.targets()) * 1.0)
    found = evaluate(lambda split: np.asarray(perfect), data, data.task, EvaluationConfig(baseline="tfidf"))
    assert found.baseline is not None
    if kind != "several labels":
        shown = found.baseline.scores["test"]
        assert shown["mae"] < 1 if kind == "a number" else shown["accuracy"] > 0.6
    assert (
        evaluate(lambda split: np.asarray(perfect), data, data.task, EvaluationConfig(baseline="none")).baseline is None
    )


@pytest.mark.parametrize(
    ("texts", "expected"),
    [(["今天天气很好", "OK 服务"], True), (["this is 中文"], False), (["สวัสดีครับ"], True), (["", "12"], False)],
)
def test_scripts_without_spaces_are_known(texts, expected):
    assert unspaced(texts) is expected
