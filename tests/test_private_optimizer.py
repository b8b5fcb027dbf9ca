"""Adam whose second moment is corrected for the noise that is known to be in it."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_private_gradients import CLIP, SIZES, private_model
from test_training import TASK, batches

from pipeline.config import TrainingConfig
from pipeline.privacy.optimizer import PrivateAdamW
from pipeline.training.optimizer import AdamW, make_optimizer
from pipeline.training.strategy import choose_strategy


def test_the_step_is_that_of_the_paper():
    """Algorithm 1 of arXiv:2312.14334, in float64; the kernel decays, the bias does not."""
    rate, decay, noise, floor = 0.01, 0.1, 0.25, PrivateAdamW.floor
    start = {"kernel": np.linspace(-1, 1, 6).reshape(2, 3), "bias": np.linspace(0, 1, 3)}
    variables = [keras.Variable(value, name=name, dtype="float32") for name, value in start.items()]
    optimizer = PrivateAdamW(rate, weight_decay=decay, epsilon=1e-6)
    optimizer.exclude_from_weight_decay(var_list=variables[1:])
    optimizer.build(variables)
    optimizer.noise_variance = noise
    expected = [value.copy() for value in start.values()]
    first, second = [[np.zeros_like(value) for value in expected] for _ in range(2)]
    floored = 0
    random = np.random.default_rng(0)
    for step in range(1, 6):
        gradients = [random.normal(0.3, 0.6, value.shape) for value in expected]
        optimizer.apply_gradients([(tf.constant(g, tf.float32), v) for g, v in zip(gradients, variables, strict=True)])
        for number, gradient in enumerate(gradients):
            first[number] = 0.9 * first[number] + 0.1 * gradient
            second[number] = 0.999 * second[number] + 0.001 * gradient**2
            without = second[number] / (1 - 0.999**step) - noise
            floored += int((without < floor * noise).sum())
            move = first[number] / (1 - 0.9**step) / np.sqrt(np.maximum(without, floor * noise))
            expected[number] *= 1 - rate * (decay if number == 0 else 0)
            expected[number] -= rate * move
    assert 5 < floored < 40
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "alike"), [(AdamW, False), (PrivateAdamW, True)])
def test_gradients_of_several_sizes_move_alike_under_noise_as_without_it(kind, alike):
    sizes, deviation = np.repeat([1.0, 4.0], 500), 3.0
    variable = keras.Variable(np.zeros(1000), dtype="float32")
    optimizer = kind(0.01, weight_decay=0.0)
    optimizer.build([variable])
    optimizer.noise_variance = deviation**2
    random = np.random.default_rng(0)
    for _ in range(200):
        noisy = sizes + random.normal(0, deviation, 1000)
        optimizer.apply_gradients([(tf.constant(noisy, tf.float32), variable)])
    small, large = -variable.numpy().reshape(2, 500).mean(axis=1)
    assert (small / large > 0.5) == alike


def test_without_noise_it_is_adam():
    found = []
    for kind in (AdamW, PrivateAdamW):
        variable = keras.Variable([1.0, -2.0])
        optimizer = kind(0.1)
        optimizer.build([variable])
        for gradient in ([0.3, -0.1], [0.2, 0.4]):
            optimizer.apply_gradients([(tf.constant(gradient), variable)])
        found.append(variable.numpy())
    np.testing.assert_array_equal(*found)


@pytest.mark.slow
def test_two_devices_move_as_one():
    found = []
    for name in ("one", "mirrored"):
        with choose_strategy(name).scope():
            model = private_model(sizes=replace(SIZES, num_layers=1))
            training = TrainingConfig(clip_norm=None, embedding_update="dense", learning_rate=0.01, warmup=0.0)
            optimizer = make_optimizer(training, model, 8, PrivateAdamW)
            # Without the noise itself, whose draws are tested elsewhere.
            optimizer.noise_variance = (0.01 * CLIP) ** 2
            model.compile(optimizer=optimizer, loss=TASK.loss(), jit_compile=False)
        model.run_updates(batches().take(3), 3, [])
        found.append(model.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
