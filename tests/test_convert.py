"""Checkpoint formats against hand-made files, an independent forward pass, transformers and keras-nlp itself."""

import json
import os
import re
import subprocess
import sys
import types

import keras
import keras_nlp
import numpy as np
import pytest
import tensorflow as tf
from safetensors import safe_open
from safetensors.numpy import load_file
from test_backbone import (
    ACTIVATIONS,
    CONFIG,
    VOCABULARY,
    assert_computes,
    load,
    random_inputs,
    random_tensors,
    reference,
    write_folder,
)

from pipeline.backbone import hub, huggingface, preset, tf_checkpoint
from pipeline.backbone.convert import convert, different, main
from pipeline.backbone.load import load_checkpoint
from pipeline.errors import UserError

TANH = CONFIG | {"hidden_act": "gelu_new"}
HIDDEN, ROWS = CONFIG["hidden_size"], CONFIG["vocab_size"]


@pytest.fixture(autouse=True)
def float32():
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")


def random_heads(seed=1):
    """Heads under BertForPreTraining's names."""
    random = np.random.default_rng(seed)
    shapes = {
        "cls.predictions.transform.dense.weight": (HIDDEN, HIDDEN),
        "cls.predictions.transform.dense.bias": (HIDDEN,),
        "cls.predictions.transform.LayerNorm.weight": (HIDDEN,),
        "cls.predictions.transform.LayerNorm.bias": (HIDDEN,),
        "cls.predictions.bias": (ROWS,),
        "cls.seq_relationship.weight": (2, HIDDEN),
        "cls.seq_relationship.bias": (2,),
    }
    return {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def with_heads(tensors, heads=None):
    """As BertForPreTraining saves them."""
    return {f"bert.{name}": value for name, value in tensors.items()} | (random_heads() if heads is None else heads)


def google(tensors):
    """Tensors of BertModel and of heads, as google-research/bert would have saved them; written out rule by rule."""
    found = {}
    for name, value in tensors.items():
        new = name.replace(".", "/").replace("layer/", "layer_")
        if "cls/" not in new:
            new = f"bert/{new}"
        if new.endswith("_embeddings/weight"):
            new = new.removesuffix("/weight")
        elif "LayerNorm" in new:
            new = new.replace("/weight", "/gamma").replace("/bias", "/beta")
        elif "seq_relationship" in new:
            new = new.replace("/weight", "/output_weights").replace("/bias", "/output_bias")
        elif new == "cls/predictions/bias":
            new = "cls/predictions/output_bias"
        elif new.endswith("/weight"):
            new, value = new.replace("/weight", "/kernel"), value.T
        found[new] = value
    return found


def encoder_of_models(tensors, prefix=""):
    """Tensors of BertModel and the masked-token head, as the BertEncoder of tensorflow/models names and shapes them."""
    heads, found = CONFIG["num_attention_heads"], {}
    for name, value in google(tensors).items():
        new = name.removeprefix("bert/").replace("encoder/", "transformer/")
        for old, other in (
            ("embeddings/word_embeddings", "word_embeddings/embeddings"),
            ("embeddings/token_type_embeddings", "type_embeddings/embeddings"),
            ("embeddings/position_embeddings", "position_embedding/embeddings"),
            ("embeddings/LayerNorm", "embeddings/layer_norm"),
            ("attention/self", "self_attention"),
            ("attention/output/dense", "self_attention/attention_output"),
            ("attention/output/LayerNorm", "self_attention_layer_norm"),
            ("intermediate/dense", "intermediate"),
            ("output/dense", "output"),
            ("output/LayerNorm", "output_layer_norm"),
            ("pooler/dense", "pooler_transform"),
            ("cls/predictions/output_bias", "bert/cls/predictions/output_bias/bias"),
            ("cls/predictions/transform", "bert/cls/predictions/transform"),
        ):
            new = re.sub(f"(^|(?<=/)){old}(?=/|$)", other, new)
        if "attention_output/kernel" in new:
            value = value.reshape(heads, -1, HIDDEN)
        elif re.search(r"self_attention/(query|key|value)/", new):
            value = value.reshape(*value.shape[:-1], heads, -1)
        found[prefix + new] = value
    return found


def write_google(folder, tensors=None, name="bert_model.ckpt", config=None, slots=True):
    """A folder as google-research/bert's run_pretraining.py leaves it; with slots, written by TensorFlow 1's Saver."""
    folder.mkdir(exist_ok=True)
    keys = {key: value for key, value in CONFIG.items() if key not in ("model_type", "layer_norm_eps")}
    (folder / "bert_config.json").write_text(json.dumps(keys | (config or {})))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    tensors = google(random_tensors(CONFIG) | random_heads()) if tensors is None else tensors
    if not slots:
        write = {"tensor_names": list(tensors), "shape_and_slices": [""] * len(tensors)}
        tf.raw_ops.SaveV2(
            prefix=str(folder / name), tensors=[tf.constant(value) for value in tensors.values()], **write
        )
        return folder
    extra = {f"{name}/adam_{slot}": value for name, value in tensors.items() for slot in "mv"}
    extra["global_step"] = np.int64(7)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for key, value in (tensors | extra).items():
            tf.compat.v1.get_variable(key, initializer=tf.constant(value))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(folder / name), write_meta_graph=False)
    return folder


