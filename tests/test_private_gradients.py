"""The private update against a plain loop over examples, and its noise against what is claimed of it."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from test_training import CLASSES, LENGTH, ROWS, TASK, batches
from tiny import SPECIAL, VOCABULARY

import pipeline.poolings
from pipeline.backbone.dropout import without_dropout
from pipeline.backbone.encoder import speed_up
from pipeline.backbone.fresh import build
from pipeline.classifier import build_classifier
from pipeline.config import ModelConfig, TrainingConfig
from pipeline.errors import UserError
from pipeline.privacy.layers import let_note
from pipeline.privacy.model import Mechanism, PrivateClassifier, normal
from pipeline.training.optimizer import make_optimizer
from pipeline.training.strategy import choose_strategy

CLIP = 0.3
SIZES = ModelConfig(num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32, max_sequence_length=16, dropout=0.0)


def private_model(pooling="mean", noise=0.0, dropout=0.0, sizes=SIZES, **arguments):
    dtype = arguments.get("dtype", "float32")
    loaded = build(replace(sizes, dropout=dropout), VOCABULARY, 1, dtype)
    random = np.random.default_rng(0)
    for weight in loaded.backbone.weights:
        weight.assign(weight + random.normal(0, 0.2, weight.shape))
    loaded.has_pooler = True
    speed_up(loaded.backbone)
    model = build_classifier(
        loaded, CLASSES, pooling=pooling, dropout=dropout, seed=1, model_class=PrivateClassifier, **arguments
    )
    let_note(model.classifier_parts)
    model.mechanism = Mechanism(CLIP, noise, 4.0, (2**60, -5))
    return model


def compiled(model, trained=TrainingConfig(clip_norm=None, embedding_update="dense")):  # noqa: B008
    model.compile(optimizer=make_optimizer(trained, model, 8), loss=TASK.loss(0.1), jit_compile=False)
    return model


def batch():
    """The last one, half of whose rows have no weight."""
    return list(batches())[-1]


def by_a_loop(model, inputs, targets, weights):
    """The clipped sum over the expected batch: a tape an example. The norm in the middle becomes the model's bound."""
    gradients, norms = [], []
    for row in range(ROWS):
        one = {name: value[row : row + 1] for name, value in inputs.items()}
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model.loss(targets[row : row + 1], model(one)) * weights[row])
        found = [np.array(tf.convert_to_tensor(g)) for g in tape.gradient(loss, model.trainable_variables)]
        gradients.append(found)
        norms.append(np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in found)))
    clip = float(np.median([norm for norm in norms if norm]))
    model.mechanism = replace(model.mechanism, clip_norm=clip)
    factors = [min(1.0, clip / max(norm, 1e-12)) / 4.0 for norm in norms]
    assert len({factor for factor in factors if factor < 0.25}) > 1 and 0.25 in factors
    return [sum(f * g for f, g in zip(factors, of_rows, strict=True)) for of_rows in zip(*gradients, strict=True)]


@pytest.mark.parametrize(
    "pooling",
    [
        pytest.param(name, marks=() if name in ("attention", "cls", "fresh", "mean") else pytest.mark.slow)
        for name in pipeline.poolings.NAMES
    ],
)
def test_the_clipped_sum_is_that_of_a_loop_over_examples(pooling):
    model = compiled(private_model(pooling))
    data = batch()
    expected = by_a_loop(model, *data)
    losses, found = tf.function(model._gradients, autograph=False)(data, [tf.constant(4.0)])
    assert losses == {}
    for a, b, variable in zip(found, expected, model.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, err_msg=variable.path)
    assert len(expected) > 35


