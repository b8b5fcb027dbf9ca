"""Folders as people have them: wrappers' prefixes, spare rows, sub-folders, caches, and what else lies beside."""

import json
import os

import numpy as np
import pytest
from checkpoints import (
    CONFIG,
    HIDDEN,
    ROWS,
    VOCABULARY,
    assert_computes,
    load,
    random_heads,
    random_tensors,
    with_heads,
    write_folder,
    write_google,
)
from safetensors.numpy import load_file
from tiny import VOCABULARY as WORDS
from tiny import write_config
from torch_files import write_torch

from pipeline.backbone.convert import convert, main
from pipeline.backbone.load import require_segments
from pipeline.errors import UserError
from pipeline.run import main as run
from pipeline.vocabulary import own_tokens


def prefixed(prefix, tensors):
    return {prefix + name: value for name, value in tensors.items()}


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.bert.", "encoder.", "ctx_encoder.bert_model."])
def test_whatever_wraps_the_encoder(tmp_path, prefix):
    tensors = random_tensors(CONFIG)
    # Heads stand beside the encoder, one wrapper further out.
    around = "module." if prefix == "module.bert." else ""
    folder = write_folder(tmp_path, prefixed(prefix, tensors) | prefixed(around, random_heads()))
    loaded = load(folder)
    assert_computes(loaded.backbone, CONFIG, tensors)
    assert loaded.heads is not None and loaded.left_out == ()


def test_several_encoders_in_one_file_are_refused(tmp_path):
    tensors = random_tensors(CONFIG)
    both = prefixed("teacher.", tensors) | prefixed("student.", tensors)
    with pytest.raises(UserError, match=r"hold 2 encoders \(student\., teacher\.\): keep one"):
        load(write_folder(tmp_path, both))


def test_a_checkpoint_of_a_training_program(tmp_path):
    tensors = random_tensors(CONFIG)
    folder = write_folder(tmp_path, tensors)
    (folder / "model.safetensors").unlink()
    write_torch(folder / "pytorch_model.bin", prefixed("state_dict.model.bert.", tensors))
    assert_computes(load(folder).backbone, CONFIG, tensors)


def test_no_model_type_is_a_bert_where_the_tensors_are(tmp_path):
    sizes = ("hidden_act", "layer_norm_eps")
    loaded = load(write_folder(tmp_path / "tiny", model_type=None, **dict.fromkeys(sizes)))
    assert_computes(loaded.backbone, CONFIG, random_tensors(CONFIG))
    assert "config.json has no model_type: taken for a BERT" in loaded.notes[0]
    other = write_folder(tmp_path / "roberta", prefixed("roberta.", random_tensors(CONFIG)), model_type=None)
    with pytest.raises(UserError, match=r"has no model_type, and the tensors .* are not BERT's"):
        load(other)


@pytest.mark.parametrize(
    ("name", "means"),
    [("gelu_python", "gelu"), ("gelu_fast", "gelu_new"), ("gelu_accurate", "gelu_new"), ("swish", "silu")],
)
def test_other_names_of_activations(tmp_path, name, means):
    folder = write_folder(tmp_path / "from", hidden_act=name)
    assert_computes(load(folder).backbone, CONFIG | {"hidden_act": means}, random_tensors(CONFIG))
    convert(str(folder), tmp_path / "to")
    assert json.loads((tmp_path / "to" / "config.json").read_text())["hidden_act"] == means


@pytest.mark.parametrize("spare", [4, 1000])
def test_more_rows_than_tokens(tmp_path, spare, capsys):
    config = CONFIG | {"vocab_size": ROWS + spare}
    tensors = random_tensors(config)
    heads = random_heads() | {"cls.predictions.bias": np.ones(ROWS + spare, np.float32)}
    folder = write_folder(tmp_path / "from", with_heads(tensors, heads), vocab_size=ROWS + spare)
    loaded = load(folder)
    assert_computes(loaded.backbone, config, tensors)
    (note,) = loaded.notes
    assert f"have {ROWS + spare} rows for the {ROWS} tokens of {folder}/vocab.txt" in note
    assert main([str(folder), str(tmp_path / "to")]) == 0
    assert capsys.readouterr().err.count(f"{ROWS + spare} rows") == 1
    expected, actual = (load_file(tmp_path / name / "model.safetensors") for name in ("from", "to"))
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value)


def test_words_added_to_a_checkpoint_with_spare_rows_begin_as_the_mean_of_their_pieces(tmp_path):
    tensors = random_tensors(CONFIG | {"vocab_size": ROWS + 4})
    folder = write_folder(tmp_path, tensors, vocab_size=ROWS + 4)
    words = tensors["embeddings.word_embeddings.weight"]
    (folder / "more.txt").write_text("\n".join([*VOCABULARY, "bb"]) + "\n")
    loaded = load(folder, vocabulary=str(folder / "more.txt"))
    table = loaded.backbone.token_embedding.embeddings.numpy()
    assert table.shape == (ROWS + 1, HIDDEN)
    np.testing.assert_array_equal(table[:ROWS], words[:ROWS])
    np.testing.assert_array_equal(table[ROWS], words[VOCABULARY.index("[UNK]")])
    # Also where there are as many words as there are spare rows.
    (folder / "all.txt").write_text("\n".join([*VOCABULARY, "bb", *"xyz"]) + "\n")
    loaded = load(folder, vocabulary=str(folder / "all.txt"))
    table = loaded.backbone.token_embedding.embeddings.numpy()
    np.testing.assert_array_equal(table[:ROWS], words[:ROWS])
    np.testing.assert_array_equal(table[ROWS:], words[[VOCABULARY.index("[UNK]")] * 4])
    (note,) = loaded.notes
    assert "its 4 rows of no token give way to those of the 4 words" in note
    # Another file of all rows is taken as it is.
    (folder / "other.txt").write_text("\n".join([*VOCABULARY[:-1], *"vwxyz"]) + "\n")
    loaded = load(folder, vocabulary=str(folder / "other.txt"))
    np.testing.assert_array_equal(loaded.backbone.token_embedding.embeddings, words)
    assert loaded.notes == ()


