"""Encoders and preprocessors that are saved for TensorFlow Hub, loaded again as others load them."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub
from checkpoints import (
    CONFIG,
    VOCABULARY,
    encoder_of_models,
    load,
    masked_scores,
    random_heads,
    random_inputs,
    random_tensors,
    reference,
    with_heads,
    write_folder,
)

from pipeline.backbone import hub
from pipeline.backbone.checkpoint_tensors import CheckpointTensors
from pipeline.backbone.convert import different, main
from pipeline.backbone.hub_preprocess import preprocessor
from pipeline.backbone.load import load_checkpoint
from pipeline.errors import UserError
from pipeline.text import TextEncoder

NAMES = {"input_word_ids": "token_ids", "input_mask": "padding_mask", "input_type_ids": "segment_ids"}
TEXTS = ["a b c", "", "o n m l k j i h g f e d c b a", "A b! \xe9", b"\xff a"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The backbone with pre-training heads that was saved, and the folder; nothing in it may be changed."""
    folder = tmp_path_factory.mktemp("saved")
    loaded = load_checkpoint(
        str(write_folder(folder / "hf", with_heads(random_tensors(CONFIG)), tokenizer={"do_lower_case": True})),
        dtype="float32",
    )
    assert hub.save(loaded, folder / "hub") == (
        "The next-sentence head is left out: TF-Hub's encoders have no place for it.",
    )
    return loaded, folder / "hub"


@pytest.fixture(scope="module")
def encoder(saved):
    return tensorflow_hub.load(str(saved[1] / "encoder"))


@pytest.fixture(scope="module")
def preprocess(saved):
    return tensorflow_hub.load(str(saved[1] / "preprocess"))


def test_what_is_no_weight_is_not_left_out(saved):
    assert hub.load(saved[1]).left_out == ()


def hub_inputs():
    inputs = random_inputs(CONFIG)
    return {name: tf.constant(inputs[ours]) for name, ours in NAMES.items()}


def test_a_loaded_encoder_computes_what_the_backbone_does(saved, encoder):
    expected = saved[0].backbone(random_inputs(CONFIG), training=False)
    outputs = encoder(hub_inputs())
    assert set(outputs) == {"pooled_output", "sequence_output", "encoder_outputs", "default"}
    for name in ("sequence_output", "pooled_output"):
        np.testing.assert_allclose(outputs[name], expected[name], atol=1e-5)
    np.testing.assert_array_equal(outputs["default"], outputs["pooled_output"])
    assert len(outputs["encoder_outputs"]) == CONFIG["num_hidden_layers"]
    np.testing.assert_array_equal(outputs["encoder_outputs"][-1], outputs["sequence_output"])
    # The outputs of a layer are those of an encoder that ends with it.
    first, _ = reference(CONFIG | {"num_hidden_layers": 1}, random_tensors(CONFIG), random_inputs(CONFIG))
    real = random_inputs(CONFIG)["padding_mask"] == 1
    np.testing.assert_allclose(outputs["encoder_outputs"][0].numpy()[real], first[real], atol=1e-4)


@pytest.mark.parametrize("activation", ["gelu_new", "silu"])
def test_other_activations_and_epsilons(tmp_path, activation):
    source = write_folder(tmp_path / "hf", hidden_act=activation, layer_norm_eps=0.01)
    loaded = load(source, num_layers=1)  # one that is sped up
    hub.save(loaded, tmp_path / "hub")
    outputs = tensorflow_hub.load(str(tmp_path / "hub" / "encoder"))(hub_inputs())
    expected = loaded.backbone(random_inputs(CONFIG), training=False)
    np.testing.assert_allclose(outputs["sequence_output"], expected["sequence_output"], atol=1e-5)
    assert different(loaded, hub.load(tmp_path / "hub")) == []


def test_the_masked_token_head(encoder):
    positions = np.array([[1, 2], [0, 1], [2, 2], [1, 0], [2, 1]], np.int32)
    outputs = encoder.mlm(hub_inputs() | {"masked_lm_positions": tf.constant(positions)})
    scores, _ = masked_scores(CONFIG, random_tensors(CONFIG), random_heads(), random_inputs(CONFIG))
    np.testing.assert_allclose(outputs["mlm_logits"], np.take_along_axis(scores, positions[..., None], 1), atol=1e-3)
    assert "sequence_output" in outputs
    assert len(encoder.mlm.trainable_variables) == len(encoder.trainable_variables) + 5


