"""How weights are found: the head alone, contrastively, or as auto chooses; cross-validation."""

import json
import signal
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import tensorflow as tf
from test_training import CLASSES, LENGTH, ROWS, assert_equal_weights, tiny_model
from tiny import VOCABULARY, write_config, write_rows

from export import load as load_model
from pipeline import run
from pipeline.classifier import parts_of
from pipeline.command_line import parse
from pipeline.config import DataConfig, DistillationConfig, EvaluationConfig, TrainingConfig
from pipeline.data.batching import BatchOptions
from pipeline.data.few import few_labels
from pipeline.data.folds import fold_numbers, inner_fold_numbers
from pipeline.data.load import load
from pipeline.errors import TRY_AGAIN, UserError
from pipeline.evaluation import baseline, evaluate
from pipeline.evaluation.baseline import Tfidf
from pipeline.methods import auto
from pipeline.methods.auto import choose
from pipeline.methods.balanced import BalancedRows, balanced_batches, rows_by_class
from pipeline.methods.contrastive import TEMPERATURE, ContrastiveModel, pair_losses
from pipeline.methods.cross_validation import cross_validate
from pipeline.methods.linear import Examples, LinearFit, choose_strength
from pipeline.methods.trials import Trials, calibrated_losses
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.number import Number
from pipeline.tasks.single_label import SingleLabel
from pipeline.text import TextEncoder
from pipeline.training.fit import Lesson
from pipeline.training.optimizer import make_optimizer
from pipeline.training.plan import Plan, plan_of, total_updates
from pipeline.training.strategy import choose_strategy
from pipeline.training.watch import Watch
from pipeline.training.workers import Workers

TASK = SingleLabel(("a", "b", "c"))
# Of 60 rows in four folds.
FOLDS_OF_TEXTS = "002023220131333002310330112101202033312322312132022011011301"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    rows = write_rows(folder / "rows.csv", 60)
    return load(DataConfig(train=str(rows), validation_fraction=0.0, test_fraction=0.0), folder / "data")


# Updates and passes.


def test_epochs_are_passes():
    config = TrainingConfig(epochs=3, batch_size=32)
    assert total_updates(config, 100) == 12
    plan = plan_of(config, 100, 12)
    assert (plan.passes, plan.steps, plan.epochs) == (1, 4, 3)


def test_updates_in_place_of_epochs_are_looked_at_ten_times():
    config = TrainingConfig(updates=60, batch_size=32)
    assert total_updates(config, 48) == 60
    plan = plan_of(config, 48, 60)
    assert plan == Plan(passes=3, steps=5, total=60)
    assert [plan.steps_of(epoch) for epoch in range(plan.epochs)] == [5] * 12
    plan = plan_of(TrainingConfig(updates=62, batch_size=32), 48, 62)
    assert [plan.steps_of(epoch) for epoch in range(plan.epochs)] == [5] * 12 + [2]


@pytest.mark.parametrize(("method", "updates"), [("fine_tune", 6), ("contrastive", 40), ("auto", 40)])
def test_few_labels_get_more_updates_by_methods_for_them(method, updates):
    assert total_updates(TrainingConfig(method=method, epochs=3), 48) == updates


def test_no_rows_no_updates():
    assert total_updates(TrainingConfig(updates=60), 0) == total_updates(TrainingConfig(epochs=0), 48) == 0


# Folds.


def test_folds_share_labels_out_and_keep_equal_texts_together(data):
    train = replace(data.train, rows=np.concatenate([data.train.rows, data.train.rows[:7]]))
    numbers = fold_numbers(train, 4, seed=3)
    np.testing.assert_array_equal(numbers[-7:], numbers[:7])
    for label in range(3):
        counts = np.bincount(numbers[:-7][data.train.targets() == label], minlength=4)
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(numbers, fold_numbers(train, 4, seed=4))