def test_rows_of_long_texts_take_the_other_way_to_the_same_norm():
    """A kernel of 16 x 16 is smaller than the pairs of more than 8 rows; here there are 4, then 14."""
    for length in (4, 14):
        model = compiled(private_model())
        inputs, targets, weights = batch()
        ids = np.resize(inputs["token_ids"], (ROWS, length))
        inputs = {"token_ids": ids, "segment_ids": ids % 2, "padding_mask": np.ones_like(ids)}
        weights = tf.ones_like(weights)
        expected = by_a_loop(model, inputs, targets, weights)
        _, found = model._gradients((inputs, targets, weights), [tf.constant(4.0)])
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_parts_of_a_batch_are_of_like_length_and_give_the_same_sum():
    model = compiled(private_model(pooling="cls", sizes=replace(SIZES, num_layers=1)))
    data = batch()
    lengths = tf.reduce_sum(data[0]["padding_mask"], axis=1).numpy()
    assert lengths[: ROWS // 4].max() > lengths.min()
    _, whole = model._all_gradients(data, [tf.constant(4.0)])
    model.accumulation, widths, gradients = 4, [], model._gradients

    def noted(data, totals):
        tf.py_function(lambda ids: widths.append(ids.shape[1]), [data[0]["token_ids"]], [])
        return gradients(data, totals)

    model._gradients = noted
    of_any_length = tf.nest.map_structure(lambda t: tf.TensorSpec([ROWS, *[None] * (t.ndim - 1)], t.dtype), data)
    of_any_length = of_any_length[0], tf.TensorSpec(data[1].shape), of_any_length[2]
    totals = [tf.TensorSpec([])]
    _, parts = tf.function(model._all_gradients, input_signature=[of_any_length, totals])(data, [tf.constant(4.0)])
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    # In whatever order they are worked through.
    assert len(widths) == 4 and len(set(widths)) > 2 and max(widths) == data[0]["token_ids"].shape[1]


def test_dropout_masks_are_the_same_in_both_passes():
    """Else the factors would be of other gradients than those that they bound."""
    model = compiled(private_model(dropout=0.4))
    for row in range(2):
        data = tf.nest.map_structure(lambda tensor, row=row: tensor[row : row + 1], batch())
        _, found = tf.function(model._gradients)(data, [tf.constant(1.0)])
        norm = np.sqrt(sum((g.numpy().astype(np.float64) ** 2).sum() for g in found))
        assert norm <= CLIP * (1 + 1e-5)


def rows_of_any_length(rows: int = 16):
    """Inputs of 3 to 11 tokens, and targets."""
    random = np.random.default_rng(1)
    lengths = random.integers(3, 12, rows)
    mask = (np.arange(16) < lengths[:, None]).astype(np.int32)
    ids = random.integers(len(SPECIAL), len(VOCABULARY), mask.shape).astype(np.int32) * mask
    targets = np.eye(CLASSES, dtype=np.float32)[random.integers(0, CLASSES, rows)]
    return {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": mask}, targets


@pytest.mark.parametrize(("accumulation", "length"), [(1, 15), (4, 3)])
def test_a_row_changes_the_sum_by_no_more_than_the_bound_whatever_its_length(accumulation, length):
    """The row is the longest of its batch, which decides the batch's length, or the shortest, which moves all others to
    other parts. With dropout, whose masks are of places, it changes the sum by several bounds."""
    model = compiled(private_model(dropout=0.4))
    assert without_dropout(model)
    model.accumulation = accumulation
    model.mechanism = Mechanism(CLIP, 1.0, 1.0, (1, 2))
    inputs, targets = rows_of_any_length()
    generators = [variable for variable in model.variables if "seed_generator" in variable.path]
    before = [variable.numpy() for variable in generators]

    def clipped_sum(weight):
        """With the last row, or with the first in its place, which has no weight; as sampled batches are filled up."""
        taken = np.arange(len(targets))
        mask = inputs["padding_mask"].copy()
        mask[-1] = np.arange(16) < length
        taken[-1] = taken[-1] if weight else 0
        of_batch = {**inputs, "padding_mask": mask, "token_ids": np.maximum(inputs["token_ids"], 5) * mask}
        longest = int(mask[taken].sum(1).max())
        tensors = {name: tf.constant(values[taken][:, :longest]) for name, values in of_batch.items()}
        for variable, value in zip(generators, before, strict=True):
            variable.assign(value)
        weights = tf.constant([1.0] * (len(targets) - 1) + [weight])
        _, found = model._all_gradients((tensors, tf.constant(targets[taken]), weights), [tf.constant(1.0)])
        return np.concatenate([np.ravel(values) for values in found])

    assert 0.99 * CLIP < np.linalg.norm(clipped_sum(1.0) - clipped_sum(0.0)) <= CLIP * (1 + 1e-4)


def test_in_bfloat16_what_an_example_adds_is_bounded_and_nearly_the_gradient_in_float32():
    """Norm and sum are of the same gradient, however that was rounded: both are made in float32."""
    data = batch()
    exact, rounded = (compiled(private_model(dtype=dtype)) for dtype in ("float32", "mixed_bfloat16"))
    rounded.set_weights(exact.get_weights())
    found = []
    for model in (exact, rounded):
        # All are longer than this.
        model.mechanism = replace(model.mechanism, clip_norm=1e-3)
        gradients = tf.function(model._gradients)
        of_rows = []
        for row in range(ROWS):
            one = tf.nest.map_structure(lambda tensor, row=row: tensor[row : row + 1], data)
            of_rows.append(np.concatenate([np.ravel(g) for g in gradients(one, [tf.constant(1.0)])[1]]))
        norms = np.linalg.norm(np.array(of_rows, np.float64), axis=1)
        np.testing.assert_allclose(norms, np.where(data[2] > 0, 1e-3, 0), rtol=1e-5)
        found.append(np.array(of_rows))
        # In a batch as alone.
        whole = np.concatenate([np.ravel(g) for g in gradients(data, [tf.constant(1.0)])[1]])
        apart = np.linalg.norm(whole - found[-1].sum(0)) / np.linalg.norm(whole)
        assert apart < (1e-5 if model is exact else 0.02)
    assert rounded.classifier_parts.backbone.transformer_layers[0].compute_dtype == "bfloat16"
    for one, other in zip(*found, strict=True):
        assert one @ other >= 0.99 * 1e-6 or not one.any()


def test_weights_of_a_layer_that_notes_nothing_are_refused():
    model = private_model()
    model.classifier_parts.head.__class__ = type(model.classifier_parts.head).__bases__[0]
    with pytest.raises(UserError, match=r"of logits/kernel, logits/bias: use another model\.pooling"):
        compiled(model)._gradients(batch(), [tf.constant(4.0)])


def added(strategy, noise, accumulation=1, several=1, updates=1):
    """What updates add to each variable that they change, by plain gradient descent."""
    with strategy.scope():
        model = private_model(noise=noise, sizes=replace(SIZES, num_layers=1))
        model.accumulation = accumulation
        model.compile(optimizer=Descent(1.0), loss=TASK.loss(), jit_compile=False, steps_per_execution=several)
        model.optimizer.build(model.trainable_variables)
    before = [value.copy() for value in model.get_weights()]
    model.run_updates(batches().take(updates), updates, [])
    found = [(a - b).ravel() for a, b in zip(model.get_weights(), before, strict=True)]
    return np.concatenate([part for part in found if part.any()])


class Descent(make_optimizer.__annotations__["return"]):
    """AdamW's sums over devices with the plainest of updates."""

    def update_step(self, gradient, variable, rates):
        variable.assign_sub(rates.learning_rate * gradient)


def test_noise_is_added_once_with_the_deviation_that_is_claimed():
    """By two devices, each in two parts."""
    found = added(choose_strategy("mirrored"), 500.0, accumulation=2)
    # The norm of the gradients' sum is at most 8 * CLIP / 4: nothing beside this.
    claimed = 500.0 * CLIP / 4.0
    assert len(found) > 2500
    assert abs(found.std() / claimed - 1) < 0.05 and abs(found.mean() / claimed) < 0.06


@pytest.mark.slow
def test_devices_and_several_updates_at_a_time_give_the_same_weights():
    one = added(choose_strategy("one"), 0.5, updates=2)
    np.testing.assert_allclose(added(choose_strategy("mirrored"), 0.5, updates=2), one, atol=1e-5)
    np.testing.assert_allclose(added(choose_strategy("one"), 0.5, several=2, updates=2), one, atol=1e-5)


@pytest.mark.parametrize("shape", [[3], [401, 500], []])
def test_the_noise_is_normal(shape):
    found = normal(shape, tf.constant([2**62, -9], tf.int64)).numpy()
    assert found.shape == tuple(shape) and np.isfinite(found).all()
    if found.size > 1000:
        assert stats.kstest(found.ravel(), "norm").pvalue > 0.01
        halves = np.resize(found, (2, found.size // 2))
        assert abs(np.corrcoef(halves)[0, 1]) < 0.01


def test_no_two_updates_and_no_two_variables_have_the_same_noise():
    mechanism = Mechanism(1.0, 1.0, 1.0, (2**63 - 2, 7))
    draws = [mechanism.draw([64], tf.constant(u, tf.int64), n).numpy() for u in (0, 1, 2) for n in (0, 1)]
    assert len(np.unique(draws)) > 0.99 * 6 * 64
    again = mechanism.draw([64], tf.constant(1, tf.int64), 1).numpy()
    np.testing.assert_array_equal(again, draws[3])
    assert LENGTH and not np.array_equal(replace(mechanism, seed=(0, 7)).draw([64], tf.constant(1, tf.int64), 1), again)