@pytest.mark.slow
def test_a_loaded_encoder_can_be_trained(saved, encoder):
    assert len(encoder.variables) == len(saved[0].backbone.weights) == len(encoder.trainable_variables)
    assert all(variable.trainable for variable in encoder.trainable_variables)
    assert list(encoder.regularization_losses) == []
    wave = tf.sin(tf.range(CONFIG["hidden_size"], dtype=tf.float32))

    def gradients(call, variables):
        with tf.GradientTape() as tape:
            outputs = call()
            loss = sum(tf.reduce_sum(outputs[name] * wave) for name in ("sequence_output", "pooled_output"))
        return [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)]

    backbone = saved[0].backbone
    ours = {part.hub: part.variable.value for part in hub.parts(backbone)}
    names = [variable.name.removesuffix(":0") for variable in encoder.trainable_variables]
    expected = gradients(lambda: backbone(random_inputs(CONFIG), training=False), [ours[name] for name in names])
    found = gradients(lambda: encoder(hub_inputs()), encoder.trainable_variables)
    for name, one, other in zip(names, found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3, rtol=1e-3, err_msg=name)
    # With dropout: another at each call, and gradients all the same.
    calls = [encoder(hub_inputs(), training=True)["pooled_output"].numpy() for _ in range(2)]
    assert np.abs(calls[0] - calls[1]).max() > 1e-3
    assert None not in gradients(lambda: encoder(hub_inputs(), training=True), encoder.trainable_variables)


def test_the_layer_of_tensorflow_hub_takes_both(saved):
    tf_keras = pytest.importorskip("tf_keras")
    texts = tf_keras.Input([], dtype=tf.string)
    inputs = tensorflow_hub.KerasLayer(str(saved[1] / "preprocess"))(texts)
    layer = tensorflow_hub.KerasLayer(str(saved[1] / "encoder"), trainable=True)
    scores = tf_keras.layers.Dense(1)(layer(inputs)["pooled_output"])
    model = tf_keras.Model(texts, scores)
    assert len(layer.trainable_weights) == len(saved[0].backbone.weights)
    before = [weight.numpy() for weight in layer.trainable_weights]
    model.compile("sgd", "mse")
    model.fit(tf.constant(["a b", "c d e"]), tf.constant([0.0, 1.0]), verbose=0)
    moved = [np.abs(old - new.numpy()).max() for old, new in zip(before, layer.trainable_weights, strict=True)]
    assert sum(difference > 0 for difference in moved) > len(moved) / 2


def test_variables_are_named_and_shaped_as_on_tensorflow_hub(saved):
    tensors = CheckpointTensors(saved[1] / "encoder" / "variables" / "variables", "saved")
    expected = {
        name.removeprefix("bert/"): value.shape
        for name, value in encoder_of_models(random_tensors(CONFIG) | random_heads()).items()
        if "seq_relationship" not in name
    }
    found = {name: tensors.shape(name) for name in tensors}
    assert expected.items() <= found.items()
    assert {name for name in found if "/" in name} == set(expected)


@pytest.mark.parametrize("place", ["hub", "hub/encoder"])
def test_what_is_saved_is_read_back(saved, place):
    loaded, folder = saved
    again = load_checkpoint(str(folder.parent / place), dtype="float32")
    assert different(loaded, again, next_sentence=False) == []
    assert different(loaded, again) == ["cls/seq_relationship/output_weights", "cls/seq_relationship/output_bias"]
    assert again.lowercase is True and again.vocabulary == tuple(VOCABULARY) and again.backbone.dropout == 0.2


def test_without_pooler(tmp_path):
    source = write_folder(tmp_path / "hf", random_tensors(CONFIG, pooler=False), tokenizer={"do_lower_case": False})
    loaded = load(source, num_layers=1)
    assert hub.save(loaded, tmp_path / "hub") == (
        "The checkpoint has no pooler: the encoder has neither pooled_output nor default.",
    )
    encoder = tensorflow_hub.load(str(tmp_path / "hub" / "encoder"))
    assert set(encoder(hub_inputs())) == {"sequence_output", "encoder_outputs"}
    again = hub.load(tmp_path / "hub")
    assert not again.has_pooler and again.lowercase is False and different(loaded, again) == []


def test_no_path_of_this_machine_stays(saved):
    files = [path for path in saved[1].rglob("*") if path.is_file()]
    assert {"encoder/assets/vocab.txt", "preprocess/saved_model.pb"} < {str(p.relative_to(saved[1])) for p in files}
    for path in files:
        content = path.read_bytes()
        assert str(saved[1].parent).encode() not in content and b".py" not in content, path


def assert_encodes(outputs, expected):
    assert set(outputs) == set(NAMES)
    for name, ours in NAMES.items():
        assert outputs[name].dtype == tf.int32
        np.testing.assert_array_equal(outputs[name], expected[ours], err_msg=name)


