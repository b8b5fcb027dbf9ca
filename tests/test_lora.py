"""training.trainable lora: low-rank updates are learned, merged, and nothing behind the training knows of them."""

import numpy as np
import pytest
import tensorflow as tf
from test_distillation import pupil
from test_private_gradients import batch, private_model
from test_resume import FREQUENT, assert_same_end, finish, kill_when, position
from test_training import TASK, assert_equal_weights, batches, tiny_model
from tiny import write_config

import pipeline
from pipeline.backbone.encoder import speed_up
from pipeline.backbone.low_rank import merge, merged
from pipeline.backbone.transformer_parts import parts_of
from pipeline.classifier import serving_copy
from pipeline.command_line import parse, read_config
from pipeline.errors import UserError
from pipeline.training.config import LoraConfig, TrainingConfig
from pipeline.training.finished_run import as_checkpoint, load_run_backbone, read_settings
from pipeline.training.optimizer import layer_scales, make_optimizer
from pipeline.training.strategy import choose_strategy
from pipeline.training.trainable import freeze

LORA = TrainingConfig(trainable="lora", lora=LoraConfig(rank=2), learning_rate=0.01, warmup=0.0)


def learning(model, config=LORA):
    """Compiled."""
    speed_up(model.classifier_parts.backbone)
    freeze(model, config)
    model.compile(optimizer=make_optimizer(config, model, 8), loss=TASK.loss(), jit_compile=False)
    return model


@pytest.mark.parametrize("pooling", ["fresh", "mean"])
def test_merged_a_model_answers_as_before(pooling):
    """`fresh` reads the first token alone, by another way through the last layer."""
    config = TrainingConfig(trainable="lora", lora=LoraConfig(3, 6.0, ["query", "key", "attention_output", "output"]))
    model, inputs = private_model(pooling), batch()[0]
    freeze(model, config)
    before = model(inputs).numpy()
    random = np.random.default_rng(0)
    for update in model.low_rank:
        update.up.assign(random.normal(0, 1.0, update.up.shape))
    learned = model(inputs).numpy()
    kept = model.get_weights()
    assert np.abs(learned - before).max() > 0.01
    with merged(model.low_rank):
        np.testing.assert_allclose(model(inputs), learned, atol=1e-5)
        np.testing.assert_allclose(serving_copy(model, "float32")(inputs), learned, atol=1e-5)
    for old, new in zip(kept, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    merge(model.low_rank)
    merge(model.low_rank)
    np.testing.assert_allclose(model(inputs), learned, atol=1e-5)


def test_two_factors_a_kernel_are_learned_beside_the_head():
    model = learning(tiny_model())
    # Two layers of two kernels; pooler and head.
    assert len(model.trainable_variables) == 2 * 2 * 2 + 4
    assert [tuple(weight.shape) for weight in model.low_rank[0].weights] == [(16, 2), (2, 16)]
    # Behind all others: without them a run's checkpoint is one of a plain classifier.
    assert model.weights[-8:] == [weight for update in model.low_rank for weight in update.weights]
    scales = layer_scales(model, 0.5)
    assert {scales[weight.path] for weight in model.low_rank[0].weights} == {0.25}


def test_two_devices_learn_as_one():
    weights = []
    for kind in ("one", "mirrored"):
        strategy = choose_strategy(kind)
        with strategy.scope():
            model = learning(tiny_model())
        model.run_updates(batches(), 4, [])
        weights.append(model.get_weights())
    assert_equal_weights(*weights)


def test_a_student_learns_so_too():
    student, _ = pupil(hidden_weight=1.0)
    before = [weight.numpy() for weight in learning(student).weights]
    student.run_updates(batches(), 4, [])
    changed = {w.name for w, old in zip(student.weights, before, strict=True) if not np.array_equal(w.numpy(), old)}
    assert changed == {"down", "up", "kernel", "bias"}
    assert student.projection is not None and student.projection.kernel.trainable


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--training.lora.kernels", "[query, query]"], r"training\.lora\.kernels \[query, query\] must name"),
        (["--training.lora.kernels", "[]"], r"training\.lora\.kernels \[\] must name"),
        (["--training.method", "contrastive"], r"training\.trainable lora is for training\.method fine_tune"),
    ],
)
def test_what_cannot_be_is_refused(words, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        parse(["--config", str(write_config(tmp_path)), "--training.trainable", "lora", *words])


def test_a_rank_beyond_the_kernels_is_refused():
    with pytest.raises(UserError, match=r"training\.lora\.rank 17: the backbone's kernels are of rank 16 at most"):
        learning(tiny_model(), TrainingConfig(trainable="lora", lora=LoraConfig(17)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """In mixed precision, with validation rows; of the whole road, whose export is verified."""
    folder = tmp_path_factory.mktemp("lora")
    training = {"trainable": "lora", "dtype": "mixed_bfloat16", "epochs": 2, "learning_rate": 0.03}
    config = read_config(write_config(folder, training=training))
    config.run_dir = str(folder / "run")
    return pipeline.train(config)


@pytest.mark.slow
def test_a_run_ends_as_a_plain_classifier(run):
    assert run.saved_model is not None
    loaded = as_checkpoint(run.run_dir)
    begun = load_run_backbone(read_settings(run.run_dir), None, "float32")
    for old, new in zip(begun.backbone.transformer_layers, loaded.backbone.transformer_layers, strict=True):
        old, new = parts_of(old), parts_of(new)
        assert np.abs(old.query.kernel.numpy() - new.query.kernel.numpy()).max() > 1e-3
        np.testing.assert_array_equal(old.key.kernel, new.key.kernel)
    best = next((run.run_dir / "checkpoints").glob("best-*"))
    first = tf.train.load_checkpoint(str(best / "variables"))
    # Without the factors behind them a plain classifier's, with its pooler and head.
    names = [name for name in first.get_variable_to_shape_map() if name.startswith("weights/")]
    assert len(names) == len(loaded.backbone.weights) + 4 + 8


@pytest.mark.slow
def test_a_checkpoint_has_moments_of_the_factors_alone(run):
    newest = max((run.run_dir / "checkpoints").glob("[0-9]*"))
    reader = tf.train.load_checkpoint(str(newest / "variables"))
    sizes = {"model": 0, "optimizer": 0}
    for name, shape in reader.get_variable_to_shape_map().items():
        if name.split("/")[0] in sizes:
            sizes[name.split("/")[0]] += int(np.prod(shape))
    assert sizes["optimizer"] < 0.5 * sizes["model"]


@pytest.mark.slow
@pytest.mark.parametrize("validation", [0.2, 0.0])
def test_killed_it_goes_on_as_if_nothing_had_happened(tmp_path, validation):
    training = {"trainable": "lora", "epochs": 2, "ema": 0.99 if validation else None}
    config = write_config(tmp_path, rows=400, training=training, data={"validation_fraction": validation})
    finish(config, tmp_path / "whole", *FREQUENT)
    assert kill_when(lambda: position(tmp_path / "killed") >= (1, 3), config, tmp_path / "killed", *FREQUENT)
    finish(config, tmp_path / "killed", *FREQUENT)
    assert_same_end(tmp_path / "whole", tmp_path / "killed")
