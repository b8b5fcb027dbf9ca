"""A student's losses against plain numpy, one device against two, and the road from a teacher's run to an export."""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import yaml
from test_training import CLASSES, TASK, assert_equal_weights, batches, tiny_model
from tiny import VOCABULARY, write_config

from export.loading import Classifier
from pipeline.backbone.fresh import build
from pipeline.classifier import build_classifier, serving_copy, with_hidden_states
from pipeline.command_line import parse
from pipeline.config import DistillationConfig, ModelConfig, TrainingConfig
from pipeline.data.load import load
from pipeline.errors import UserError
from pipeline.run import main
from pipeline.tasks.multi_label import MultiLabel
from pipeline.text import TextEncoder
from pipeline.tpu.step import steps_of
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.distillation import DistilledClassifier, hidden_loss, matched_layers
from pipeline.training.optimizer import make_optimizer
from pipeline.training.strategy import choose_strategy
from pipeline.training.teacher import load_teacher

RANDOM = np.random.default_rng(0)


def classifier(layers, width, seed, pooling="fresh", dropout=0.0):
    sizes = ModelConfig(
        num_layers=layers, num_heads=2, hidden_dim=width, intermediate_dim=32, max_sequence_length=16, dropout=dropout
    )
    loaded = build(sizes, VOCABULARY, seed=seed)
    loaded.has_pooler = True
    return build_classifier(
        loaded, CLASSES, pooling=pooling, dropout=dropout, seed=seed, model_class=DistilledClassifier
    )


def pupil(width=8, dropout=0.0, **settings):
    """A student of two layers, its teacher of four, twice as wide."""
    student, teacher = classifier(2, width, 1, dropout=dropout), classifier(4, 16, 2, dropout=0.5)
    student.learn_from(teacher, DistillationConfig("there", **settings), task=TASK, seed=3)
    return student, teacher


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_soft_loss_is_the_cross_entropy_to_the_teachers_probabilities():
    teacher, student = RANDOM.normal(size=(2, 5, CLASSES)).astype(np.float32) * 3
    p, q = softmax(teacher / 4), softmax(student / 4)
    np.testing.assert_allclose(TASK.soft_loss(teacher, student, 4.0), -16 * (p * np.log(q)).sum(-1), rtol=1e-5)
    p, q = 1 / (1 + np.exp(-teacher / 4)), 1 / (1 + np.exp(-student / 4))
    expected = -16 * (p * np.log(q) + (1 - p) * np.log(1 - q)).mean(-1)
    np.testing.assert_allclose(MultiLabel(TASK.names).soft_loss(teacher, student, 4.0), expected, rtol=1e-5)


def test_hidden_loss_leaves_padding_out_and_bears_an_empty_row():
    teacher, student = RANDOM.normal(size=(2, 3, 4, 6, 8)).astype(np.float32)
    mask = np.arange(6) < np.array([6, 2, 1, 0])[:, None]
    rows = [
        np.mean((teacher - student)[:, row, : mask[row].sum()] ** 2) if mask[row].any() else 0.0 for row in range(4)
    ]
    np.testing.assert_allclose(
        hidden_loss(list(teacher), list(student), {"padding_mask": mask.astype(np.int32)}), rows, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("student", "teacher", "layers"),
    [(3, 6, [0, 2, 4, 6]), (4, 12, [0, 3, 6, 9, 12]), (2, 2, [0, 1, 2]), (1, 6, [0, 6]), (3, 4, [0, 1, 3, 4])],
)
def test_layers_are_matched_evenly_from_the_embeddings_to_the_last(student, teacher, layers):
    assert matched_layers(student, teacher) == layers


@pytest.mark.parametrize("pooling", ["fresh", "mean", "cls"])
def test_the_view_with_hidden_states_is_the_same_classifier(pooling):
    model = classifier(2, 16, 1, pooling)
    inputs, *_ = next(iter(batches()))
    view = with_hidden_states(model)(inputs)
    np.testing.assert_array_equal(view["logits"], model(inputs))
    backbone = next(layer for layer in model.layers if hasattr(layer, "transformer_layers"))
    assert len(view["states"]) == 3
    np.testing.assert_array_equal(view["states"][-1], backbone(inputs)["sequence_output"])


