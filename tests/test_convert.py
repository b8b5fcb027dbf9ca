"""python -m pipeline.backbone.convert: from any checkpoint format to any other."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from checkpoints import (
    CONFIG,
    HIDDEN,
    VOCABULARY,
    assert_computes,
    load,
    random_tensors,
    with_heads,
    write_folder,
    write_google,
)
from safetensors import safe_open
from safetensors.numpy import load_file

from pipeline.backbone import huggingface, preset, tf_checkpoint
from pipeline.backbone.convert import convert, different, main
from pipeline.backbone.load import load_checkpoint
from pipeline.errors import UserError


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
    assert len(lines.out.splitlines()) == 5 and "every tensor that was written is equal" in lines.out
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
        ([str(source), str(tmp_path / "to"), "--vocabulary", str(tmp_path / "short.txt")], "has 2 tokens, but"),
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
        with pytest.raises(UserError, match=r"its token .* cannot be written as a line"):
            huggingface.save(loaded, tmp_path / "to")
    assert not (tmp_path / "to").exists()