def write_hub(folder, tensors=None, lowercase=True, vocabulary=True):
    """A SavedModel with the variables of an encoder on TensorFlow Hub."""
    module = tf.Module()
    tensors = encoder_of_models(random_tensors(CONFIG)) if tensors is None else tensors
    module.weights = [tf.Variable(value, name=name) for name, value in tensors.items()]
    if lowercase is not None:
        module.do_lower_case = tf.Variable(lowercase, trainable=False)
    if vocabulary:
        path = folder.parent / "vocab.txt"
        path.write_text("\n".join(VOCABULARY) + "\n")
        module.vocab_file = tf.saved_model.Asset(str(path))
    tf.saved_model.save(module, str(folder))
    return folder


def masked_scores(config, tensors, heads, inputs):
    """Scores of all pieces at all positions, float64, with the head as transformers' BertForMaskedLM computes it."""
    h = {name: value.astype(np.float64) for name, value in heads.items()}
    sequence, pooled = reference(config, tensors, inputs)
    dense, norm = "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"
    x = ACTIVATIONS[config["hidden_act"]](sequence @ h[f"{dense}.weight"].T + h[f"{dense}.bias"])
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
    x = x * h[f"{norm}.weight"] + h[f"{norm}.bias"]
    words = tensors["embeddings.word_embeddings.weight"].astype(np.float64)
    pairs = pooled @ h["cls.seq_relationship.weight"].T + h["cls.seq_relationship.bias"]
    return x @ words.T + h["cls.predictions.bias"], pairs


def assert_heads(heads, names=None):
    """That the arrays of a PretrainingHeads are those of `random_heads`, inputs first."""
    expected = random_heads()
    np.testing.assert_array_equal(heads.transform_kernel, expected["cls.predictions.transform.dense.weight"].T)
    np.testing.assert_array_equal(heads.transform_bias, expected["cls.predictions.transform.dense.bias"])
    np.testing.assert_array_equal(heads.norm_gamma, expected["cls.predictions.transform.LayerNorm.weight"])
    np.testing.assert_array_equal(heads.norm_beta, expected["cls.predictions.transform.LayerNorm.bias"])
    np.testing.assert_array_equal(heads.output_bias, expected["cls.predictions.bias"])
    if names != "masked":
        np.testing.assert_array_equal(heads.next_sentence_kernel, expected["cls.seq_relationship.weight"].T)
        np.testing.assert_array_equal(heads.next_sentence_bias, expected["cls.seq_relationship.bias"])


