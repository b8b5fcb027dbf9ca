"""Pooling and length that a checkpoint of sentence-transformers brings, where nobody sets them."""

import json

import pytest
import yaml
from checkpoints import CONFIG, load, random_tensors, write_folder

from pipeline.backbone.defaults import read, settle
from pipeline.config import Config, ModelConfig, TextConfig, to_yaml


def sentence_folder(folder, pooling, length=10, more=(), path=""):
    """A folder as sentence-transformers saves it."""
    folder.mkdir(exist_ok=True)
    write_folder(folder / path, random_tensors(CONFIG))
    kinds = [("Transformer", path), ("Pooling", "1_Pooling"), *more]
    modules = [
        {"idx": i, "name": str(i), "path": where, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, where) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16} | pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": length, "do_lower_case": False}))
    return folder


def flags(**chosen):
    return {f"pooling_mode_{name}": chosen.get(name, False) for name in ("cls_token", "mean_tokens", "max_tokens")}


def config_of(folder, pooling=None, length=None):
    return Config(model=ModelConfig(backbone=str(folder), pooling=pooling), text=TextConfig(sequence_length=length))


@pytest.mark.parametrize(
    ("written", "pooling"),
    [
        (flags(mean_tokens=True), "mean"),
        (flags(cls_token=True), "first"),
        ({"pooling_mode": "mean"}, "mean"),
        (flags(max_tokens=True), None),
        (flags(mean_tokens=True, max_tokens=True), None),
    ],
)
def test_what_the_modules_say(tmp_path, written, pooling):
    more = [("Dense", "2_Dense"), ("Normalize", "3_Normalize")]
    found = read(sentence_folder(tmp_path / "st", written, more=more))
    assert (found.pooling, found.sequence_length) == (pooling, 10)
    assert found.lost[-2:] == ("Dense (2_Dense)", "Normalize (3_Normalize)")
    assert len(found.lost) == (2 if pooling else 3)
    assert read(write_folder(tmp_path / "plain")) is None


@pytest.mark.parametrize("path", ["", "0_Transformer"])
def test_a_folder_of_the_hubs_cache_keeps_its_modules(tmp_path, capsys, path):
    cache = tmp_path / "models--owner--st"
    (cache / "snapshots").mkdir(parents=True)
    sentence_folder(cache / "snapshots" / "0123abc", flags(mean_tokens=True), more=[("Dense", "2_Dense")], path=path)
    settled = settle(config_of(cache), tmp_path / "run")
    assert (settled.model.pooling, settled.text.sequence_length) == ("mean", 10)
    assert "(sentence-transformers): model.pooling mean" in capsys.readouterr().out
    assert load(cache).left_out == ("modules.json (Pooling, Dense)",)


def test_no_length_beyond_the_positions(tmp_path):
    assert read(sentence_folder(tmp_path / "long", flags(cls_token=True), length=512)).sequence_length == 12
    assert read(sentence_folder(tmp_path / "none", flags(cls_token=True), length=None)).sequence_length is None
    inner = sentence_folder(tmp_path / "inner", flags(cls_token=True), path="0_Transformer")
    assert read(inner).sequence_length == 10


def test_they_are_the_defaults_of_a_run_and_are_said(tmp_path, capsys):
    folder = sentence_folder(tmp_path / "st", flags(mean_tokens=True), more=[("Normalize", "2_Normalize")])
    settled = settle(config_of(folder), tmp_path / "run")
    assert (settled.model.pooling, settled.text.sequence_length) == ("mean", 10)
    (line,) = capsys.readouterr().out.splitlines()
    assert line == (
        f"{folder} (sentence-transformers): model.pooling mean, text.sequence_length 10; left out: Normalize "
        "(2_Normalize)"
    )
    # What is set stays, and nothing is said where all is set.
    assert settle(config_of(folder, "cls"), tmp_path / "run").model.pooling == "cls"
    capsys.readouterr()
    settled = settle(config_of(folder, "attention", 8), tmp_path / "run")
    assert (settled.model.pooling, settled.text.sequence_length) == ("attention", 8)
    plain = settle(config_of(write_folder(tmp_path / "plain")), tmp_path / "run")
    assert (plain.model.pooling, plain.text.sequence_length) == ("fresh", 128)
    assert settle(config_of(None), tmp_path / "run").model.pooling == "fresh"
    assert capsys.readouterr().out == ""


def test_a_run_keeps_what_it_began_with(tmp_path, capsys):
    folder = sentence_folder(tmp_path / "st", flags(mean_tokens=True))
    begun = settle(config_of(folder), tmp_path)
    (tmp_path / "config.yaml").write_text(to_yaml(begun))
    capsys.readouterr()
    sentence_folder(folder, flags(cls_token=True), length=7)
    assert settle(config_of(folder), tmp_path) == begun
    assert capsys.readouterr().out == ""
    # A run of a version in which the two had fixed defaults.
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": {"pooling": "fresh"}, "text": {}}))
    assert settle(config_of(folder), tmp_path).model.pooling == "fresh"
