"""keras-nlp presets against keras-nlp itself."""

import json

import keras_nlp
import pytest
from checkpoints import (
    CONFIG,
    TANH,
    VOCABULARY,
    assert_computes,
    load,
    random_tensors,
    with_heads,
    write_folder,
)

from pipeline.backbone import preset
from pipeline.errors import UserError


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
