"""The training step against stock Keras, one device against two, and whole batches against parts."""

from types import SimpleNamespace
from typing import Any, cast

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.data.ops import iterator_ops
from tiny import VOCABULARY

from pipeline.backbone.fresh import build
from pipeline.classifier import build_classifier
from pipeline.config import ModelConfig, TrainingConfig
from pipeline.data.untuned import untuned
from pipeline.tasks.number import Number
from pipeline.tasks.single_label import SingleLabel
from pipeline.training.averaging import averaged_weights
from pipeline.training.checkpoint import Checkpoints, Progress
from pipeline.training.fit import Lesson, _best_yet, _finish_epoch, _say_kept
from pipeline.training.model import TrainableClassifier
from pipeline.training.optimizer import AdamW, layer_scales, make_optimizer
from pipeline.training.plan import Plan
from pipeline.training.schedule import WarmupDecay
from pipeline.training.strategy import choose_strategy

CLASSES, ROWS, LENGTH = 3, 8, 10
TASK = SingleLabel(("a", "b", "c"))


def tiny_model(dropout=0.0, model_class=TrainableClassifier, pooling="fresh", layers=2):
    sizes = ModelConfig(
        num_layers=layers, num_heads=2, hidden_dim=16, intermediate_dim=32, max_sequence_length=16, dropout=dropout
    )
    loaded = build(sizes, VOCABULARY, seed=1)
    return build_classifier(loaded, CLASSES, pooling=pooling, dropout=dropout, seed=1, model_class=model_class)