def test_with_soft_labels_alone_the_gradient_is_that_of_cross_entropy_to_them():
    """Teacher and student of one architecture; the reference knows only the two models' logits."""
    student, teacher = tiny_model(model_class=DistilledClassifier), classifier(2, 16, 2)
    student.learn_from(teacher, DistillationConfig("there", 3.0, soft_share=1.0), task=TASK, seed=0)
    student.compile(loss=TASK.loss(0.1))
    data = inputs, _, weights = next(iter(batches()))
    losses, gradients = student._gradients(data, student.weight_sums(data))
    labels = softmax(teacher(inputs).numpy() / 3)
    with tf.GradientTape() as tape:
        rows = -tf.reduce_sum(labels * tf.nn.log_softmax(student(inputs) / 3), axis=-1) * 9
        expected = tf.reduce_sum(rows * weights) / tf.reduce_sum(weights)
    assert float(losses["loss"]) == pytest.approx(float(expected), rel=1e-5)
    for ours, other in zip(gradients, tape.gradient(expected, student.trainable_variables), strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(ours), tf.convert_to_tensor(other), atol=1e-5)


@pytest.mark.parametrize("width", [8, 16])
def test_the_loss_is_the_sum_of_its_parts(width):
    student, teacher = pupil(width, temperature=2.0, soft_share=0.7, hidden_weight=0.5)
    student.compile(loss=TASK.loss())
    data = inputs, targets, weights = next(iter(batches()))
    losses = student.losses_of(data, student.weight_sums(data))
    ours, theirs = (with_hidden_states(model)(inputs) for model in (student, teacher))
    share = weights.numpy() / weights.numpy().sum()
    hard = -(share * np.log((softmax(ours["logits"].numpy()) * targets.numpy()).sum(-1))).sum()
    mask = inputs["padding_mask"].numpy().astype(bool)
    kernel = np.eye(16) if width == 16 else student.projection.kernel.numpy()
    assert (student.projection is None) == (width == 16)
    rows = np.zeros(len(share))
    for own, other in zip(ours["states"], theirs["states"][::2], strict=True):
        error = ((own.numpy() @ kernel - other.numpy()) ** 2).mean(-1)
        rows += [error[i, mask[i]].mean() / 3 for i in range(len(rows))]
    assert float(losses["hard_loss"]) == pytest.approx(hard, rel=1e-5)
    assert float(losses["hidden_loss"]) == pytest.approx((share * rows).sum(), rel=1e-4)
    whole = 0.3 * losses["hard_loss"] + 0.7 * losses["soft_loss"] + 0.5 * losses["hidden_loss"]
    assert float(losses["loss"]) == pytest.approx(float(whole), rel=1e-6)


def test_the_teacher_is_neither_trained_nor_saved_nor_served():
    student, teacher = pupil(hidden_weight=1.0)
    plain = classifier(2, 8, 1)
    assert len(student.weights) == len(plain.weights) + 1 and student.weights[-1] is student.projection.kernel
    before = teacher.get_weights()
    student.compile(optimizer=make_optimizer(TrainingConfig(), student, 8), loss=TASK.loss())
    start = student.projection.kernel.numpy()
    student.run_updates(batches(), 4, [])
    assert_equal_weights(before, teacher.get_weights(), 0)
    assert np.abs(student.projection.kernel.numpy() - start).max() > 0
    assert len(serving_copy(student, "float32").weights) == len(plain.weights)


def compiled(accumulation=1, dropout=0.0):
    student, _ = pupil(dropout=dropout, hidden_weight=1.0)
    student.accumulation = accumulation
    optimizer = make_optimizer(TrainingConfig(learning_rate=0.01, clip_norm=0.05), student, total_steps=4)
    student.compile(optimizer=optimizer, loss=TASK.loss(0.1), jit_compile=False)
    return student


def train(strategy, accumulation=1):
    with strategy.scope():
        student = compiled(accumulation)
    student.run_updates(batches(), 4, [])
    return student.get_weights()


@pytest.mark.slow
def test_two_devices_and_parts_give_the_weights_of_one():
    one = train(tf.distribute.get_strategy())
    assert_equal_weights(one, train(tf.distribute.get_strategy(), accumulation=4))
    assert_equal_weights(one, train(choose_strategy("mirrored"), accumulation=2))


@pytest.mark.slow
def test_taken_up_again_it_ends_as_if_it_had_not_stopped(tmp_path):
    """With dropout, bit for bit."""
    whole = compiled(dropout=0.2)
    whole.run_updates(batches(), 4, [])
    for part in (batches().take(2), batches().skip(2)):
        student = compiled(dropout=0.2)
        checkpoints = Checkpoints(tmp_path / "checkpoints", student, student.optimizer, {})
        progress = checkpoints.restore()
        student.run_updates(part, 2, [])
        checkpoints.save(progress)
    assert_equal_weights(whole.get_weights(), student.get_weights(), 0)