# TensorFlow checkpoints


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
        (without(), {"num_hidden_layers": 2}, r"what bert_config\.json does not speak of: bert/encoder/layer_2/"),
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


# TensorFlow Hub


def test_a_hub_encoder_computes_what_the_reference_does(tmp_path):
    loaded = load(write_hub(tmp_path / "hub"))
    assert_computes(loaded.backbone, TANH, random_tensors(CONFIG), tolerance=2e-5)
    assert loaded.lowercase is True and loaded.has_pooler and loaded.vocabulary == tuple(VOCABULARY)
    assert loaded.heads is None and loaded.notes == ()
    fewer = load(tmp_path / "hub", num_layers=1)
    assert_computes(fewer.backbone, TANH | {"num_hidden_layers": 1}, random_tensors(CONFIG))
    with pytest.raises(UserError, match=r"model\.num_layers 4 exceeds the 3 layers"):
        load(tmp_path / "hub", num_layers=4)


def test_a_hub_encoder_with_a_head_and_without_pooler_or_tokenizer(tmp_path):
    tensors = encoder_of_models(random_tensors(CONFIG, pooler=False) | random_heads(), prefix="encoder/")
    write_hub(tmp_path / "hub", tensors, lowercase=None, vocabulary=False)
    loaded = load_checkpoint(str(tmp_path / "hub"))
    assert not loaded.has_pooler and loaded.lowercase is None and loaded.vocabulary == ()
    assert_heads(loaded.heads, "masked")
    with pytest.raises(UserError, match=r"has no tokenizer: set text\.vocabulary"):
        load(tmp_path / "hub")
    assert load(write_hub(tmp_path / "cased", lowercase=False)).lowercase is False


@pytest.mark.parametrize("address", ["https://tfhub.dev/some/bert/4", "https://www.kaggle.com/models/some/bert/x/y/2"])
def test_a_hub_address_is_resolved_by_tensorflow_hub(tmp_path, monkeypatch, address):
    asked = []

    def answer(handle):
        asked.append(handle)
        return str(write_hub(tmp_path / "hub"))

    monkeypatch.setitem(sys.modules, "tensorflow_hub", types.SimpleNamespace(resolve=answer))
    assert_computes(load(address).backbone, TANH, random_tensors(CONFIG))
    assert asked == [address]

    def fail(handle):
        raise RuntimeError("no network\nat all")

    monkeypatch.setitem(sys.modules, "tensorflow_hub", types.SimpleNamespace(resolve=fail))
    with pytest.raises(UserError, match=r"cannot be fetched \(RuntimeError: no network\): download and unpack"):
        load(address)
    assert not hub.is_handle("bert_tiny_en_uncased")


def test_says_what_is_wrong_with_a_hub_encoder(tmp_path):
    tensors = encoder_of_models(random_tensors(CONFIG))

    def refuses(name, tensors, message):
        with pytest.raises(UserError, match=message) as caught:
            load(write_hub(tmp_path / name, tensors))
        assert str(tmp_path / name) in str(caught.value)

    refuses("other", {"kernel": np.zeros((2, 3), np.float32)}, "there is no variable word_embeddings/embeddings")
    shared = {re.sub("layer_0/", "", name): value for name, value in tensors.items() if "layer_1" not in name}
    refuses("albert", shared, "there is no variable transformer/layer_0/.*: it is not a BERT encoder")
    key = "transformer/layer_1/self_attention/key/kernel"
    refuses("less", {name: value for name, value in tensors.items() if name != key}, f"the weights lack {key}")
    refuses("odd", tensors | {key: np.zeros((16, 4, 3), np.float32)}, rf"{key} has shape \(16, 12\)")
    more = {"embedding_projection/kernel": np.zeros((16, 16), np.float32)}
    refuses("electra", tensors | more, "does not speak of: embedding_projection/kernel")
    folder = write_hub(tmp_path / "damaged")
    (folder / "variables" / "variables.index").unlink()
    with pytest.raises(UserError, match="variables cannot be read as a checkpoint"):
        load(folder)