def batches(count=4, seed=0):
    """Batches with weights that differ, and rows of weight 0 in one half of the last."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, LENGTH, (count, ROWS))
    mask = (np.arange(LENGTH) < lengths[..., None]).astype(np.int32)
    ids = random.integers(5, len(VOCABULARY), mask.shape).astype(np.int32) * mask
    targets = np.eye(CLASSES, dtype=np.float32)[random.integers(0, CLASSES, (count, ROWS))]
    weights = random.uniform(0.2, 3, (count, ROWS)).astype(np.float32)
    weights[-1, ROWS // 2 :] = 0
    inputs = {"token_ids": ids, "segment_ids": np.zeros_like(mask), "padding_mask": mask}
    return tf.data.Dataset.from_tensor_slices((inputs, targets, weights))


def train(strategy, *, accumulation=1, lazy="lazy", clip=0.05, epochs=2, layer_decay=0.8, several=1, xla=False):
    config = TrainingConfig(learning_rate=0.01, clip_norm=clip, embedding_update=lazy, layer_decay=layer_decay)
    with strategy.scope():
        model = tiny_model()
        model.accumulation, model.xla = accumulation, xla
        model.compile(
            optimizer=make_optimizer(config, model, total_steps=8),
            loss=TASK.loss(0.1),
            jit_compile=False,
            steps_per_execution=several,
        )
    for _ in range(epochs):
        model.run_updates(batches(), 4, [])
    assert int(model.optimizer.iterations.numpy()) == 4 * epochs
    return model.get_weights()


def assert_equal_weights(first, second, tolerance=2e-6):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)


@pytest.mark.parametrize(
    ("accumulation", "lazy"),
    [(2, "lazy"), *(pytest.param(*c, marks=pytest.mark.slow) for c in ((1, "dense"), (1, "lazy"), (2, "dense")))],
)
def test_two_devices_give_the_weights_of_one(lazy, accumulation):
    """With clipping that bites, uneven weights, and a device without any weight in the last batch."""
    one = train(tf.distribute.get_strategy(), lazy=lazy)
    two = train(choose_strategy("mirrored"), lazy=lazy, accumulation=accumulation)
    assert_equal_weights(one, two)


@pytest.mark.parametrize("lazy", ["lazy", "dense"])
@pytest.mark.parametrize("accumulation", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_parts_give_the_weights_of_the_whole_batch(lazy, accumulation):
    whole = train(tf.distribute.get_strategy(), lazy=lazy)
    assert_equal_weights(whole, train(tf.distribute.get_strategy(), lazy=lazy, accumulation=accumulation))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "accumulation", "lazy"),
    [("mirrored", 1, "dense"), ("one", 1, "lazy"), ("mirrored", 2, "lazy")],
)
def test_xla_gives_the_weights_of_single_operations(strategy, accumulation, lazy):
    plain = train(tf.distribute.get_strategy(), lazy=lazy)
    compiled = train(choose_strategy(strategy), lazy=lazy, accumulation=accumulation, xla=True)
    assert_equal_weights(plain, compiled, 1e-5)


def graph_of_update(xla, layers, update="lazy"):
    model = tiny_model(layers=layers)
    model.xla = xla
    optimizer = make_optimizer(TrainingConfig(embedding_update=update), model, total_steps=8)
    model.compile(optimizer=optimizer, loss=TASK.loss(), jit_compile=False)
    return tf.function(model.train_step, autograph=False).get_concrete_function(next(iter(batches()))).graph


# Losses and gradients; each of two tables of embeddings, its rows made one and applied, or made dense; all else.
@pytest.mark.parametrize(("update", "programs"), [("lazy", 6), ("dense", 4)])
def test_xla_leaves_no_operation_of_a_layer_or_a_variable_outside_its_programs(update, programs):
    """What is left is launched one by one, each as long as a whole layer of a small model takes a GPU."""
    outside = {}
    for layers in (2, 3):
        graph = graph_of_update(True, layers, update)
        compiled = {f.signature.name for f in graph.as_graph_def().library.function if f.attr["_XlaMustCompile"].b}
        calls = [op for op in graph.get_operations() if op.type.endswith("PartitionedCall")]
        assert {op.get_attr("f").name for op in calls} <= compiled
        assert len(calls) == programs
        free = ("Const", "Placeholder", "Identity", "NoOp")
        outside[layers] = [op.type for op in graph.get_operations() if op.type not in free]
    assert outside[2] == outside[3]
    assert len(outside[2]) < 40


@pytest.mark.slow
def test_programs_made_ahead_change_nothing(tmp_path):
    """Without XLA, which takes a minute for this; what is undone is the same."""

    def trained(ahead):
        keras.utils.clear_session()
        model = tiny_model(dropout=0.3)
        optimizer = make_optimizer(TrainingConfig(), model, total_steps=8)
        model.compile(optimizer=optimizer, loss=TASK.loss(), jit_compile=False)
        if ahead:
            checkpoints = Checkpoints(tmp_path, model, optimizer, {})
            checkpoints.save(Progress())
            model.compile_for(batches().element_spec, LENGTH)
            assert int(optimizer.iterations.numpy()) == 1
            checkpoints.restore()
        model.run_updates(batches(2), 2, [])
        return [*model.get_weights(), *(variable.numpy() for variable in optimizer.variables)]

    for a, b in zip(trained(True), trained(False), strict=True):
        np.testing.assert_array_equal(a, b)


def test_nothing_is_compiled_where_xla_is_not_asked_for():
    functions = graph_of_update(False, 2).as_graph_def().library.function
    assert not any(function.attr["_XlaMustCompile"].b for function in functions)


def test_several_updates_in_one_execution_give_the_weights_of_single_ones():
    """Four batches in executions of three: the last has one."""
    one = train(tf.distribute.get_strategy())
    assert_equal_weights(one, train(tf.distribute.get_strategy(), several=3))


@pytest.mark.parametrize("strategy", ["one", "mirrored"])
def test_no_iterator_ends_by_waiting_for_a_tuner(strategy, monkeypatch):
    seen, make = [], iterator_ops.OwnedIterator.__init__

    def watched(self, dataset=None, *arguments, **named):
        if dataset is not None:
            seen.append(dataset.options().autotune.enabled)
        make(self, dataset, *arguments, **named)

    with choose_strategy(strategy).scope():
        model = tiny_model()
        model.compile(make_optimizer(TrainingConfig(), model, 4), loss=TASK.loss(), jit_compile=False)
    monkeypatch.setattr(iterator_ops.OwnedIterator, "__init__", watched)
    model.run_updates(untuned(batches()), 4, [])
    assert set(seen) == {False}


def test_dense_updates_are_those_of_stock_keras():
    ours = train(tf.distribute.get_strategy(), lazy="dense", layer_decay=1.0, clip=0.05)
    model = tiny_model(model_class=keras.Model)
    optimizer = keras.optimizers.AdamW(WarmupDecay(0.01, 8, 1), weight_decay=0.01, epsilon=1e-6, global_clipnorm=0.05)
    optimizer.exclude_from_weight_decay(
        var_list=[v for v in model.trainable_variables if v.name in ("bias", "gamma", "beta")]
    )
    optimizer.build(model.trainable_variables)
    loss = TASK.loss(0.1)
    for _ in range(2):
        for inputs, targets, weights in batches():
            with tf.GradientTape() as tape:
                value = tf.reduce_sum(loss(targets, model(inputs, training=True)) * weights) / tf.reduce_sum(weights)
            gradients = tape.gradient(value, model.trainable_variables)
            # Stock Keras takes the norm of sparse gradients before equal rows are added up.
            gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    assert_equal_weights(ours, model.get_weights(), tolerance=1e-5)


@pytest.mark.parametrize("strategy", ["one", "mirrored"])
def test_averages_of_the_weights_are_those_of_their_history(strategy):
    with choose_strategy(strategy).scope():
        model = tiny_model()
        optimizer = make_optimizer(TrainingConfig(learning_rate=0.01, ema=0.2), model, total_steps=4)
        model.compile(optimizer=optimizer, loss=TASK.loss(), jit_compile=False)
    history = []
    for batch in range(4):
        model.run_updates(batches().skip(batch), 1, [])
        history.append([variable.numpy() for variable in model.trainable_variables])
    expected = history[0]
    for updates, weights in enumerate(history[1:], 1):
        decay = min(0.2, (1 + updates) / (10 + updates))
        expected = [decay * a + (1 - decay) * w for a, w in zip(expected, weights, strict=True)]
    with averaged_weights(model):
        assert_equal_weights(model.trainable_variables, expected, 1e-6)
    assert_equal_weights(model.trainable_variables, history[-1], 0)


def test_lazy_updates_leave_other_rows_alone_and_make_the_first_step_of_adam():
    table = keras.Variable(np.ones((4, 2), np.float32))
    optimizer = AdamW(0.1, weight_decay=0.0)
    optimizer.build([table])
    gradient = tf.IndexedSlices(tf.constant([[1.0, 2.0], [1.0, 2.0], [-3.0, 5.0]]), tf.constant([1, 1, 3]), [4, 2])
    optimizer.apply_gradients([(gradient, table)])
    np.testing.assert_allclose(table.numpy(), [[1, 1], [0.9, 0.9], [1, 1], [1.1, 0.9]], atol=1e-5)


def test_clipping_adds_equal_rows_up_before_it_takes_the_norm():
    table = keras.Variable(np.zeros((2, 1), np.float32))
    optimizer = AdamW(1.0, clip_norm=1.0, weight_decay=0.0, beta_1=0.0)
    optimizer.build([table])
    gradient = tf.IndexedSlices(tf.constant([[3.0], [-3.0], [0.5]]), tf.constant([0, 0, 1]), [2, 1])
    optimizer.apply_gradients([(gradient, table)])
    # The sum is (0, 0.5), of norm 0.5: not clipped, so the velocity is (1 - beta_2) * 0.25.
    np.testing.assert_allclose(optimizer._velocities[0].numpy(), [[0.0], [0.001 * 0.25]], rtol=1e-4)


def test_weight_decay_leaves_biases_and_layer_normalisation_alone():
    model = tiny_model()
    for variable in model.trainable_variables:
        variable.assign(tf.ones(variable.shape))
    optimizer = make_optimizer(TrainingConfig(learning_rate=0.1, warmup=0.0, weight_decay=0.5), model, total_steps=10)
    zeros = [tf.zeros(variable.shape) for variable in model.trainable_variables]
    optimizer.apply_gradients(zip(zeros, model.trainable_variables, strict=True))
    decayed = {variable.path for variable in model.trainable_variables if not np.allclose(variable.numpy(), 1)}
    kept = {variable.path for variable in model.trainable_variables} - decayed
    assert all(path.endswith(("/kernel", "/embeddings")) for path in decayed)
    assert all(path.endswith(("/bias", "/gamma", "/beta")) for path in kept)
    assert sum("layer_norm" in path for path in kept) == 2 * (1 + 2 * 2)
    for variable in model.trainable_variables:
        if variable.path in decayed:
            np.testing.assert_allclose(variable.numpy(), 0.95, rtol=1e-6)


def test_layer_decay_falls_from_the_head_to_the_embeddings():
    scales = layer_scales(tiny_model(), 0.5)
    assert {path: scale for path, scale in scales.items() if "token_embedding" in path} == {
        "token_embedding/embeddings": 0.125
    }
    assert {scale for path, scale in scales.items() if "transformer_layer_0" in path} == {0.25}
    assert {scale for path, scale in scales.items() if "transformer_layer_1" in path} == {0.5}
    assert not any("logits" in path or "pooler" in path for path in scales)


def test_schedule():
    schedule = WarmupDecay(1.0, total_steps=10, warmup_steps=4)
    expected = [0.25, 0.5, 0.75, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0.0, 0.0]
    np.testing.assert_allclose([float(schedule(step)) for step in range(12)], expected, rtol=1e-6)
    assert float(WarmupDecay(1.0, 10, 0, "cosine")(5)) == pytest.approx(0.5)
    assert float(WarmupDecay(1.0, 10, 0, "constant")(9)) == 1.0


def test_class_weights_count_a_row_as_often_as_its_weight():
    """Weight 2 on a row is the row twice."""
    inputs, targets, _ = next(iter(batches()))

    def gradients(rows, weights):
        model = tiny_model()
        model.compile(loss=TASK.loss())
        picked = {name: tf.gather(tensor, rows) for name, tensor in inputs.items()}
        data = picked, tf.gather(targets, rows), tf.constant(weights, tf.float32)
        return model._gradients(data, model.weight_sums(data))[1]

    for a, b in zip(gradients([0, 1, 1], [1, 1, 1]), gradients([0, 1], [1, 2]), strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(a), tf.convert_to_tensor(b), atol=1e-6)


@pytest.mark.parametrize(
    ("monitor", "scores", "losses", "kept"),
    [
        ("macro_f1", [0.5, 0.7, 0.6], [0.9, 0.8, 0.7], 2),
        ("macro_f1", [0.7, 0.7, 0.7], [0.9, 0.7, 0.8], 2),
        ("macro_f1", [0.7, 0.7, 0.7], [0.9, 0.9, 0.9], 1),
        ("loss", [0.9, 0.7, 0.8], [0.9, 0.7, 0.8], 2),
        ("macro_f1", [None, 0.1, 0.1], [0.9, 0.9, 0.8], 3),
    ],
)
def test_equal_scores_are_told_apart_by_their_loss(capsys, monitor, scores, losses, kept):
    unused: Any = None
    lesson = Lesson(unused, unused, TASK, TrainingConfig(monitor=monitor), unused, unused, None)
    progress = Progress()
    for epoch, (score, loss) in enumerate(zip(scores, losses, strict=True)):
        found = {} if score is None else {f"validation_{monitor}": score}
        progress.history.append({"epoch": epoch + 1, "validation_loss": loss, **found})
        if _best_yet(progress, lesson):
            progress.best_epoch = epoch
    _say_kept(progress, lesson)
    assert capsys.readouterr().out == f"the weights of epoch {kept} are kept: best validation {monitor}\n"


@pytest.mark.parametrize(
    ("scores", "ema", "epochs", "best"),
    [
        # The loss falls all the time: of equal scores the later epoch is kept, but it is no better one.
        ([0.5, 0.7, 0.6, 0.7, 0.9, 1.0, 1.0, 1.0], None, 4, 3),
        ([1.0] * 8, None, 3, 2),
        # Nothing is scored, as in a trial.
        (None, None, 8, None),
        (None, 0.9, 8, 7),
        # Undefined, as the correlation of equal predictions is: worse than any score, and none to beat.
        ([None, None, None, None, 0.1, None, None, 0.9], None, 7, 4),
        ([None, None, None, None, 0.1, None, None, 0.9], 0.9, 7, 4),
        ([None] * 8, None, 8, None),
    ],
)
def test_training_stops_early_where_a_score_is_not_beaten_and_nowhere_else(scores, ema, epochs, best):
    progress = Progress()
    config = TrainingConfig(epochs=8, early_stopping=2, monitor="spearman", ema=ema)
    score = None if scores is None else lambda: {"spearman": scores[progress.epoch], "loss": -progress.epoch}
    rows, encoder, text = cast(Any, ()), cast(Any, None), cast(Any, None)
    lesson = Lesson(rows, encoder, Number(), config, text, Plan(1, 1, 8), score)
    model = cast(Any, SimpleNamespace(optimizer=SimpleNamespace(use_ema=False), low_rank=()))
    kept = cast(Any, SimpleNamespace(save=lambda progress: None, save_weights=str))
    while not progress.finished:
        _finish_epoch(model, lesson, progress, kept, {"epoch": progress.epoch + 1})
    assert (progress.epoch, progress.best_epoch) == (epochs, best)
    assert progress.best_weights == (None if best is None else str(best))
