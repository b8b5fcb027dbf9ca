"""Training on texts of several chunks: batches, gradients, devices, runs."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from letters import TASK
from test_resume import assert_same_end
from test_training import assert_equal_weights, tiny_model
from tiny import VOCABULARY as WORDS
from tiny import write_long_config

from pipeline import read_config, train
from pipeline.backbone.dropout import counters
from pipeline.classifier import over_chunks
from pipeline.config import DataConfig, DistillationConfig, TrainingConfig
from pipeline.data.batching import BatchOptions, shaped, training_batches
from pipeline.data.documents import equal_parts, token_counts
from pipeline.data.load import load as load_data
from pipeline.long_texts import LongTexts
from pipeline.text import TextEncoder
from pipeline.training.distillation import DistilledClassifier
from pipeline.training.optimizer import make_optimizer
from pipeline.training.pause import Pause
from pipeline.training.strategy import choose_strategy

KINDS = ("mean", "token_mean", "max", "attention")


def batches(count=3, rows=8, each=None):
    """Batches of texts of 1 to 6 chunks, with weights that differ; filled up to `each` chunks a text."""
    chance = np.random.default_rng(0)
    encoder = TextEncoder(WORDS, sequence_length=10, long=LongTexts.of("chunks", max_chunks=6))
    words = [word for word in WORDS if word.isalpha()]
    texts = [[" ".join(chance.choice(words, n)) for n in chance.integers(0, 50, rows)] for _ in range(count)]
    targets = np.eye(3, dtype=np.float32)[chance.integers(0, 3, (count, rows))]
    weights = chance.uniform(0.2, 3, (count, rows)).astype(np.float32)
    weights[-1, rows // 2 :] = 0

    def batch(number):
        inputs = encoder(tf.gather(tf.constant(texts), number))
        return inputs, tf.gather(targets, number), tf.gather(weights, number)

    return tf.data.Dataset.range(count).map(batch).map(lambda inputs, *others: (shaped(inputs, rows, each), *others))


def trained(strategy, *, budget=64, accumulation=1, kind="mean", lazy="lazy", each=None, xla=False):
    config = TrainingConfig(learning_rate=0.01, clip_norm=0.05, embedding_update=lazy)
    with strategy.scope():
        model = over_chunks(tiny_model(layers=1), kind, seed=1)
        model.accumulation, model.chunks_at_once, model.xla = accumulation, budget, xla
        optimizer = make_optimizer(config, model, total_steps=6)
        model.compile(optimizer=optimizer, loss=TASK.loss(0.1), jit_compile=False)
    for _ in range(2):
        model.run_updates(batches(each=each), 3, [])
    return model.get_weights()


def test_workers_have_the_texts_of_one_and_any_batch_can_be_the_first(tmp_path):
    write_long_config(tmp_path)
    config = DataConfig(train=str(tmp_path / "train.csv"), validation_fraction=0.0, test_fraction=0.0)
    data = load_data(config, tmp_path / "data")
    encoder = TextEncoder(WORDS, sequence_length=16, long=LongTexts.of("chunks", max_chunks=6))

    def epoch(shard=(0, 1), skip=0):
        options = BatchOptions(8, shard=shard)
        batches = training_batches(data.train, encoder, data.task, options, epoch=0, skip=skip)
        return list(batches.take(4).as_numpy_iterator())

    whole, skipped = epoch(), epoch(skip=3)
    assert any(inputs["chunks"].max() > 1 for inputs, *_ in whole)
    for key, values in whole[3][0].items():
        np.testing.assert_array_equal(values, skipped[0][0][key])
    for (inputs, targets, _), *halves in zip(whole, epoch((0, 2)), epoch((1, 2)), strict=True):
        np.testing.assert_array_equal(targets, np.concatenate([half[1] for half in halves]))
        np.testing.assert_array_equal(inputs["chunks"], np.concatenate([half[0]["chunks"] for half in halves]))
        tokens = [part["token_ids"][part["padding_mask"] > 0] for part in (inputs, *(half[0] for half in halves))]
        np.testing.assert_array_equal(tokens[0], np.concatenate(tokens[1:]))


@pytest.mark.parametrize("devices", ["one", "mirrored"])
def test_dropout_counts_alike_however_many_parts_a_device_has_made(devices):
    """Else a run that is taken up would go on with masks of one device for all."""
    strategy = choose_strategy(devices)
    with strategy.scope():
        model = over_chunks(tiny_model(layers=1, dropout=0.3), "mean", seed=1)
        model.chunks_at_once = 7
        model.compile(make_optimizer(TrainingConfig(), model, 3), loss=TASK.loss(), jit_compile=False)
    drawn = counters(model)
    model.run_updates(batches(), 3, [])
    of_devices = [strategy.experimental_local_results(state.value) for state in drawn]
    # Three updates, of as many texts as a device may divide into parts.
    texts = 8 // strategy.num_replicas_in_sync
    assert len(drawn) > 3 and {int(count) for values in of_devices for _, count in values} == {3 * texts}


def gradients(model, each):
    """Losses and gradients of a batch, as within an update."""
    dataset = batches(each=each)

    @tf.function(input_signature=[dataset.element_spec], autograph=False)
    def compute(data):
        return model._all_gradients(data, model.weight_sums(data))

    return compute(next(iter(dataset)))


@pytest.mark.parametrize("kind", ["attention", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[:3])])
def test_texts_filled_up_to_one_number_of_chunks_give_the_gradients_of_those_that_are_not(kind):
    model = over_chunks(tiny_model(layers=1), kind, seed=1)
    model.compile(make_optimizer(TrainingConfig(), model, 3), loss=TASK.loss(), jit_compile=False)
    losses, expected = gradients(model, None)
    # Six chunks a text are 48 rows; then two texts at a time.
    for budget in (64, 12):
        model.chunks_at_once = budget
        found_losses, found = gradients(model, 6)
        assert float(found_losses["loss"]) == pytest.approx(float(losses["loss"]), rel=1e-5)
        for own, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(tf.convert_to_tensor(own), tf.convert_to_tensor(other), atol=1e-6)


def test_a_filled_batch_has_fixed_shapes_and_the_chunks_of_each_text_first():
    (ragged, *_), (even, *_) = next(iter(batches())), next(iter(batches(each=6)))
    spec = batches(each=6).element_spec[0]
    assert spec["token_ids"].shape.as_list() == [48, None] and spec["chunks"].shape.as_list() == [8]
    assert even["chunks"].numpy().tolist() == [6] * 8
    real = even["padding_mask"].numpy().any(axis=1)
    for name in ("token_ids", "padding_mask"):
        np.testing.assert_array_equal(even[name].numpy()[real], ragged[name])
    np.testing.assert_array_equal(real.reshape(8, 6).sum(axis=1), ragged["chunks"])
    np.testing.assert_array_equal(token_counts(even), token_counts(ragged))
    assert [equal_parts(6, budget, 8, at_least) for budget, at_least in ((48, 1), (12, 1), (12, 8), (1, 1))] == [
        1, 4, 8, 8
    ]  # fmt: skip


@pytest.mark.slow
def test_parts_of_few_chunks_give_the_weights_of_the_whole_batch():
    whole = trained(tf.distribute.get_strategy(), budget=None, kind="attention")
    parts = trained(tf.distribute.get_strategy(), budget=7, accumulation=2, kind="attention")
    assert_equal_weights(whole, parts)


@pytest.mark.slow
def test_xla_compiles_texts_of_a_fixed_number_of_chunks():
    one = tf.distribute.get_strategy()
    compiled = trained(one, lazy="dense", budget=12, each=6, xla=True)
    assert_equal_weights(trained(one, lazy="dense"), compiled)


@pytest.mark.slow
@pytest.mark.parametrize("lazy", ["lazy", "dense"])
def test_two_devices_give_the_weights_of_one(lazy):
    one = trained(tf.distribute.get_strategy(), lazy=lazy)
    assert_equal_weights(one, trained(choose_strategy("mirrored"), lazy=lazy, budget=7))
    assert_equal_weights(one, trained(choose_strategy("mirrored"), lazy=lazy, budget=12, each=6))


@pytest.mark.slow
def test_a_student_learns_hidden_states_of_chunks():
    student, teacher = (over_chunks(tiny_model(model_class=DistilledClassifier, layers=n), "mean") for n in (1, 2))
    student.learn_from(teacher, DistillationConfig("there", hidden_weight=1.0), task=TASK, seed=0)
    student.compile(make_optimizer(TrainingConfig(), student, 3), loss=TASK.loss(), jit_compile=False)
    losses = []
    for budget, each in ((None, None), (3, None), (3, 6)):
        student.chunks_at_once = budget
        losses.append({name: float(value) for name, value in gradients(student, each)[0].items()})
    assert losses[0]["hidden_loss"] > 0
    assert losses[1] == losses[2] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path):
    path = write_long_config(tmp_path, model={"num_layers": 1}, export={"enabled": False, "signatures": []})
    config = read_config(path)
    train(replace(config, run_dir=str(tmp_path / "once")))
    stopped = replace(config, run_dir=str(tmp_path / "twice"))
    train(stopped, Pause(epochs=1))
    train(stopped)
    assert_same_end(tmp_path / "once", tmp_path / "twice")
