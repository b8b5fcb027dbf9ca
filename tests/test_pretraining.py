"""Pre-training: losses against plain arithmetic, one device against two, killed against whole, then fine-tuning."""

import json
import os
import signal
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from test_resume import start
from tiny import FILLER, SUBJECTS, VOCABULARY, write_config

from pipeline.backbone import huggingface
from pipeline.backbone.fresh import build as fresh_backbone
from pipeline.command_line import parse
from pipeline.config import ModelConfig, PhaseConfig, PretrainingConfig
from pipeline.errors import UserError
from pipeline.pretraining.fit import HeldOutScores, unigram_entropy
from pipeline.pretraining.model import build_pretraining_model, heads_of
from pipeline.pretraining.pretrain import pretrain
from pipeline.pretraining.tokens import TokenCorpus, TokenStore, write_store
from pipeline.text import TextEncoder
from pipeline.training.optimizer import AdamW, Lamb, build
from pipeline.training.strategy import choose_strategy
from pipeline.training.workers import Workers

LENGTH, SLOTS, ROWS = 12, 3, 8
SIZES = ModelConfig(
    num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32, max_sequence_length=LENGTH, dropout=0.0
)


def tiny_model(next_sentence=True, seed=1):
    return build_pretraining_model(fresh_backbone(SIZES, VOCABULARY, seed), next_sentence=next_sentence)


def batches(count=4):
    """Batches with unused slots, rows without a pair, and a last one of which one half is filler."""
    random = np.random.default_rng(0)
    shape = (count, ROWS)
    lengths = random.integers(5, LENGTH + 1, shape)
    mask = (np.arange(LENGTH) < lengths[..., None]).astype(np.int32)
    inputs = {
        "token_ids": random.integers(5, len(VOCABULARY), mask.shape).astype(np.int32) * mask,
        "segment_ids": (np.arange(LENGTH) > 4).astype(np.int32) * mask,
        "padding_mask": mask,
        "masked_positions": random.integers(0, 5, (*shape, SLOTS)).astype(np.int32),
    }
    targets = {
        "masked_ids": random.integers(5, len(VOCABULARY), (*shape, SLOTS)).astype(np.int32),
        "next_sentence": random.integers(0, 2, shape).astype(np.int32),
    }
    weights = {
        "masked_weights": (random.random((*shape, SLOTS)) < 0.7).astype(np.float32),
        "next_sentence_weights": (random.random(shape) < 0.8).astype(np.float32),
    }
    for values in weights.values():
        values[-1, ROWS // 2 :] = 0
    return tf.data.Dataset.from_tensor_slices((inputs, targets, weights))


def backbone_of(model):
    return next(layer for layer in model.layers if hasattr(layer, "transformer_layers"))


def train(strategy, accumulation=1, optimizer=AdamW):
    with strategy.scope():
        model = tiny_model()
        model.accumulation, model.z_loss = accumulation, 0.01
        model.compile(optimizer=build(optimizer(0.01, weight_decay=0.01, clip_norm=0.5), model), jit_compile=False)
    model.fit(batches(), epochs=2, shuffle=False, verbose=0)
    # Adam blows up the rounding of gradients that are zero: attention does not depend on the keys' bias.
    return [weight.numpy() for weight in model.weights if not weight.path.endswith("key/bias")]


@pytest.mark.parametrize("optimizer", [AdamW, pytest.param(Lamb, marks=pytest.mark.slow)])
def test_two_devices_and_parts_give_the_weights_of_one(optimizer):
    one = train(tf.distribute.get_strategy(), optimizer=optimizer)
    two = train(choose_strategy("mirrored"), accumulation=2, optimizer=optimizer)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=3e-6)


def test_pretraining_and_finetuning_share_one_strategy():
    """A second MirroredStrategy in a process makes TensorFlow refuse collective operations of another shape."""
    assert choose_strategy("mirrored") is choose_strategy("mirrored")


