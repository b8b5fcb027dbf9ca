"""Encoders on TensorFlow Hub, read as checkpoints."""

import re
import sys
import types

import numpy as np
import pytest
from checkpoints import (
    CONFIG,
    TANH,
    VOCABULARY,
    assert_computes,
    assert_heads,
    encoder_of_models,
    load,
    random_heads,
    random_tensors,
    write_hub,
)

from pipeline.backbone import hub
from pipeline.backbone.load import load_checkpoint
from pipeline.errors import UserError


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
    refuses("electra", tensors | more, "does not describe: embedding_projection/kernel")
    folder = write_hub(tmp_path / "damaged")
    (folder / "variables" / "variables.index").unlink()
    with pytest.raises(UserError, match="variables cannot be read as a checkpoint"):
        load(folder)