def test_a_loaded_preprocessor_gives_what_the_text_encoder_does(preprocess):
    text = TextEncoder(VOCABULARY, lowercase=True, sequence_length=CONFIG["max_position_embeddings"])
    assert_encodes(preprocess(tf.constant(TEXTS)), text(TEXTS, fixed_length=True))
    tokens = preprocess.tokenize(tf.constant(TEXTS))
    assert tokens.to_list() == text.tokenize(TEXTS).to_list()
    assert_encodes(preprocess.bert_pack_inputs([tokens]), text(TEXTS, fixed_length=True))
    assert_encodes(preprocess(tf.constant([], tf.string)), text([], fixed_length=True))
    special = {name: int(value) for name, value in preprocess.tokenize.get_special_tokens_dict().items()}
    assert special == {
        "padding_id": 0, "start_of_sequence_id": 2, "end_of_segment_id": 3, "mask_id": 4, "vocab_size": 20
    }  # fmt: skip


@pytest.mark.parametrize("length", [3, 4, 7, 12, 40])
def test_tokens_are_packed_into_any_length(preprocess, length):
    text = TextEncoder(VOCABULARY, lowercase=True, sequence_length=length)
    first, second = (preprocess.tokenize(tf.constant(texts)) for texts in (TEXTS, TEXTS[::-1]))
    assert_encodes(preprocess.bert_pack_inputs([first], seq_length=length), text(TEXTS, fixed_length=True))
    pair = text(TEXTS, TEXTS[::-1], fixed_length=True)
    assert_encodes(preprocess.bert_pack_inputs([first, second], seq_length=length), pair)
    # With words between texts and pieces, as the tokenizers of TensorFlow Hub give.
    words = [
        rows.with_values(tf.RaggedTensor.from_row_lengths(rows.values, tf.ones_like(rows.values, tf.int64)))
        for rows in (first, second)
    ]
    assert_encodes(preprocess.bert_pack_inputs(words, seq_length=length), pair)


def test_padding_is_the_vocabulary_s():
    text = TextEncoder([*VOCABULARY[1:], "[PAD]"], lowercase=True, sequence_length=8)
    pack = preprocessor(text).bert_pack_inputs.__call__
    assert_encodes(pack([text.tokenize(TEXTS)]), text(TEXTS, fixed_length=True))


def test_a_length_without_room_for_special_tokens_is_refused(preprocess):
    tokens = preprocess.tokenize(tf.constant(TEXTS))
    with pytest.raises(tf.errors.InvalidArgumentError, match="seq_length must be at least 3"):
        preprocess.bert_pack_inputs([tokens], seq_length=2)


@pytest.mark.slow
def test_the_converter_writes_what_another_program_takes(tmp_path, capsys):
    write_folder(tmp_path / "hf", tokenizer={"do_lower_case": True})
    assert main([str(tmp_path / "hf"), str(tmp_path / "hub"), "--format", "tf_hub"]) == 0
    assert "every tensor that was written is equal" in capsys.readouterr().out
    (tmp_path / "hf").rename(tmp_path / "gone")
    (tmp_path / "hub").rename(tmp_path / "moved")
    program = """
import json, sys, tensorflow_text, tensorflow_hub
preprocess, encoder = (tensorflow_hub.load(f"{sys.argv[1]}/{name}") for name in ("preprocess", "encoder"))
print(json.dumps(encoder(preprocess(["a b c"]))["default"].numpy().tolist()))
assert not any(name.startswith("pipeline") for name in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "moved")], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    loaded = load_checkpoint(str(tmp_path / "moved"))
    pooled = loaded.backbone(TextEncoder(VOCABULARY)(["a b c"]), training=False)["pooled_output"]
    np.testing.assert_allclose(json.loads(result.stdout.splitlines()[-1]), pooled, atol=1e-5)
    # And on to another format.
    assert main([str(tmp_path / "moved"), str(tmp_path / "back")]) == 0
    assert different(load_checkpoint(str(tmp_path / "gone")), load_checkpoint(str(tmp_path / "back"))) == []


def test_a_vocabulary_without_special_tokens_is_refused(tmp_path):
    loaded = load_checkpoint(str(write_folder(tmp_path / "hf")))
    loaded.vocabulary = tuple(f"piece{i}" for i in range(len(VOCABULARY)))
    with pytest.raises(UserError, match=r"lacks .*\[CLS\]"):
        hub.save(loaded, tmp_path / "hub")
    assert not (tmp_path / "hub").exists() and [path.name for path in tmp_path.iterdir()] == ["hf"]
