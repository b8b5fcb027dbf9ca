"""TensorFlow checkpoints of google-research/bert and tensorflow/models, read and written."""

import json

import numpy as np
import pytest
import tensorflow as tf
from checkpoints import (
    CONFIG,
    HIDDEN,
    TANH,
    VOCABULARY,
    assert_computes,
    assert_heads,
    encoder_of_models,
    google,
    load,
    random_heads,
    random_tensors,
    with_heads,
    write_folder,
    write_google,
)
from safetensors.numpy import load_file

from pipeline.backbone import huggingface, tf_checkpoint
from pipeline.backbone.convert import convert
from pipeline.errors import UserError


def test_a_google_checkpoint_computes_what_the_reference_does(tmp_path):
    loaded = load(write_google(tmp_path))
    # Its "gelu" is the tanh form: the exact one is further off than the tolerance.
    assert_computes(loaded.backbone, TANH, random_tensors(CONFIG), tolerance=2e-5)
    assert loaded.has_pooler and loaded.vocabulary == tuple(VOCABULARY) and loaded.notes == ()
    assert loaded.backbone.dropout == 0.2
    assert_heads(loaded.heads)


def test_a_google_checkpoint_after_further_training(tmp_path):
    write_google(tmp_path, google(random_tensors(CONFIG, seed=1)), "model.ckpt-1", slots=False)
    write_google(tmp_path, google(random_tensors(CONFIG)) | {"output_weights": np.zeros((3, HIDDEN))}, "model.ckpt-2")
    loaded = load(tmp_path, num_layers=2)
    assert_computes(loaded.backbone, TANH | {"num_hidden_layers": 2}, random_tensors(CONFIG))
    assert loaded.heads is None and loaded.notes == ()
    (tmp_path / "checkpoint").unlink()
    with pytest.raises(UserError, match=r"has 2 checkpoints \(model\.ckpt-1, model\.ckpt-2 \.\.\.\): keep one"):
        load(tmp_path)


def test_a_checkpoint_in_a_folder_whose_name_tensorflow_takes_for_a_pattern(tmp_path):
    folder = tmp_path / "plain"
    write_google(folder, google(random_tensors(CONFIG, seed=1)), "model.ckpt-1", slots=False)
    write_google(folder, google(random_tensors(CONFIG)), "model.ckpt-2", slots=False)
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-2"')
    loaded = load(folder.rename(tmp_path / "bert[1]\\x"))
    assert_computes(loaded.backbone, TANH, random_tensors(CONFIG), tolerance=2e-5)


def test_a_checkpoint_of_tensorflow_models(tmp_path):
    write_google(tmp_path, slots=False)
    for file in tmp_path.glob("bert_model.ckpt*"):
        file.unlink()
    # By object, inside a pre-training model; the variables' names are in the object graph only.
    tensors = encoder_of_models(random_tensors(CONFIG) | random_heads())
    variables = [tf.Variable(value, name=name) for name, value in tensors.items()]
    tf.train.Checkpoint(model=tf.train.Checkpoint(items=variables)).write(str(tmp_path / "bert_model.ckpt"))
    loaded = load(tmp_path)
    assert_computes(loaded.backbone, TANH, random_tensors(CONFIG))
    assert_heads(loaded.heads, "masked")


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("heads", [True, False])
def test_saves_exactly_the_variables_of_google_checkpoints(tmp_path, pooler, heads):
    tensors = random_tensors(CONFIG, pooler=pooler)
    source = write_folder(tmp_path / "hf", with_heads(tensors) if heads else tensors, {"do_lower_case": False})
    # As after training: sped up, and in mixed precision.
    loaded = load(source, dtype="mixed_bfloat16")
    notes = tf_checkpoint.save(loaded, tmp_path / "tf")
    reader = tf.train.load_checkpoint(str(tmp_path / "tf" / "bert_model.ckpt"))
    expected = google(tensors | (random_heads() if heads else {}))
    assert set(reader.get_variable_to_shape_map()) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(reader.get_tensor(name), value, err_msg=name)
        assert reader.get_tensor(name).dtype == np.float32
    config = json.loads((tmp_path / "tf" / "bert_config.json").read_text())
    keys = {key: value for key, value in CONFIG.items() if key not in ("model_type", "layer_norm_eps")}
    assert {key: config[key] for key in keys} == keys
    assert (tmp_path / "tf" / "vocab.txt").read_text().split() == VOCABULARY
    assert len(notes) == 1 and "tanh form" in notes[0]
    # Read by this project, it is the exact GELU again.
    again = load(tmp_path / "tf")
    assert again.has_pooler is pooler and again.lowercase is False
    if pooler:
        assert_computes(again.backbone, CONFIG, tensors, tolerance=2e-5)


def test_tensorflow_1_restores_what_was_saved(tmp_path):
    tf_checkpoint.save(load(write_folder(tmp_path / "hf")), tmp_path / "tf")
    expected = google(random_tensors(CONFIG))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {name: tf.compat.v1.get_variable(name, value.shape) for name, value in expected.items()}
        tf.compat.v1.train.init_from_checkpoint(
            str(tmp_path / "tf" / "bert_model.ckpt"), {name: name for name in expected}
        )
        session.run(tf.compat.v1.global_variables_initializer())
        for name, variable in variables.items():
            np.testing.assert_array_equal(session.run(variable), expected[name], err_msg=name)