def test_the_check_for_tpus_says_that_it_knows_no_teacher(tmp_path):
    config = parse(["--config", str(write_config(tmp_path)), "--distillation.teacher", "there"])
    with pytest.raises(UserError, match=r"unset distillation\.teacher"):
        list(steps_of(config, 1))


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A teacher's run, and the config of a narrower student."""
    folder = tmp_path_factory.mktemp("taught")
    config = write_config(folder, rows=400, training={"epochs": 4, "learning_rate": 0.01})
    assert main(["--config", str(config), "--run_dir", str(folder / "teacher")]) == 0
    student = yaml.safe_load(config.read_text())
    student["model"] |= {"num_layers": 1, "hidden_dim": 8, "intermediate_dim": 16}
    student["distillation"] = {"teacher": str(folder / "teacher"), "hidden_weight": 0.1}
    (folder / "student.yaml").write_text(yaml.safe_dump(student))
    return folder


@pytest.mark.slow
def test_from_a_teachers_run_to_a_student_and_to_a_student_of_it(taught, capsys):
    student = ["--config", str(taught / "student.yaml"), "--run_dir", str(taught / "student")]
    assert main(student) == 0
    output = capsys.readouterr().out
    assert f"taught by {taught / 'teacher'}, " in output and "exported and verified" in output
    metrics = json.loads((taught / "student" / "metrics.json").read_text())
    first, *_, last = metrics["train"]["history"]
    assert last["loss"] == pytest.approx(
        0.1 * last["hard_loss"] + 0.9 * last["soft_loss"] + 0.1 * last["hidden_loss"], rel=1e-4
    )
    assert all(last[name] < first[name] for name in ("loss", "soft_loss", "hidden_loss"))
    texts = ["the team and the coach", "bank market price"]
    assert Classifier(taught / "student")(texts).probabilities.shape == (2, 3)
    # A student, with its projection, can teach.
    arguments = ["--distillation.teacher", str(taught / "student"), "--training.epochs", "1"]
    assert main([*student[:2], "--run_dir", str(taught / "third"), *arguments, "--export.enabled", "false"]) == 0


@pytest.mark.slow
def test_the_weights_read_are_those_that_the_teacher_ended_with(taught):
    config = parse(["--config", str(taught / "student.yaml")])
    data = load(config.data, taught / "teacher" / "data")
    loaded = build(config.model, VOCABULARY, seed=0)
    teacher = load_teacher(config, loaded, data, "float32").model
    texts = ["the team and the coach", "bank market price", "moon"]
    logits = teacher(TextEncoder(VOCABULARY, True, 24)(tf.constant(texts)), training=False)
    np.testing.assert_allclose(tf.nn.softmax(logits), Classifier(taught / "teacher")(texts).probabilities, atol=1e-5)


def unfinished(folder):
    for path in (folder / "checkpoints").glob("0*/progress.json"):
        path.write_text(path.read_text().replace('"finished": true', '"finished": false'))


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda folder: (folder / "config.yaml").unlink(), [], "has no config.yaml: name the folder of a finished run"),
        (lambda folder: shutil.rmtree(folder / "saved_model"), [], "has exported no model"),
        (unfinished, [], "is not of a finished run"),
        (None, ["--data.labels", "[space, money, sport]"], "has the 3 labels money, space, sport, but this run 3"),
        (None, ["--data.label_separator", "|", "--training.monitor", "micro_f1"], "another task"),
        (None, ["--text.vocabulary", "other.txt"], "other.txt): both must read the same tokens"),
        (None, ["--text.redact", "[email]"], "set text.redact and text.redact_patterns alike"),
        (None, ["--text.lowercase", "false"], "set text.lowercase alike"),
        (None, ["--distillation.temperature", "0"], "distillation.temperature is 0: it must be a number above 0"),
        (None, ["--distillation.soft_share", "0", "--distillation.hidden_weight", "0"], "nothing to teach"),
    ],
)
def test_a_teacher_that_does_not_fit_is_one_sentence(taught, tmp_path, monkeypatch, capsys, change, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.txt").write_text("\n".join([*VOCABULARY[:-1], "other"]) + "\n")
    teacher = tmp_path / "teacher"
    shutil.copytree(taught / "teacher", teacher)
    if change:
        change(teacher)
    command = ["--config", str(taught / "student.yaml"), "--run_dir", "run", "--distillation.teacher", str(teacher)]
    assert main([*command, *arguments]) == 2
    error = capsys.readouterr().err
    assert re.match(r"error: .*\n\Z", error) and message in error, error