def test_one_segment_is_not_enough_for_pairs(tmp_path):
    config = CONFIG | {"type_vocab_size": 1}
    loaded = load(write_folder(tmp_path, type_vocab_size=1))
    assert loaded.backbone.num_segments == 1
    with pytest.raises(UserError, match=r"data\.text_columns \[a, b\] asks for pairs.* one segment alone"):
        require_segments(loaded, "data.text_columns [a, b]")
    inputs = {
        name: np.full((2, 5), value, np.int32)
        for name, value in {"token_ids": 7, "segment_ids": 0, "padding_mask": 1}.items()
    }
    assert_computes(loaded.backbone, config, random_tensors(config), inputs=inputs)


def test_where_the_model_is_inside_a_folder(tmp_path):
    tensors = random_tensors(CONFIG)
    old = tmp_path / "old"
    old.mkdir()
    write_folder(old / "0_Transformer", tensors)
    assert_computes(load(old).backbone, CONFIG, tensors)
    assert own_tokens(str(old))[0] == tuple(VOCABULARY)
    (old / "modules.json").write_text(
        json.dumps([{"idx": 0, "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
                    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}])
    )  # fmt: skip
    assert load(old).left_out == ("modules.json (Pooling)",)


def test_a_folder_of_the_hubs_cache(tmp_path):
    tensors = random_tensors(CONFIG)
    cache = tmp_path / "models--owner--bert"
    for name, seed in (("0123abc", 0), ("4567def", 1)):
        source = write_folder(tmp_path / name, random_tensors(CONFIG, seed))
        snapshot = cache / "snapshots" / name
        snapshot.mkdir(parents=True)
        for file in source.iterdir():
            os.symlink(file, snapshot / file.name)
    with pytest.raises(UserError, match=r"has 2 snapshots, none of them refs/main's: name the folder of one"):
        load(cache)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123abc")
    assert_computes(load(cache).backbone, CONFIG, tensors)


def test_an_adapter_is_named(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "bert-base-uncased"}))
    with pytest.raises(UserError, match=r"is an adapter on bert-base-uncased: merge the two"):
        load(tmp_path)


def test_convert_names_what_has_no_place(tmp_path, capsys):
    heads = {"classifier.weight": np.zeros((3, HIDDEN), np.float32), "classifier.bias": np.zeros(3, np.float32)}
    labels = {"id2label": {"0": "good", "1": "bad", "2": "neither"}, "architectures": ["BertForTokenClassification"]}
    folder = write_folder(tmp_path / "from", prefixed("bert.", random_tensors(CONFIG)) | heads, **labels)
    assert main([str(folder), str(tmp_path / "to")]) == 0
    lines = capsys.readouterr()
    assert "every tensor that was written is equal" in lines.out
    (warning,) = lines.err.splitlines()
    assert warning == (
        f"warning: {folder}: left out, for want of a place: classifier.bias [3], classifier.weight [3, 16], "
        "id2label (good, bad, neither)."
    )
    # Labels that nobody has named are none.
    folder = write_folder(tmp_path / "plain", random_tensors(CONFIG), id2label={"0": "LABEL_0", "1": "LABEL_1"})
    assert convert(str(folder), tmp_path / "plain-to") == ()


def test_convert_counts_the_slots_of_an_optimizer(tmp_path):
    source = write_google(tmp_path / "from")
    (left_out,) = [note for note in convert(str(source), tmp_path / "to") if "left out" in note]
    assert "global_step []" in left_out and "slots of an optimizer" in left_out


def test_pytorch_pretrained_berts_folder(tmp_path):
    tensors = random_tensors(CONFIG)
    folder = write_folder(tmp_path, tensors, model_type=None)
    (folder / "model.safetensors").unlink()
    write_torch(folder / "pytorch_model.bin", prefixed("bert.", tensors), legacy=True)
    (folder / "config.json").rename(folder / "bert_config.json")
    # Its GELU is the exact one, unlike that of google-research/bert's file of this name.
    assert_computes(load(folder).backbone, CONFIG, tensors)


def test_a_run_on_pairs_ends_before_training(tmp_path, capsys):
    sizes = CONFIG | {"vocab_size": len(WORDS), "max_position_embeddings": 32, "type_vocab_size": 1}
    folder = write_folder(tmp_path / "one", random_tensors(sizes), **sizes)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    rows = "".join(f"goal {word},bank,{label}\n" for word in WORDS[5:25] for label in "xy")
    (tmp_path / "pairs.csv").write_text("a,b,label\n" + rows)
    given = ["--data.train", str(tmp_path / "pairs.csv"), "--data.text_columns", "[a, b]", "--run_dir"]
    config = write_config(tmp_path / "work", text={"vocabulary": None}, model={"backbone": str(folder)})
    assert run(["--config", str(config), *given, str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert f"data.text_columns [a, b] asks for pairs of texts, but {folder} has one segment alone" in error
    assert not (tmp_path / "run" / "checkpoints").exists()