@pytest.mark.parametrize(
    ("name", "lowercase"),
    [
        ("uncased_L-12_H-768_A-12", True),
        ("wwm_cased_L-24", False),
        ("BERT-Base-Cased", False),
        ("multi_cased_L-12_H-768_A-12", False),
        ("multilingual_L-12_H-768_A-12", True),
        ("chinese_L-12_H-768_A-12", True),
        ("my_model", None),
    ],
)
def test_lowercase_by_the_name_of_the_folder(name, lowercase):
    assert tf_checkpoint.lowercase_by_name(name) is lowercase


def test_the_name_of_the_folder_decides_only_where_the_config_does_not(tmp_path):
    folder = write_google(tmp_path / "uncased", slots=False)
    assert load(folder).lowercase is True
    convert(str(folder), tmp_path / "cased", "tf_checkpoint")
    assert load(tmp_path / "cased").lowercase is True


def without(*names):
    tensors = google(random_tensors(CONFIG) | random_heads())
    return {name: value for name, value in tensors.items() if name not in names}


def changed(**values):
    return google(random_tensors(CONFIG) | random_heads()) | values


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        (
            without("bert/encoder/layer_1/output/dense/bias"),
            {},
            r"weights lack bert/encoder/layer_1/output/dense/bias\.",
        ),
        ({"weight": np.zeros(3, np.float32)}, {}, r"weights lack bert/.* more\.; it has weight"),
        (
            changed(**{"bert/pooler/dense/kernel": np.zeros((16, 15), np.float32)}),
            {},
            r"bert/pooler/dense/kernel has shape \(16, 15\), bert_config\.json asks for \(16, 16\)",
        ),
        (
            changed(**{"cls/predictions/output_bias": np.zeros(21, np.float32)}),
            {},
            r"cls/predictions/output_bias has shape \(21,\), but the encoder asks for \(20,\)",
        ),
        (without(), {"num_hidden_layers": 2}, r"that bert_config\.json does not describe: bert/encoder/layer_2/"),
        (without(), {"num_hidden_layers": 4}, r"weights lack bert/encoder/layer_3/"),
        (without(), {"hidden_size": "16"}, r"bert_config\.json lacks hidden_size"),
        (without(), {"hidden_act": "mish"}, r"hidden_act 'mish' is not one of"),
        (without(), {"num_attention_heads": 3}, "not a multiple of num_attention_heads 3"),
    ],
)
def test_says_what_is_wrong_with_a_google_checkpoint(tmp_path, tensors, config, message):
    write_google(tmp_path, tensors, config=config, slots=False)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_damaged_and_missing_files_of_a_google_checkpoint(tmp_path):
    folder = write_google(tmp_path / "model", slots=False)
    data, index = folder / "bert_model.ckpt.data-00000-of-00001", folder / "bert_model.ckpt.index"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"bert_model\.ckpt cannot be read .* copied as a whole"):
        load(folder)
    # A bit of one weight: the checksum does not fit.
    data.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(UserError, match=r"bert_model\.ckpt cannot be read"):
        load(folder)
    data.unlink()
    with pytest.raises(UserError, match=r"bert_model\.ckpt cannot be read"):
        load(folder)
    data.write_bytes(whole)
    with pytest.raises(UserError, match="is a file: name the folder"):
        load(folder / "bert_model.ckpt")
    (folder / "vocab.txt").unlink()
    with pytest.raises(UserError, match=r"has no tokenizer: set text\.vocabulary"):
        load(folder)
    index.write_bytes(index.read_bytes()[:100])
    with pytest.raises(UserError, match=r"bert_model\.ckpt cannot be read"):
        load(folder)
    index.unlink()
    with pytest.raises(UserError, match=r"bert_model\.ckpt\.index is missing"):
        load(folder)
    (folder / "bert_config.json").write_text("[]")
    with pytest.raises(UserError, match=r"bert_config\.json is not a JSON object"):
        load(folder)


def test_a_part_of_the_heads_is_left_out_with_a_note(tmp_path):
    missing = "cls/predictions/transform/LayerNorm/beta"
    loaded = load(write_google(tmp_path, without(missing), slots=False))
    assert loaded.heads is None and len(loaded.notes) == 1 and missing in loaded.notes[0]


def test_the_masked_token_head_alone(tmp_path):
    gone = [f"cls/seq_relationship/output_{name}" for name in ("weights", "bias")]
    loaded = load(write_google(tmp_path / "tf", without(*gone), slots=False))
    assert_heads(loaded.heads, "masked")
    assert loaded.heads.next_sentence_kernel is None and loaded.heads.next_sentence_bias is None
    huggingface.save(loaded, tmp_path / "hf")
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["architectures"] == ["BertForMaskedLM"]
    names = set(load_file(tmp_path / "hf" / "model.safetensors"))
    assert {name for name in names if not name.startswith("bert.")} == {
        name for name in random_heads() if "predictions" in name
    }