# Hugging Face


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_transformers_computes_what_the_backbone_does(tmp_path, activation):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = {"hidden_act": activation, "layer_norm_eps": 0.01}
    loaded = load(write_folder(tmp_path / "from", **config))
    assert huggingface.save(loaded, tmp_path / "to") == ()
    model, info = transformers.BertModel.from_pretrained(tmp_path / "to", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert model.config.hidden_dropout_prob == 0.2 and model.config.architectures == ["BertModel"]
    inputs = random_inputs(CONFIG)
    names = {"token_ids": "input_ids", "segment_ids": "token_type_ids", "padding_mask": "attention_mask"}
    with torch.no_grad():
        theirs = model(**{names[key]: torch.tensor(value.astype(np.int64)) for key, value in inputs.items()})
    ours = loaded.backbone(inputs, training=False)
    real = inputs["padding_mask"] == 1
    sequence = theirs.last_hidden_state.numpy()
    np.testing.assert_allclose(ours["sequence_output"].numpy()[real], sequence[real], atol=1e-5)
    np.testing.assert_allclose(ours["pooled_output"], theirs.pooler_output.numpy(), atol=1e-5)


def test_heads_go_from_transformers_through_tensorflow_and_back(tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(**CONFIG | {"initializer_range": 0.5})
    original = transformers.BertForPreTraining(config).eval()
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    original.save_pretrained(tmp_path / "from")
    (tmp_path / "from" / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    assert main([str(tmp_path / "from"), str(tmp_path / "tf"), "--format", "tf_checkpoint"]) == 0
    assert main([str(tmp_path / "tf"), str(tmp_path / "to")]) == 0

    copy, info = transformers.BertForPreTraining.from_pretrained(tmp_path / "to", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and copy.config.hidden_act == "gelu"
    inputs = random_inputs(CONFIG)
    ids = {"input_ids": inputs["token_ids"], "token_type_ids": inputs["segment_ids"],
           "attention_mask": inputs["padding_mask"]}  # fmt: skip
    ids = {name: torch.tensor(value.astype(np.int64)) for name, value in ids.items()}
    with torch.no_grad():
        expected, actual = original(**ids), copy(**ids)
    assert torch.equal(expected.prediction_logits, actual.prediction_logits)
    assert torch.equal(expected.seq_relationship_logits, actual.seq_relationship_logits)
    # And it is what the documentation of PretrainingHeads says, in float64.
    state = {name: value.numpy() for name, value in original.state_dict().items()}
    tensors = {name.removeprefix("bert."): value for name, value in state.items() if name.startswith("bert.")}
    scores, pairs = masked_scores(CONFIG, tensors, state, inputs)
    real = inputs["padding_mask"] == 1
    np.testing.assert_allclose(actual.prediction_logits.numpy()[real], scores[real], atol=1e-4)
    np.testing.assert_allclose(actual.seq_relationship_logits.numpy(), pairs, atol=1e-4)
    loaded = load(tmp_path / "to")
    np.testing.assert_array_equal(loaded.heads.transform_kernel, state["cls.predictions.transform.dense.weight"].T)


def test_transformers_takes_the_masked_token_head_alone(tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    heads = {name: value for name, value in random_heads().items() if "predictions" in name}
    tensors = random_tensors(CONFIG, pooler=False)
    loaded = load(write_folder(tmp_path / "from", with_heads(tensors, heads)))
    huggingface.save(loaded, tmp_path / "to")
    model, info = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "to", output_loading_info=True)
    assert type(model).__name__ == "BertForMaskedLM" and not info["missing_keys"] and not info["unexpected_keys"]
    inputs = random_inputs(CONFIG)
    tensors = random_tensors(CONFIG)
    scores, _ = masked_scores(CONFIG, tensors, random_heads(), inputs)
    with torch.no_grad():
        ids = [torch.tensor(inputs[name].astype(np.int64)) for name in ("token_ids", "padding_mask", "segment_ids")]
        actual = model(ids[0], attention_mask=ids[1], token_type_ids=ids[2]).logits.numpy()
    real = inputs["padding_mask"] == 1
    np.testing.assert_allclose(actual[real], scores[real], atol=1e-4)


@pytest.mark.parametrize(("lowercase", "pieces"), [(True, ["a", "b", "c"]), (False, ["[UNK]", "b", "c"])])
def test_transformers_tokenizes_as_the_checkpoint_says(tmp_path, lowercase, pieces):
    transformers = pytest.importorskip("transformers")
    loaded = load(write_folder(tmp_path / "from", tokenizer={"do_lower_case": lowercase}))
    huggingface.save(loaded, tmp_path / "to")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "to")
    assert tokenizer.tokenize("Á b c") == pieces and len(tokenizer) == ROWS
    assert tokenizer("b c")["input_ids"] == [2, 6, 7, 3] and tokenizer.model_max_length == 12
    assert load(tmp_path / "to").lowercase is lowercase


def test_an_untied_decoder_is_not_taken_for_the_word_embeddings(tmp_path):
    tensors = with_heads(random_tensors(CONFIG))
    words = tensors["bert.embeddings.word_embeddings.weight"]
    tied = load(write_folder(tmp_path / "tied", tensors | {"cls.predictions.decoder.weight": words.copy()}))
    assert_heads(tied.heads)
    other = load(write_folder(tmp_path / "untied", tensors | {"cls.predictions.decoder.weight": words + 1}))
    assert other.heads is None and "decoder.weight is not the word embeddings" in other.notes[0]
    # An older name of the same bias.
    tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
    assert_heads(load(write_folder(tmp_path / "bias", tensors)).heads)


# keras-nlp presets


def test_keras_nlp_computes_what_a_backbone_does_that_training_has_sped_up(tmp_path):
    loaded = load(write_folder(tmp_path / "from", tokenizer={"do_lower_case": True}, hidden_act="gelu_new"))
    assert preset.save(loaded, tmp_path / "to") == ()
    theirs = keras_nlp.models.BertBackbone.from_preset(str(tmp_path / "to"))
    assert type(theirs.transformer_layers[0]) is keras_nlp.layers.TransformerEncoder
    assert_computes(theirs, TANH, random_tensors(CONFIG), tolerance=2e-5)
    assert theirs.dropout == 0.2
    tokenizer = keras_nlp.models.BertTokenizer.from_preset(str(tmp_path / "to"))
    assert tokenizer.get_vocabulary() == VOCABULARY and list(tokenizer("B c")) == [6, 7]
    assert load(tmp_path / "to").lowercase is True


def test_a_preset_says_what_keras_nlp_will_compute_otherwise(tmp_path):
    config = CONFIG | {"layer_norm_eps": 0.01}
    tensors = with_heads(random_tensors(CONFIG))
    loaded = load(write_folder(tmp_path / "from", tensors, layer_norm_eps=0.01), dtype="mixed_bfloat16")
    notes = preset.save(loaded, tmp_path / "to")
    assert [next(word for word in ("tanh", "epsilon", "uncased", "heads") if word in note) for note in notes] == [
        "tanh",
        "epsilon",
        "uncased",
        "heads",
    ]
    # Here it is the same model still, in keras-nlp it is another: the note is needed.
    again = load(tmp_path / "to")
    assert_computes(again.backbone, config, random_tensors(CONFIG), tolerance=2e-5)
    assert again.lowercase is None
    theirs = keras_nlp.models.BertBackbone.from_preset(str(tmp_path / "to"), dtype="float32")
    with pytest.raises(AssertionError):
        assert_computes(theirs, config, random_tensors(CONFIG))
    assert_computes(theirs, TANH, random_tensors(CONFIG))


def test_a_preset_without_pooler_says_so(tmp_path):
    loaded = load(write_folder(tmp_path / "from", random_tensors(CONFIG, pooler=False), {"do_lower_case": False}))
    assert any("no pooler" in note for note in preset.save(loaded, tmp_path / "to"))
    assert load(tmp_path / "to").has_pooler is False
    config = json.loads((tmp_path / "to" / "config.json").read_text())
    config["bert_pipeline"]["hidden_act"] = "mish"
    (tmp_path / "to" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="hidden_act 'mish' is not one of"):
        load(tmp_path / "to")


def test_activations_that_a_format_cannot_hold_are_refused(tmp_path):
    relu, silu = (load(write_folder(tmp_path / name, hidden_act=name)) for name in ("relu", "silu"))
    with pytest.raises(UserError, match="has the activation relu, but keras-nlp's BertBackbone is fixed to GELU"):
        preset.save(relu, tmp_path / "to")
    with pytest.raises(UserError, match="has the activation silu, which google-research/bert has not"):
        tf_checkpoint.save(silu, tmp_path / "to")
    assert not (tmp_path / "to").exists()
    tf_checkpoint.save(relu, tmp_path / "to")
    assert_computes(load(tmp_path / "to").backbone, CONFIG | {"hidden_act": "relu"}, random_tensors(CONFIG))


@pytest.mark.parametrize("kind", ["bfloat16", "mirrored"])
def test_weights_are_saved_as_they_are(tmp_path, kind):
    source = write_folder(tmp_path / "from", with_heads(random_tensors(CONFIG)))
    if kind == "bfloat16":
        loaded = load(source, dtype="bfloat16")
    else:
        with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
            loaded = load(source)
    for module, name in ((huggingface, "hf"), (tf_checkpoint, "tf"), (preset, "keras")):
        module.save(loaded, tmp_path / name)
        again = load_checkpoint(str(tmp_path / name), dtype="float32")
        assert different(loaded, again, heads=module is not preset) == []
    # A comparison that finds something.
    again.backbone.get_layer("pooled_dense").bias.assign_add(np.full(HIDDEN, 0.01, np.float32))
    assert different(loaded, again, heads=False) == ["bert/pooler/dense/bias"]
    assert "cls/predictions/output_bias" in different(loaded, again)


# The command line


def test_a_way_round_all_formats_changes_no_bit(tmp_path, capsys):
    source = write_folder(tmp_path / "hf", tokenizer={"do_lower_case": True}, layer_norm_eps=0.001)
    for start, end, kind in (
        ("hf", "tf", "tf_checkpoint"),
        ("tf", "keras", "keras_preset"),
        ("keras", "hub", "tf_hub"),
        ("hub", "tf2", "tf_checkpoint"),
        ("tf2", "hf2", "huggingface"),
    ):
        assert main([str(tmp_path / start), str(tmp_path / end), "--format", kind]) == 0
    lines = capsys.readouterr()
    assert len(lines.out.splitlines()) == 5 and "every tensor is equal" in lines.out
    assert all(line.startswith("warning: ") for line in lines.err.splitlines() if "GELU" in line)
    expected, actual = (load_file(tmp_path / name / "model.safetensors") for name in ("hf", "hf2"))
    assert set(expected) == set(actual)
    for name, value in expected.items():
        assert value.tobytes() == actual[name].tobytes() and value.shape == actual[name].shape, name
    config = json.loads((tmp_path / "hf2" / "config.json").read_text())
    expected = json.loads((source / "config.json").read_text())
    assert {key: config[key] for key in expected} == expected
    assert (tmp_path / "hf2" / "vocab.txt").read_text() == (source / "vocab.txt").read_text()
    assert json.loads((tmp_path / "hf2" / "tokenizer_config.json").read_text())["do_lower_case"] is True
    with safe_open(tmp_path / "hf2" / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
    # All as readable as any new file.
    assert len({file.stat().st_mode for file in (tmp_path / "hf2").iterdir()}) == 1


def test_the_module_runs_and_its_help_comes_without_tensorflow():
    command = [sys.executable, "-X", "importtime", "-m", "pipeline.backbone.convert"]
    result = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "--vocabulary vocab.txt" in result.stdout
    imported = {line.split()[-1].partition(".")[0] for line in result.stderr.splitlines() if line.startswith("import")}
    assert "argparse" in imported and not imported & {"tensorflow", "keras", "numpy"}
    assert subprocess.run([*command, "from"], capture_output=True).returncode == 2


def test_bad_command_lines_end_with_one_sentence_and_status_2(tmp_path, capsys):
    source = write_google(tmp_path / "from", slots=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("precious")
    (tmp_path / "short.txt").write_text("a\nb\n")
    (source / "vocab.txt").rename(tmp_path / "vocab.txt")
    vocabulary = ["--vocabulary", str(tmp_path / "vocab.txt")]
    for arguments, message in (
        ([str(tmp_path / "nowhere"), str(tmp_path / "to")], "neither a checkpoint folder nor a keras-nlp preset"),
        ([str(tmp_path), str(tmp_path / "to")], "has no config.json, bert_config.json or saved_model.pb"),
        ([str(source), str(tmp_path / "to")], "has no tokenizer: give its vocab.txt as --vocabulary."),
        ([str(source), str(tmp_path / "full"), *vocabulary], "is not empty: name a new folder, or delete it first."),
        ([str(source), str(tmp_path / "short.txt"), *vocabulary], "short.txt is a file: name a folder"),
        ([str(source), str(tmp_path / "to"), "--vocabulary", str(tmp_path / "short.txt")], "has 2 pieces, but"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert (tmp_path / "full" / "mine").read_text() == "precious"
    assert not (tmp_path / "to").exists()
    assert main([str(source), str(tmp_path / "to"), *vocabulary]) == 0
    assert load(tmp_path / "to").vocabulary == tuple(VOCABULARY)


@pytest.mark.parametrize("format", ["huggingface", "tf_checkpoint", "keras_preset", "tf_hub"])
def test_an_interrupted_save_leaves_nothing(tmp_path, monkeypatch, format):
    source = write_folder(tmp_path / "from")

    def interrupted(old, new):
        assert len(list(old.rglob("*"))) > 2 and not (tmp_path / "to").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(str(source), tmp_path / "to", format)
    assert list(tmp_path.iterdir()) == [source]


def test_what_was_written_is_read_back_and_compared(tmp_path, monkeypatch, capsys):
    source = write_folder(tmp_path / "from", with_heads(random_tensors(CONFIG)))
    save_file = huggingface.save_file
    for name in ("bert.encoder.layer.1.output.dense.bias", "cls.predictions.bias"):

        def damage(tensors, path, metadata, name=name):
            save_file(tensors | {name: tensors[name] + 1}, path, metadata)

        monkeypatch.setattr(huggingface, "save_file", damage)
        assert main([str(source), str(tmp_path / name)]) == 2
        assert re.search(r"read back, (bert|cls)/[a-z_/1]*bias are not what was written", capsys.readouterr().err)


def test_a_piece_that_is_no_line_is_refused(tmp_path):
    loaded = load(write_folder(tmp_path / "from"))
    # An ideographic space alone is a piece of Chinese vocabularies.
    loaded.vocabulary = (*VOCABULARY[:-1], "\u3000")
    huggingface.save(loaded, tmp_path / "space")
    assert load(tmp_path / "space").vocabulary == loaded.vocabulary
    for piece in ("a\nb", " a"):
        loaded.vocabulary = (*VOCABULARY[:-1], piece)
        with pytest.raises(UserError, match=r"its piece .* cannot be written as a line"):
            huggingface.save(loaded, tmp_path / "to")
    assert not (tmp_path / "to").exists()