def test_folds_keep_what_a_group_or_a_text_joins_together(tmp_path):
    """Text "same" is of two authors, and one of these has another text; a row without an author is with its text."""
    rows = [("same", "x", "p"), ("same", "y", "q"), ("other", "x", "q"), ("other", "y", ""), ("", "x", "r")]
    rows += [("", "xy"[n % 2], f"author {n // 2}") for n in range(40)]
    lines = [f"{text or f'text {n}'},{label},{author}" for n, (text, label, author) in enumerate(rows)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label,author", *lines]) + "\n")
    config = DataConfig(train=str(tmp_path / "rows.csv"), validation_fraction=0.0, test_fraction=0.0)
    (train,) = load(replace(config, group_column="author"), tmp_path / "data").splits
    for seed in range(6):
        numbers = fold_numbers(train, 4, seed)
        assert len(set(numbers[:4])) == 1 and len(set(numbers)) == 4
        assert all(len(set(numbers[n : n + 2])) == 1 for n in range(5, 45, 2))


def grouped(folder, sizes, labels="xyz"):
    """Rows of groups of these sizes, whose labels take turns."""
    groups = [f"site {number}" for number, size in enumerate(sizes) for _ in range(size)]
    lines = [f"text {n},{labels[n % len(labels)]},{group}" for n, group in enumerate(groups)]
    (folder / "rows.csv").write_text("\n".join(["text,label,site", *lines]) + "\n")
    config = DataConfig(train=str(folder / "rows.csv"), validation_fraction=0.0, test_fraction=0.0)
    (train,) = load(replace(config, group_column="site"), folder / "data").splits
    return train


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([600, 250, 150, 120, 60, 12, 6, 2], (240, 260)),
        ([600, 600], (600, 600)),
        ([1000, 150, 50], (150, 150)),
        ([1] * 1000, (200, 200)),
    ],
)
def test_groups_are_dealt_by_their_rows(tmp_path, sizes, expected):
    """The fold that auto alone asks about is a fifth of the rows, as far as the groups allow it, and never empty."""
    train = grouped(tmp_path, sizes)
    for seed in range(8):
        numbers = fold_numbers(train, 5, seed)
        rows = np.bincount(numbers, minlength=5)
        assert expected[0] <= rows[0] <= expected[1] and rows.max() <= max(*sizes, len(train) // 5) + 1
        assert (numbers == fold_numbers(train, 5, seed)).all()


def test_groups_of_one_label_are_shared_out(tmp_path):
    train = grouped(tmp_path, [30, 1, 10, 1, 10, 1, 10, 1, 30, 10, 10, 10, 10, 10], labels="x" * 31 + "yz" * 5 + "y")
    numbers, labels = fold_numbers(train, 3, 0), train.targets()
    for label in range(3):
        shares = np.bincount(numbers[labels == label], minlength=3) / (labels == label).sum()
        assert shares.min() > 0.1, shares


def test_folds_of_rows_without_groups_stay_as_they_were(data):
    """Runs that are taken up have outcomes of them."""
    assert "".join(map(str, fold_numbers(data.train, 4, seed=3))) == FOLDS_OF_TEXTS


def test_the_last_group_is_dealt_by_its_texts(tmp_path):
    train = grouped(tmp_path, [20, 20])
    one = replace(train, rows=train.rows[:20])
    assert len(set(inner_fold_numbers(one, 5, 0))) == 5 and len(set(fold_numbers(one, 5, 0))) == 1
    assert (inner_fold_numbers(train, 5, 0) == fold_numbers(train, 5, 0)).all()
    assert len(set(inner_fold_numbers(replace(one, rows=one.rows[:1].repeat(9)), 5, 0))) == 1


@pytest.mark.parametrize("method", ["head", pytest.param("auto", marks=pytest.mark.slow)])
def test_what_is_left_of_two_groups_is_learned_from(tmp_path, method):
    config = settings(tmp_path, method, data={"validation_fraction": 0.0, "test_fraction": 0.0, "group_column": "site"},
                      evaluation={"cross_validation": 2}, export={"enabled": False})  # fmt: skip
    head, *lines = (tmp_path / "train.csv").read_text().splitlines()
    rows = [f"{line},{'AB'[n % 2]}" for n, line in enumerate(lines)]
    (tmp_path / "train.csv").write_text("\n".join([f"{head},site", *rows]) + "\n")
    assert run.main(["--config", str(config), "--run_dir", str(tmp_path / "run")]) == 0
    assert metrics_of(tmp_path / "run")["cross_validation"]["rows"] == 40


def test_thresholds_of_cross_validation_are_said(tmp_path):
    config = settings(tmp_path, "head", data={"validation_fraction": 0.3, "test_fraction": 0.0},
                      evaluation={"cross_validation": 2, "threshold": "tuned"}, export={"enabled": False})  # fmt: skip
    text = (tmp_path / "train.csv").read_text()
    (tmp_path / "train.csv").write_text(text.replace(",space", ",money"))
    assert run.main(["--config", str(config), "--run_dir", str(tmp_path / "run")]) == 0
    assert metrics_of(tmp_path / "run")["cross_validation"]["note"].startswith("thresholds are 0.5 in cross-validation")


def test_the_baseline_of_cross_validation_is_learned_once_by_the_chief(data, tmp_path, monkeypatch):
    """Not at every start, not by every worker, and not where its folds together are more rows than are waited for."""
    learned = []
    config = SimpleNamespace(
        run_dir=str(tmp_path), training=TrainingConfig(method="head"), evaluation=EvaluationConfig(cross_validation=3)
    )
    encoder = SimpleNamespace(redacted=None)
    assembly: Any = SimpleNamespace(config=config, data=data, updates=1, encoder=encoder, resume_identity={})
    logits = np.zeros([60, 3], np.float32)
    monkeypatch.setattr(Trials, "out_of_fold", lambda *_: (np.ones(60, bool), logits))
    monkeypatch.setattr(baseline, "Tfidf", lambda *rows: learned.append(1) or Tfidf(*rows))

    def made(chief=True):
        workers = Workers()
        workers.chief = chief
        return cross_validate(assembly, data.task, workers)

    assert "cross_validation_baseline" not in made(chief=False) and not learned
    folder = Trials(assembly, data.train, Workers()).folder
    folder.mkdir(parents=True)
    found = made()
    assert len(learned) == 3 and found["cross_validation_baseline"]["scores"]["cross_validation"]["accuracy"] > 0.5
    assert made() == found and len(learned) == 3
    assert [path.name for path in folder.iterdir()] == ["baseline-of-3.npz"]
    monkeypatch.setattr(evaluate, "MOST_ROWS", 180)
    assert "cross_validation_baseline" not in made()
    monkeypatch.setattr(evaluate, "MOST_ROWS", 181)
    assert made() == found


@pytest.mark.parametrize("asked", [None, 1])
def test_rows_of_one_text_are_not_scored_by_a_model_that_nobody_trained(data, tmp_path, asked):
    rows = replace(data.train, rows=np.repeat(data.train.rows[:1], 12))
    assembly = SimpleNamespace(
        config=SimpleNamespace(run_dir=str(tmp_path), training=SimpleNamespace(seed=0)), data=data
    )
    with pytest.raises(UserError, match="12 training rows have one text or one group"):
        Trials(assembly, rows, Workers()).out_of_fold("head", 3, asked)


def test_one_fold_is_refused(tmp_path, capsys):
    config = settings(tmp_path, "head", evaluation={"cross_validation": 1})
    assert run.main(["--config", str(config), "--run_dir", str(tmp_path / "run")]) == 2
    assert "evaluation.cross_validation 1 leaves no other fold to learn from" in capsys.readouterr().err


def test_a_teacher_that_has_learned_the_held_out_rows_is_refused(tmp_path, capsys):
    config = settings(
        tmp_path, "fine_tune", evaluation={"cross_validation": 2}, distillation={"teacher": str(tmp_path)}
    )
    assert run.main(["--config", str(config), "--run_dir", str(tmp_path / "run")]) == 2
    assert "evaluation.cross_validation goes without distillation.teacher" in capsys.readouterr().err


def test_examples_are_counted_as_they_are_drawn():
    """24 rows are drawn by balanced_batches as often as 40 batches of 32 need; training_batches fills up its last."""
    arguments: Any = [range(24), None, None, TrainingConfig(batch_size=32), None, Plan(1, 40, 40), None]
    assert Lesson(*arguments, batches=balanced_batches).examples(40) == 40 * 32
    arguments[5] = Plan(2, 2, 4)
    assert Lesson(*arguments).examples(2) == 2 * 24


# The head.


def made_examples(task, rows=80, hidden=6, seed=0):
    random = np.random.default_rng(seed)
    features = random.normal(2.0, 3.0, (rows, hidden)).astype(np.float32)
    scores = features @ random.normal(size=(hidden, 3)) + random.normal(0, 4, (rows, 3))
    if isinstance(task, Number):
        values = scores[:, 0]
    else:
        values = scores.argmax(1) if isinstance(task, SingleLabel) else (scores > 0).astype(np.int64)
    task = task.fitted(values)
    return task, values, Examples(features, task.training_targets(values), np.ones(rows, np.float32))


def scaled(features):
    centred = features - features.mean(axis=0)
    return centred / np.sqrt((centred**2).sum(axis=1).mean())


def test_head_of_one_label_a_row_is_logistic_regression():
    """scikit-learn's."""
    from sklearn.linear_model import LogisticRegression

    task, values, examples = made_examples(TASK)
    for strength, layer in zip((1.0, 10.0), LinearFit(task).path(examples, (1.0, 10.0)), strict=True):
        reference = LogisticRegression(C=strength, tol=1e-8, max_iter=1000).fit(scaled(examples.features), values)
        ours = task.activation(tf.constant(layer(examples.features))).numpy()
        np.testing.assert_allclose(ours, reference.predict_proba(scaled(examples.features)), atol=2e-3)


def test_head_of_a_number_is_ridge_regression():
    from sklearn.linear_model import Ridge

    task, values, examples = made_examples(Number())
    (layer,) = LinearFit(task).path(examples, (3.0,))
    # The loss is the squared error in standard deviations, the penalty half of it.
    reference = Ridge(alpha=1 / 6, tol=1e-10).fit(scaled(examples.features), (values - task.mean) / task.deviation)
    ours = layer(examples.features)[:, 0]
    np.testing.assert_allclose(ours, reference.predict(scaled(examples.features)), atol=2e-3)


def test_a_row_of_weight_two_counts_as_two_rows():
    task, _, examples = made_examples(MultiLabel(("a", "b", "c")))
    twice = [np.concatenate([array, array[:5]]) for array in (examples.features, examples.targets, examples.weights)]
    weights = examples.weights + (np.arange(len(examples.weights)) < 5)
    fit = LinearFit(task)
    for one, other in zip(fit.path(Examples(*twice)), fit.path(replace(examples, weights=weights)), strict=True):
        np.testing.assert_allclose(one.kernel, other.kernel, atol=2e-3)


def test_strength_is_chosen_by_the_loss_on_rows_not_learned_from():
    """Where features say nothing, the strongest penalty; where they say everything, none of the strongest."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 120)
    noise = Examples(
        random.normal(size=(120, 40)).astype(np.float32), np.eye(3, dtype=np.float32)[labels], np.ones(120)
    )
    folds = np.arange(120) % 5
    fit = LinearFit(TASK)
    assert choose_strength(fit, noise, TASK, folds)[0] == 0.3
    strength, predictions = choose_strength(fit, replace(noise, features=noise.targets), TASK, folds)
    assert strength > 10 and (predictions.argmax(1) == labels).all()


# Pairs.


def test_batches_have_as_many_rows_of_every_class_and_follow_from_their_number():
    classes = [np.arange(3), np.arange(10, 40), np.arange(50, 70)]
    rows_of = BalancedRows(classes, 12, seed=5)
    steps = [rows_of(step) for step in range(20)]
    for rows in steps:
        assert [np.isin(rows, own).sum() for own in classes] == [4, 4, 4]
    again = BalancedRows(classes, 12, seed=5)
    for step in (13, 2, 19):
        np.testing.assert_array_equal(again(step), steps[step])
    # No row of a class is seen again before all others have been.
    seen = np.concatenate(steps)
    counts = np.bincount(seen[np.isin(seen, classes[1])])[10:]
    assert counts.max() - counts.min() <= 1


def test_of_many_classes_a_batch_has_pairs_of_some():
    rows_of = BalancedRows([np.arange(i * 5, i * 5 + 5) for i in range(20)], 8, seed=0)
    for step in range(5):
        assert len(np.unique(rows_of(step) // 5)) == 4
    # Five batches of four classes are a cycle.
    assert len(np.unique(np.concatenate([rows_of(step) // 5 for step in range(5)]))) == 20


def test_rows_without_a_label_are_a_class_too():
    task = MultiLabel(("a", "b"))
    found = rows_by_class(task, np.array([[1, 0], [0, 0], [1, 1], [0, 0]]))
    assert [rows.tolist() for rows in found] == [[0, 2], [2], [1, 3]]


def test_balanced_batches_go_on_where_they_are_skipped_to(data):
    encoder = TextEncoder(VOCABULARY, lowercase=True, sequence_length=24)
    options = BatchOptions(6, seed=1)

    def taken(skip, count, shard=(0, 1)):
        batches = balanced_batches(data.train, encoder, data.task, replace(options, shard=shard), epoch=0, skip=skip)
        return [(inputs["token_ids"].numpy(), targets.numpy()) for inputs, targets, _ in batches.take(count)]

    whole = taken(0, 5)
    for (ids, targets), (same, same_targets) in zip(taken(3, 2), whole[3:], strict=True):
        np.testing.assert_array_equal(ids, same)
        np.testing.assert_array_equal(targets, same_targets)
    halves = [taken(0, 1, (index, 2))[0] for index in range(2)]
    np.testing.assert_array_equal(np.concatenate([targets for _, targets in halves]), whole[0][1])


def contrastive_model(strategy, xla=False):
    with strategy.scope():
        whole = tiny_model(pooling="mean")
        parts = parts_of(whole)
        model = ContrastiveModel(parts.backbone.input, parts.pooled)
        model.task, model.xla = TASK, xla
        model.compile(
            optimizer=make_optimizer(TrainingConfig(learning_rate=0.01), whole, total_steps=8), jit_compile=False
        )
    return whole, model


def pair_batches(count=3):
    random = np.random.default_rng(0)
    mask = (np.arange(LENGTH) < random.integers(3, LENGTH, (count, ROWS))[..., None]).astype(np.int32)
    ids = random.integers(5, len(VOCABULARY), mask.shape).astype(np.int32) * mask
    targets = np.eye(CLASSES, dtype=np.float32)[random.integers(0, CLASSES, (count, ROWS))]
    inputs = {"token_ids": ids, "segment_ids": np.zeros_like(mask), "padding_mask": mask}
    return tf.data.Dataset.from_tensor_slices((inputs, targets, np.ones((count, ROWS), np.float32)))


def test_loss_is_the_supervised_contrastive_one():
    """As arXiv:2004.11362 has it (equation 2), row by row."""
    _, model = contrastive_model(tf.distribute.get_strategy())
    inputs, targets, weights = next(iter(pair_batches()))
    labels = targets.numpy().argmax(1)
    with tf.GradientTape() as tape:
        vectors = model(inputs, training=True)
        vectors = vectors / tf.norm(vectors, axis=1, keepdims=True)
        losses = []
        for row, label in enumerate(labels):
            others = [other for other in range(ROWS) if other != row]
            scores = {other: tf.reduce_sum(vectors[row] * vectors[other]) / TEMPERATURE for other in others}
            total = tf.math.log(tf.add_n([tf.exp(score) for score in scores.values()]))
            same = [total - scores[other] for other in others if labels[other] == label]
            losses.append(tf.add_n(same) / len(same) if same else tf.constant(0.0))
        expected = tf.add_n(losses) / ROWS
    slopes = tape.gradient(expected, model.trainable_variables)
    losses, found = model._all_gradients((inputs, targets, weights), model.weight_sums((inputs, targets, weights)))
    np.testing.assert_allclose(losses["loss"], expected, rtol=1e-5)
    for one, other in zip(found, slopes, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(one), tf.convert_to_tensor(other), atol=1e-5)


def test_a_row_of_weight_0_is_as_one_that_is_not_there():
    vectors = tf.math.l2_normalize(np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32), axis=1)
    alike = tf.constant(np.equal.outer([0, 1, 0, 1, 1], [0, 1, 0, 1, 1]), tf.float32)
    found = pair_losses(vectors, alike, tf.constant([1.0, 1.0, 1.0, 1.0, 0.0]), 0.2)[:4]
    np.testing.assert_allclose(found, pair_losses(vectors[:4], alike[:4, :4], tf.ones(4), 0.2), rtol=1e-5)
    # And of weight 2 as one that is there twice, but to itself.
    twice = tf.gather(vectors, [0, 1, 2, 3, 3]), tf.gather(tf.gather(alike, [0, 1, 2, 3, 3]), [0, 1, 2, 3, 3], axis=1)
    heavy = pair_losses(vectors[:4], alike[:4, :4], tf.constant([1.0, 1.0, 1.0, 2.0]), 0.2)
    np.testing.assert_allclose(heavy[:3], pair_losses(*twice, tf.ones(5), 0.2)[:3], rtol=1e-5)


@pytest.mark.slow
def test_two_devices_compare_the_pairs_of_one():
    trained = []
    for strategy in (tf.distribute.get_strategy(), choose_strategy("mirrored")):
        whole, model = contrastive_model(strategy)
        model.run_updates(pair_batches(), 3, [])
        trained.append(whole.get_weights())
    # Biases of keys have a gradient of nothing but rounding, which Adam makes large.
    assert_equal_weights(*trained, tolerance=1e-5)


# Whole runs.


def settings(tmp_path, method, **sections):
    training = {"method": method, "updates": 6, "batch_size": 8}
    data = {"validation_fraction": 0.0, "test_fraction": 0.25}
    return write_config(tmp_path, 40, **{"training": training, "model": {"pooling": "mean"}, "data": data} | sections)


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("method", ["head", pytest.param("contrastive", marks=pytest.mark.slow)])
def test_a_run_ends_with_a_verified_model(tmp_path, method, capsys):
    """Or, to take half the time, without its export."""
    exported = method == "contrastive"
    config = settings(tmp_path, method, export={"enabled": exported})
    assert run.main(["--config", str(config), "--run_dir", str(tmp_path / "run")]) == 0
    assert "head fitted on 30 rows" in capsys.readouterr().out
    scores = metrics_of(tmp_path / "run")
    assert scores["baseline"]["scores"]["test"]["accuracy"] > 0.3
    if exported:
        assert len(load_model(tmp_path / "run")(["goal match team"]).labels) == 1
    # A finished run is not trained again.
    assert run.main(["--config", str(config), "--run_dir", str(tmp_path / "run"), "--export.enabled", "false"]) == 0
    assert "already complete" in capsys.readouterr().out


def stopped_at(monkeypatch, calls):
    """Training is stopped at its so-many-th update, with the state saved, as a signal stops it."""
    seen = []
    true = Watch.on_train_batch_end

    def stop(self, batch, logs=None):
        seen.append(batch)
        if len(seen) == calls:
            self.stop._ask(signal.SIGTERM, None)
        true(self, batch, logs)

    monkeypatch.setattr(Watch, "on_train_batch_end", stop)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """A config with training.method auto, and a run of it that nobody stopped."""
    folder = tmp_path_factory.mktemp("auto")
    config = settings(folder, "auto", evaluation={"cross_validation": 2}, export={"enabled": False})
    assert run.main(["--config", str(config), "--run_dir", str(folder / "run")]) == 0
    return config, folder / "run"


def test_methods_are_compared_as_if_they_were_calibrated():
    """Ten times too sure is no worse; telling rows apart less well is, also where it is the less sure."""
    chance = np.random.default_rng(0)
    targets = np.eye(3, dtype=np.float32)[chance.integers(0, 3, 400)]
    own = 2 * targets + chance.normal(0, 1, targets.shape).astype(np.float32)
    assembly = SimpleNamespace(data=SimpleNamespace(task=SingleLabel(("a", "b", "c"))))
    rows = SimpleNamespace(training_targets=lambda task, which: targets[which])
    plain, surer = (calibrated_losses(assembly, rows, factor * own) for factor in (1, 10))
    np.testing.assert_allclose(plain, surer, atol=1e-3)
    noisier = calibrated_losses(assembly, rows, 0.1 * (own + chance.normal(0, 1, own.shape).astype(np.float32)))
    assert len(plain) == 400 and noisier.mean() > plain.mean() + 0.1


def test_a_monitored_loss_does_not_take_the_place_of_the_calibrated_one(data, tmp_path, monkeypatch):
    sure = 9 * np.eye(3, dtype=np.float32)[data.train.targets()][np.random.default_rng(0).permutation(60)]
    monkeypatch.setattr(auto, "METHODS", ("contrastive", "fine_tune"))
    monkeypatch.setattr(auto.Trials, "out_of_fold", lambda *_: (np.ones(60, bool), sure))
    training = TrainingConfig(method="auto", monitor="loss")
    config = SimpleNamespace(training=training, distillation=DistillationConfig(), run_dir=str(tmp_path))
    chosen = auto._choose(SimpleNamespace(config=config, data=data), data.train, Workers())
    calibrated = calibrated_losses(SimpleNamespace(data=data), data.train, sure).mean()
    assert {name: scores["loss"] for name, scores in chosen.tried.items()} == pytest.approx(
        {"contrastive": calibrated, "fine_tune": calibrated}
    )
    assert calibrated < 1.2 and f"contrastive {calibrated:.3f}" in chosen.reason


def test_a_simpler_method_of_more_loss_is_said_to_be_the_simpler_one(data, tmp_path, monkeypatch):
    own = np.random.default_rng(0).normal(0, 1, (60, 3)).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[data.train.targets()]
    better = own + 1e-4 * targets * np.arange(60)[:, None]
    logits = {"head": own + targets, "contrastive": better + targets}
    monkeypatch.setattr(auto, "METHODS", tuple(logits))
    monkeypatch.setattr(auto, "_fits", lambda *_: True)
    monkeypatch.setattr(auto, "_clearly_less", lambda *_: False)
    monkeypatch.setattr(auto.Trials, "out_of_fold", lambda _, name, *more: (np.ones(60, bool), logits[name]))
    config = SimpleNamespace(
        training=TrainingConfig(method="auto"), distillation=DistillationConfig(), run_dir=str(tmp_path)
    )
    chosen = auto._choose(SimpleNamespace(config=config, data=data), data.train, Workers())
    assert chosen.method == "head"
    assert chosen.reason.endswith("); contrastive is not clearly better, so the simpler one is taken")


def test_auto_says_what_it_tried_and_why_it_chose(chosen):
    found = json.loads((chosen[1] / "method.json").read_text())
    assert set(found["tried"]) == {"head", "contrastive", "fine_tune"}
    assert found["method"] in found["tried"]
    assert found["reason"].startswith("by the calibrated loss on held-out training rows (head ")
    scores = metrics_of(chosen[1])["cross_validation"]
    assert (scores["rows"], scores["folds"], scores["method"]) == (30, 2, found["method"])
    assert "training.method auto has chosen by held-out rows among these" in scores["note"]
    beside = metrics_of(chosen[1])["cross_validation_baseline"]
    assert beside["scores"]["cross_validation"].keys() == {"accuracy", "macro_f1"}


@pytest.mark.slow
@pytest.mark.parametrize("calls", [4, 30])
def test_auto_stopped_in_a_trial_goes_on_to_the_same_weights(tmp_path, monkeypatch, calls, chosen):
    config, whole = chosen
    arguments = ["--config", str(config), "--run_dir"]
    with monkeypatch.context() as patched:
        stopped_at(patched, calls)
        assert run.main([*arguments, str(tmp_path / "stopped")]) == TRY_AGAIN
    assert run.main([*arguments, str(tmp_path / "stopped")]) == 0
    scores, others = metrics_of(whole), metrics_of(tmp_path / "stopped")
    assert scores["cross_validation"] == others["cross_validation"]
    assert scores["test"] == others["test"]
    assert (whole / "method.json").read_text() == (tmp_path / "stopped" / "method.json").read_text()


def test_many_rows_are_learned_from_without_a_trial(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(auto, "MANY_ROWS", 20)
    config = settings(tmp_path, "auto", export={"enabled": False})
    assert run.main(["--config", str(config), "--run_dir", str(tmp_path / "run")]) == 0
    assert "training.method auto: fine_tune, as 30 rows are enough" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["head", "contrastive"])
def test_methods_that_draw_no_languages_are_refused_with_a_temperature(tmp_path, method):
    config = settings(tmp_path, method, data={"language_column": "lang", "language_temperature": 5})
    with pytest.raises(UserError, match=f"training.method {method} goes without data.language_temperature 5"):
        parse(["--config", str(config)])


def test_auto_takes_the_method_that_draws_languages(tmp_path):
    config = settings(tmp_path, "auto", data={"language_column": "lang", "language_temperature": 5})
    parsed = parse(["--config", str(config), "--run_dir", str(tmp_path)])
    assembly = SimpleNamespace(config=parsed, labelled_identity={})
    choice = choose(cast(Any, assembly), cast(Any, SimpleNamespace(temperature=5)), Workers())
    assert choice.method == "fine_tune" and "data.language_temperature" in choice.reason


def test_a_head_above_weights_that_nothing_trains_is_refused(tmp_path, capsys):
    config = settings(tmp_path, "head", model={"pooling": "fresh"})
    assert run.main(["--config", str(config), "--run_dir", str(tmp_path / "run")]) == 2
    assert "training.method head: model.pooling fresh has weights of its own" in capsys.readouterr().err


def test_few_rows_are_remarked(tmp_path, capsys):
    config = write_config(tmp_path, 40, export={"enabled": False})
    assert run.main(["--config", str(config), "--run_dir", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "updates, too few to learn all weights by: set training.method auto" in said
    assert "the best epoch is chosen by 8 validation rows, which is mostly chance" in said
    assert "note: 8 validation rows are too few to calibrate probabilities by, which takes 200" in said


def test_updates_that_were_given_are_said_to_be_too_few(data):
    for updates, wanted in ((20, "training.updates 20 is too few"), (None, "60 training rows give 20 updates")):
        (said,) = few_labels(TrainingConfig(updates=updates), replace(data, validation=None), 20)
        assert said.startswith(wanted) and "100 or more" in said