def test_losses_are_means_over_predicted_tokens_and_over_pairs():
    model = tiny_model()
    data = next(iter(batches()))
    inputs, targets, weights = data
    outputs = {name: value.numpy() for name, value in model(inputs).items()}

    def mean(logits, labels, w):
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        loss = -np.take_along_axis(log_p, labels[..., None], -1)[..., 0]
        return (loss * w).sum() / w.sum(), ((logits.argmax(-1) == labels) * w).sum() / w.sum()

    masked = mean(outputs["masked_logits"], targets["masked_ids"].numpy(), weights["masked_weights"].numpy())
    pairs = mean(
        outputs["next_sentence_logits"], targets["next_sentence"].numpy(), weights["next_sentence_weights"].numpy()
    )
    found = {name: float(value) for name, value in model.losses_of(data, model.weight_sums(data)).items()}
    assert found["masked_loss"] == pytest.approx(masked[0], rel=1e-5)
    assert found["masked_accuracy"] == pytest.approx(masked[1])
    assert found["next_sentence_accuracy"] == pytest.approx(pairs[1])
    assert found["loss"] == pytest.approx(masked[0] + pairs[0], rel=1e-5)
    model.z_loss = 0.1
    w = weights["masked_weights"].numpy()
    log_z = np.log(np.exp(outputs["masked_logits"]).sum(-1))
    z_loss = 0.1 * (log_z**2 * w).sum() / w.sum()
    assert float(model.losses_of(data, model.weight_sums(data))["loss"]) == pytest.approx(
        found["loss"] + z_loss, rel=1e-5
    )


@pytest.mark.parametrize("empty", ["next_sentence_weights", "masked_weights"])
def test_a_batch_without_pairs_or_without_tokens_to_predict_has_no_such_loss(empty):
    model = tiny_model()
    model.z_loss = 0.1
    inputs, targets, weights = next(iter(batches()))
    data = inputs, targets, {**weights, empty: tf.zeros_like(weights[empty])}
    losses = {name: float(value) for name, value in model.losses_of(data, model.weight_sums(data)).items()}
    assert all(np.isfinite(value) for value in losses.values()), losses
    whole = {name: float(value) for name, value in model.losses_of((inputs, targets, weights),
             model.weight_sums((inputs, targets, weights))).items()}  # fmt: skip
    zero, kept = ("masked", "next_sentence") if empty == "masked_weights" else ("next_sentence", "masked")
    assert losses[f"{zero}_accuracy"] == 0 and losses[f"{kept}_accuracy"] == whole[f"{kept}_accuracy"]
    assert 0 < losses["loss"] < whole["loss"]


@pytest.mark.parametrize(
    ("objective", "documents"),
    [("nsp", [["the team of", "the goal", "of the team"]]), ("sop", [["the team"], ["the goal"], ["of the"]])],
)
def test_held_out_text_without_pairs_is_scored_on_masked_tokens(objective, documents, tmp_path, capsys):
    encoder, model = TextEncoder(VOCABULARY), tiny_model()
    held_out = TokenCorpus([write_store(documents, encoder, tmp_path / "store")])
    config = PretrainingConfig(objective=objective, evaluation_batch_size=4)
    phase = PhaseConfig(steps=1, sequence_length=LENGTH, batch_size=4)
    scores = HeldOutScores(model, held_out, encoder, config, Workers())(phase)
    assert set(scores) == {"masked_loss", "perplexity", "masked_accuracy"} and np.isfinite(scores["masked_loss"])
    unknown = TokenCorpus([write_store([["zzz yyy", "xxx"], ["zzz"]], encoder, tmp_path / "unknown")])
    assert HeldOutScores(model, unknown, encoder, config, Workers())(phase) == {}
    assert "no token of the held-out text can be predicted" in capsys.readouterr().err


def test_one_held_out_document_is_said_before_the_first_update(tmp_path, capsys):
    path = write_pretraining_config(tmp_path, phases=[{"steps": 2, "sequence_length": 16, "batch_size": 4}])
    (tmp_path / "held.txt").write_text("the team of the goal.\nof the team.\n")
    config = parse(["--config", str(path), "--corpus.validation", str(tmp_path / "held.txt"), "--stage", "pretrain",
                       "--pretraining.evaluate_every", "1"])  # fmt: skip
    _, summary = pretrain(config, tmp_path / "run")
    said = capsys.readouterr()
    assert "of the held-out text (1 document) only masked tokens are scored" in said.err
    assert [row["validation_masked_loss"] > 0 for row in summary["history"]] == [True, True]
    assert "validation_next_sentence_accuracy" not in summary["history"][-1]


