"""training.trainable: what is changed, and what stays."""

from types import SimpleNamespace

import numpy as np
import pytest
from test_private_gradients import batch, by_a_loop, compiled, private_model
from test_training import TASK, batches, tiny_model

from pipeline.backbone.encoder import speed_up
from pipeline.errors import UserError
from pipeline.training.config import LoraConfig, TrainingConfig
from pipeline.training.optimizer import make_optimizer
from pipeline.training.trainable import freeze

NEW = ("pooler/", "logits/")
LAST = "transformer_layer_1/"


def expected(path: str, trainable: str) -> bool:
    """Whether a weight of two layers may change."""
    if path.startswith(NEW):
        return True
    return {
        "lora": path.endswith(("/down", "/up")),
        "all": not path.startswith("pooled_dense"),
        "head": False,
        "bias": path.endswith(("/bias", "/beta")) and not path.startswith("pooled_dense"),
        "last": path.startswith(LAST),
    }[trainable]


@pytest.mark.parametrize("trainable", ["all", "head", "bias", "last", "lora"])
def test_only_these_weights_are_changed(trainable):
    model = tiny_model()
    speed_up(model.classifier_parts.backbone)
    config = TrainingConfig(learning_rate=0.1, warmup=0.0, weight_decay=0.1, trainable=trainable, trainable_layers=1)
    freeze(model, config)
    model.compile(optimizer=make_optimizer(config, model, 8), loss=TASK.loss(), jit_compile=False)
    before = [value.numpy() for value in model.weights]
    model.run_updates(batches(), 4, [])
    changed = {w.path for w, old in zip(model.weights, before, strict=True) if not np.array_equal(w.numpy(), old)}
    assert changed == {weight.path for weight in model.weights if expected(weight.path, trainable)}


@pytest.mark.parametrize("trainable", ["head", "bias", "last", "lora"])
def test_norms_are_of_these_weights_alone(trainable):
    model = private_model()
    lora = LoraConfig(rank=2, kernels=["key", "value", "attention_output", "output"])
    freeze(model, TrainingConfig(trainable=trainable, trainable_layers=1, lora=lora))
    for update in model.low_rank:
        # Else the first factor has no gradient.
        update.up.assign(np.random.default_rng(1).normal(0, 0.2, update.up.shape))
    expected = by_a_loop(compiled(model), *batch())
    _, found = model._gradients(batch(), [4.0])
    assert 2 <= len(expected) < 37
    for a, b, variable in zip(found, expected, model.trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, err_msg=variable.path)


def test_more_layers_than_there_are_is_refused():
    model = SimpleNamespace(classifier_parts=SimpleNamespace(backbone=SimpleNamespace(num_layers=2)))
    with pytest.raises(UserError, match=r"training\.trainable_layers 3: the backbone has 2 layers"):
        freeze(model, TrainingConfig(trainable="last", trainable_layers=3))