def test_the_word_embeddings_are_tied():
    """The output projection is the table itself: one variable, trained from both sides."""
    model = tiny_model(next_sentence=False)
    inputs, _, _ = next(iter(batches()))
    before = model(inputs)["masked_logits"].numpy()
    table = backbone_of(model).get_layer("token_embedding").weights[0]
    unused = next(i for i in range(5, len(VOCABULARY)) if i not in inputs["token_ids"].numpy())
    changed = table.numpy()
    changed[unused] += np.arange(16) / 8
    table.assign(changed)
    after = model(inputs)["masked_logits"].numpy()
    assert np.abs(after - before)[..., unused].max() > 1e-3
    np.testing.assert_allclose(np.delete(after, unused, -1), np.delete(before, unused, -1), atol=1e-6)
    assert sum(tuple(w.shape) == tuple(table.shape) for w in model.trainable_variables) == 1


def test_lamb_is_stock_keras_where_nothing_decays_and_scales_the_step_to_the_weights_where_it_does():
    start_value, gradients = np.array([[1.0, -2.0], [0.5, 3.0]], np.float32), np.random.default_rng(0)
    ours, stock = keras.Variable(start_value), keras.Variable(start_value)
    first, second = Lamb(0.1, weight_decay=0.1, epsilon=1e-6), keras.optimizers.Lamb(0.1, epsilon=1e-6)
    first.build([ours])
    second.build([stock])
    # Stock Keras has its decay outside the scaled step; in the paper it is inside: added to Adam's step here by hand.
    for step in range(1, 4):
        gradient = gradients.normal(size=(2, 2)).astype(np.float32)
        first.apply_gradients([(tf.constant(gradient), ours)])
        if step == 1:
            update = np.sign(gradient) + 0.1 * start_value
            ratio = np.linalg.norm(start_value) / np.linalg.norm(update)
            np.testing.assert_allclose(ours.numpy(), start_value - 0.1 * ratio * update, rtol=1e-4)
    plain = keras.Variable(start_value, name="bias")
    third = Lamb(0.1, weight_decay=0.1, epsilon=1e-6)
    third.exclude_from_weight_decay(var_list=[plain])
    third.build([plain])
    third.apply_gradients([(tf.constant(np.ones((2, 2), np.float32)), plain)])
    np.testing.assert_allclose(plain.numpy(), start_value - 0.1, rtol=1e-4)


def test_heads_go_through_a_checkpoint(tmp_path):
    model = tiny_model()
    loaded = fresh_backbone(SIZES, VOCABULARY, 1)
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(weight + np.random.default_rng(3).normal(0, 0.1, weight.shape))
    loaded.backbone, loaded.heads = backbone_of(model), heads_of(model)
    loaded.has_pooler = loaded.lowercase = True
    huggingface.save(loaded, tmp_path / "checkpoint")
    again = build_pretraining_model(huggingface.load(tmp_path / "checkpoint"), next_sentence=True)
    inputs, _, _ = next(iter(batches()))
    expected = model(inputs)
    for name, value in again(inputs).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5)


def test_unigram_entropy(tmp_path):
    encoder = TextEncoder(VOCABULARY)
    write_store([["the the the of"], ["the the the of"]], encoder, tmp_path / "store")
    corpus = TokenCorpus([TokenStore(tmp_path / "store")])
    expected = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert unigram_entropy(corpus, len(VOCABULARY)) == pytest.approx(expected)


def write_corpus(path: Path, documents=60) -> Path:
    random = np.random.default_rng(0)
    lines = []
    for _ in range(documents):
        words = [*SUBJECTS[random.choice(list(SUBJECTS))], *FILLER]
        lines += [" ".join(random.choice(words, random.integers(3, 9))) + "." for _ in range(6)] + [""]
    path.write_text("\n".join(lines))
    return path


def write_pretraining_config(folder: Path, phases=None, **pretraining) -> Path:
    config = write_config(folder, training={"epochs": 1})
    values = yaml.safe_load(config.read_text())
    values["corpus"] = {"train": str(write_corpus(folder / "corpus.txt")), "validation_fraction": 0.1}
    values["pretraining"] = {
        "phases": phases or [{"steps": 30, "sequence_length": 16, "batch_size": 8},
                             {"steps": 20, "sequence_length": 24, "batch_size": 16}],
        "learning_rate": 0.003, "evaluate_every": 10, "evaluation_examples": 32, "evaluation_batch_size": 16,
        "vocabulary_size": 120, "workers": 1, **pretraining,
    }  # fmt: skip
    values["text"].pop("vocabulary")
    config.write_text(yaml.safe_dump(values))
    return config


def finish(config, run_dir, *more, status=0):
    process = start(config, run_dir, *more)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == status, output
    return output


def newest(run_dir):
    return max((run_dir / "pretraining").glob("[0-9]*"), default=None)


def updates(run_dir):
    try:
        progress = json.loads((newest(run_dir) / "progress.json").read_text())["progress"]
    except (AttributeError, OSError, TypeError):
        return -1
    return progress["updates"] + progress["step"]


@pytest.mark.slow
def test_from_raw_text_to_a_served_classifier_killed_on_the_way(tmp_path):
    """SIGKILL in the first phase, SIGTERM in the second; the end is that of a run that nothing happened to."""
    config = write_pretraining_config(tmp_path)
    output = finish(config, tmp_path / "whole", "--stage", "pretrain")
    assert "learned a vocabulary of" in output
    assert not (tmp_path / "whole" / "saved_model").exists()

    run_dir = tmp_path / "killed"
    frequent = ("--training.checkpoint_seconds", "0.01")
    for number, moment in ((signal.SIGKILL, 13), (signal.SIGTERM, 33)):
        process = start(config, run_dir, *frequent)
        while updates(run_dir) < moment:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.001)
        os.kill(process.pid, number)
        process.communicate(timeout=60)
        assert process.returncode == (75 if number == signal.SIGTERM else -number)
    output = finish(config, run_dir, *frequent)
    assert "resuming pre-training after" in output
    assert "exported and verified" in output

    one, other = (huggingface.load(tmp_path / name / "pretrained") for name in ("whole", "killed"))
    for a, b in zip(one.backbone.weights, other.backbone.weights, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.path)
    np.testing.assert_array_equal(one.heads.output_bias, other.heads.output_bias)
    first, second = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "killed"))
    scores = [[row["validation_masked_loss"] for row in m["pretraining"]["history"]] for m in (first, second)]
    assert scores[0] == scores[1]
    assert len(scores[0]) == 5
    assert scores[0][-1] < scores[0][0]
    assert set(second) == {"task", "pretraining", "train", "validation", "test", "baseline", "environment"}
    page = (run_dir / "report.html").read_text()
    assert "Pre-training" in page

    # The other stage, in a run that has the first behind it.
    assert "pre-training is already complete" not in finish(config, tmp_path / "whole", "--stage", "finetune")
    assert (tmp_path / "whole" / "saved_model" / "1").is_dir()


@pytest.mark.slow
def test_finetune_without_pretraining_says_so(tmp_path):
    config = write_pretraining_config(tmp_path)
    output = finish(config, tmp_path / "run", "--stage", "finetune", status=2)
    assert "run --stage pretrain" in output


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_last_good_state(tmp_path):
    config = write_pretraining_config(tmp_path, learning_rate=1e30, clip_norm=None, warmup=0.0)
    output = finish(config, tmp_path / "run", "--stage", "pretrain", status=2)
    assert "not finite any more" in output
    assert str(newest(tmp_path / "run").parent) in output
    assert all(np.isfinite(value).all() for value in tensors_of(newest(tmp_path / "run")))


def tensors_of(folder):
    reader = tf.train.load_checkpoint(str(folder / "variables"))
    kinds = reader.get_variable_to_dtype_map()
    return [reader.get_tensor(name) for name, kind in kinds.items() if kind == tf.float32]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pretraining.phases", "[]"], "pretraining.phases is empty"),
        (["--pretraining.phases", "[{sequence_length: 9000}]"], r"phases\[0\].sequence_length is 9000"),
        (["--pretraining.accumulation", "3"], "no multiple of pretraining.accumulation 3"),
        (["--pretraining.masked_share", "1.5"], "masked_share is 1.5"),
        (["--pretraining.objective", "none", "--model.pooling", "cls"], "model.pooling cls needs"),
        (["--corpus.train", "null", "--stage", "pretrain"], "stage pretrain needs text"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        parse(["--config", str(write_pretraining_config(tmp_path)), *arguments])
