"""Checkpoints by their names on the Hugging Face Hub: a server on this machine plays it, the client is the true one."""

import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from checkpoints import CONFIG, VOCABULARY, assert_computes, random_tensors, shard_weights, write_folder
from hub_double import running_hub
from tiny import SPECIAL, write_config
from tiny import VOCABULARY as WORDS
from torch_files import write_torch

from pipeline import model_hub
from pipeline.backbone.convert import main as convert
from pipeline.backbone.defaults import settle
from pipeline.backbone.load import load_backbone, load_checkpoint
from pipeline.config import Config, ModelConfig, TextConfig
from pipeline.errors import UserError
from pipeline.model_hub import HubModel, fetch, pin, reference, resolve
from pipeline.run import main as run
from pipeline.vocabulary import main as vocabulary

NAME = "some-owner/bert-tiny"


def set_endpoint(monkeypatch, url):
    """HF_ENDPOINT, which the library reads when it is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    with running_hub() as hub:
        set_endpoint(monkeypatch, hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.chdir(tmp_path)
        yield hub


def commit_of(tmp_path, hub, seed=0, ref="main", name=NAME, **changes):
    """A commit of a checkpoint whose weights follow from the seed, with files that nobody needs."""
    folder = write_folder(
        tmp_path / f"{name.replace('/', '-')}-{seed}", random_tensors(CONFIG, seed), {"do_lower_case": True}, **changes
    )
    (folder / "pytorch_model.bin").write_bytes(b"code")
    (folder / "README.md").write_text("a card")
    return hub.add(name, folder, ref)


@pytest.mark.parametrize(
    ("source", "name", "revision"),
    [
        ("bert-base-uncased", "bert-base-uncased", "main"),
        ("google-bert/bert-base-chinese", "google-bert/bert-base-chinese", "main"),
        ("hf://bert", "bert", "main"),
        ("hf://a/b@v1.0", "a/b", "v1.0"),
        ("a/b@refs/pr/7", "a/b", "refs/pr/7"),
    ],
)
def test_names(source, name, revision):
    assert reference(source) == HubModel(name, revision)


@pytest.mark.parametrize(
    "source",
    [
        "bert_base_en_uncased",
        "/a/b",
        "./a/b",
        "~/a",
        "a/b/c",
        "gs://a/b",
        "wheel:a==1/b",
        "https://tfhub.dev/a/b/1",
        "https://www.kaggle.com/models/a/b",
        ".",
    ],
)
def test_no_names(source):
    assert reference(source) is None


def test_names_of_keras_nlp_presets_are_no_names_of_the_hub():
    import keras_nlp

    assert len(keras_nlp.models.BertBackbone.presets) > 5
    assert [name for name in keras_nlp.models.BertBackbone.presets if reference(name)] == []


def test_a_local_folder_of_that_name_wins(hub, tmp_path):
    commit_of(tmp_path, hub, seed=1)
    (tmp_path / "some-owner").mkdir()
    write_folder(tmp_path / NAME, random_tensors(CONFIG, 2))
    assert_computes(load_checkpoint(NAME).backbone, CONFIG, random_tensors(CONFIG, 2))
    assert hub.asked == []
    assert_computes(load_checkpoint(f"hf://{NAME}").backbone, CONFIG, random_tensors(CONFIG, 1))


def test_only_what_the_loader_reads_is_fetched_and_once(hub, tmp_path):
    commit_of(tmp_path, hub)
    loaded = load_checkpoint(NAME)
    assert_computes(loaded.backbone, CONFIG, random_tensors(CONFIG))
    assert loaded.vocabulary == tuple(VOCABULARY) and loaded.lowercase is True
    assert sorted(hub.fetched()) == ["config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"]
    hub.asked.clear()
    commit = resolve(HubModel(NAME))
    assert set(hub.asked) == {("HEAD", f"/{NAME}/resolve/main/config.json")}
    hub.asked.clear()
    fetch(HubModel(NAME), commit)
    assert hub.asked == []


def test_an_old_name_is_moved_to_the_new_one(hub, tmp_path):
    commit = commit_of(tmp_path, hub, name="google-bert/bert-base-uncased")
    hub.moved["bert-base-uncased"] = "google-bert/bert-base-uncased"
    assert resolve(HubModel("bert-base-uncased")) == commit
    assert_computes(load_checkpoint("bert-base-uncased").backbone, CONFIG, random_tensors(CONFIG))


def test_shards(hub, tmp_path):
    tensors = random_tensors(CONFIG)
    folder = write_folder(tmp_path / "shards", tensors)
    shard_weights(folder, tensors, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])
    hub.add(NAME, folder)
    assert_computes(load_checkpoint(NAME).backbone, CONFIG, tensors)


def test_tags_and_commits(hub, tmp_path):
    old = commit_of(tmp_path, hub, seed=1, ref="v1")
    commit_of(tmp_path, hub, seed=2)
    for source in (f"{NAME}@v1", f"hf://{NAME}@{old}"):
        assert_computes(load_checkpoint(source).backbone, CONFIG, random_tensors(CONFIG, 1))
    assert_computes(load_checkpoint(NAME, revision=old).backbone, CONFIG, random_tensors(CONFIG, 1))


def test_what_was_fetched_in_part_is_completed(hub, tmp_path):
    commit = commit_of(tmp_path, hub)
    # As another program leaves it that needs no tokenizer: weights, and no word on lower case.
    for name in ("config.json", "model.safetensors"):
        model_hub._download(HubModel(NAME, commit), name)
    assert load_checkpoint(NAME).lowercase is True


def config_of(**model) -> Config:
    return Config(model=ModelConfig(**model))


def store(run_dir: Path, config: Config) -> None:
    run_dir.mkdir(exist_ok=True)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(dataclasses.asdict(config)))


def test_a_run_keeps_the_commit_that_it_began_with(hub, tmp_path, capsys):
    first = commit_of(tmp_path, hub, seed=1)
    begun = pin(config_of(backbone=NAME), tmp_path / "run")
    assert begun.model.revision == first and first in capsys.readouterr().out
    store(tmp_path / "run", begun)
    second = commit_of(tmp_path, hub, seed=2)
    hub.asked.clear()
    assert pin(config_of(backbone=NAME), tmp_path / "run") == begun
    assert hub.asked == []
    assert pin(config_of(backbone=NAME), tmp_path / "new").model.revision == second
    # Another commit that is asked for is another setting, which the run's claim refuses.
    assert pin(config_of(backbone=NAME, revision=second), tmp_path / "run").model.revision == second
    assert pin(config_of(backbone=f"{NAME}@main"), tmp_path / "run").model.revision == second


def test_a_folder_that_came_since_is_not_taken_for_the_checkpoint(hub, tmp_path):
    commit_of(tmp_path, hub)
    begun = pin(config_of(backbone=NAME), tmp_path / "run")
    store(tmp_path / "run", begun)
    (tmp_path / "some-owner").mkdir()
    write_folder(tmp_path / NAME)
    with pytest.raises(UserError, match=rf"run began with commit {begun.model.revision} .* hf://{NAME}"):
        pin(config_of(backbone=NAME), tmp_path / "run")
    with pytest.raises(UserError, match=r"unset model\.revision"):
        load_backbone(begun.model, TextConfig(sequence_length=12))


@pytest.mark.parametrize("backbone", [None, "bert_base_en_uncased", "."])
def test_a_revision_of_something_else_is_refused(hub, tmp_path, backbone):
    with pytest.raises(UserError, match=r"model\.revision is .* unset model\.revision"):
        pin(config_of(backbone=backbone, revision="0" * 40), tmp_path)
    assert pin(config_of(backbone=backbone), tmp_path) == config_of(backbone=backbone)


def test_a_branch_is_no_commit(hub, tmp_path):
    with pytest.raises(UserError, match=rf"model\.revision v1: .* --model\.backbone {NAME}@v1"):
        pin(config_of(backbone=NAME, revision="v1"), tmp_path)


def test_what_the_hub_does_not_have(hub, tmp_path):
    commit_of(tmp_path, hub)
    with pytest.raises(UserError, match=r"nobody/bert-none: there is no such folder, and .* no such model"):
        load_checkpoint("nobody/bert-none")
    with pytest.raises(UserError, match="has no revision v9"):
        load_checkpoint(f"{NAME}@v9")
    with pytest.raises(UserError, match="write it as hf://owner/name"):
        load_checkpoint("hf://a/b/c")
    hub.add("owner/empty-one", tmp_path / "nothing")
    with pytest.raises(UserError, match=r"owner/empty-one has no config\.json"):
        load_checkpoint("owner/empty-one")
    (write_folder(tmp_path / "bare") / "model.safetensors").unlink()
    hub.add("owner/no-weights", tmp_path / "bare")
    with pytest.raises(UserError, match=r"has neither model\.safetensors nor pytorch_model\.bin"):
        load_checkpoint("owner/no-weights")
    shard_weights(
        write_folder(tmp_path / "part"), random_tensors(CONFIG), ["model-1.safetensors", "model-2.safetensors"]
    )
    (tmp_path / "part" / "model-2.safetensors").unlink()
    hub.add("owner/half-of-it", tmp_path / "part")
    with pytest.raises(
        UserError, match=r"has no model-2\.safetensors, which its model\.safetensors\.index\.json names"
    ):
        load_checkpoint("owner/half-of-it")


def test_pytorch_model_bin_where_there_is_nothing_else(hub, tmp_path):
    folder = write_folder(tmp_path / "bin")
    (folder / "model.safetensors").unlink()
    write_torch(folder / "pytorch_model.bin", random_tensors(CONFIG, 3))
    hub.add(NAME, folder)
    assert_computes(load_checkpoint(NAME).backbone, CONFIG, random_tensors(CONFIG, 3))


def test_the_modules_of_sentence_transformers_decide_what_nobody_sets(hub, tmp_path):
    folder = write_folder(tmp_path / "sentences", random_tensors(CONFIG))
    kinds = {"Transformer": "", "Pooling": "1_Pooling"}
    (folder / "modules.json").write_text(
        json.dumps([{"type": f"a.{kind}", "path": path} for kind, path in kinds.items()])
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 9}))
    commit = hub.add(NAME, folder)
    settled = settle(config_of(backbone=NAME, revision=commit), tmp_path / "run")
    assert (settled.model.pooling, settled.text.sequence_length) == ("first", 9)
    assert "model.safetensors" not in hub.fetched()
    assert load_checkpoint(NAME, revision=commit).left_out == ("modules.json (Pooling)",)


def without_network(hub, monkeypatch, reason):
    from huggingface_hub import constants

    if reason == "no server":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            set_endpoint(monkeypatch, f"http://127.0.0.1:{free.getsockname()[1]}")
    elif reason == "out of order":
        hub.status = 503
    else:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("reason", ["no server", "out of order", "offline"])
@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin", "shards"])
def test_a_cache_that_another_program_has_filled_is_enough(hub, tmp_path, monkeypatch, capsys, weights, reason):
    """Only the files of the repository are there, with no note of which others it lacks."""
    tensors = random_tensors(CONFIG, 4)
    folder = write_folder(tmp_path / "whole", tensors, {"do_lower_case": True})
    if weights == "shards":
        shard_weights(folder, tensors, ["model-1.safetensors", "model-2.safetensors"])
    elif weights == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
        write_torch(folder / weights, tensors)
    commit = hub.add(NAME, folder)
    for file in folder.iterdir():
        model_hub._download(HubModel(NAME), file.name)
    without_network(hub, monkeypatch, reason)
    hub.asked.clear()
    settled = settle(config_of(backbone=NAME, revision=commit), tmp_path / "run")
    assert settled.model.pooling == "fresh"
    loaded = load_checkpoint(NAME)
    assert_computes(loaded.backbone, CONFIG, tensors)
    assert loaded.lowercase is True
    # Each command asks a hub that is out of order once or twice, not for each file.
    assert len(hub.asked) <= 10
    said = capsys.readouterr().err
    assert "not asked" in said and "tokenizer.json" in said


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "model-2.safetensors", "every tokenizer"])
def test_half_a_cache_is_not_taken_for_a_whole_one_without_network(hub, tmp_path, monkeypatch, missing):
    folder = write_folder(tmp_path / "whole", random_tensors(CONFIG))
    if missing == "model-2.safetensors":
        shard_weights(folder, random_tensors(CONFIG), ["model-1.safetensors", "model-2.safetensors"])
    commit = hub.add(NAME, folder)
    for file in folder.iterdir():
        if file.name != ("vocab.txt" if missing == "every tokenizer" else missing):
            model_hub._download(HubModel(NAME, commit), file.name)
    without_network(hub, monkeypatch, "offline")
    with pytest.raises(UserError, match=r"cannot be asked \(.+\): run `hf download"):
        load_checkpoint(NAME, revision=commit)


def test_a_private_one_needs_the_token(hub, tmp_path, monkeypatch):
    commit_of(tmp_path, hub)
    hub.token = "secret"
    with pytest.raises(UserError, match="set HF_TOKEN"):
        resolve(HubModel(NAME))
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert_computes(load_checkpoint(NAME).backbone, CONFIG, random_tensors(CONFIG))


@pytest.mark.parametrize("reason", ["no server", "out of order", "offline"])
def test_without_network(hub, tmp_path, monkeypatch, capsys, reason):
    commit = commit_of(tmp_path, hub)
    commit_of(tmp_path, hub, name="owner/other-bert")
    fetch(HubModel(NAME))
    without_network(hub, monkeypatch, reason)
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        load_checkpoint("owner/other-bert")
    told = (
        r"cannot be asked \(.+\): run `hf download owner/other-bert --local-dir FOLDER` .* --model\.backbone FOLDER\."
    )
    assert re.search(told, str(caught.value)) and "\n" not in str(caught.value)
    assert time.monotonic() - started < 5
    # What was fetched before is still there.
    assert_computes(load_checkpoint(NAME).backbone, CONFIG, random_tensors(CONFIG))
    assert "warning: the Hugging Face Hub was not asked" in capsys.readouterr().err
    assert pin(config_of(backbone=NAME), tmp_path / "run").model.revision == commit
    # With its commit known, nothing needs to be asked.
    capsys.readouterr()
    load_checkpoint(NAME, revision=commit)
    assert capsys.readouterr().err == ""


def test_convert_and_vocabulary_take_a_name(hub, tmp_path, capsys):
    commit_of(tmp_path, hub)
    assert convert([NAME, str(tmp_path / "out")]) == 0
    assert_computes(load_checkpoint(str(tmp_path / "out")).backbone, CONFIG, random_tensors(CONFIG))
    hub.asked.clear()
    commit_of(tmp_path, hub, name="owner/words-only")
    (tmp_path / "text.txt").write_text("a b c d e\n")
    for own in ("owner/words-only", str(tmp_path / "out"), str(tmp_path / "out" / "vocab.txt")):
        assert vocabulary(["coverage", "--vocabulary", own, "--source", str(tmp_path / "text.txt")]) == 0
    assert "model.safetensors" not in hub.fetched()
    assert vocabulary(["coverage", "--vocabulary", "no-such.txt", "--source", str(tmp_path / "text.txt")]) == 2
    assert "no-such.txt" in capsys.readouterr().err


def test_the_settings_of_the_library_are_read(hub, tmp_path):
    commit = commit_of(tmp_path, hub)
    code = (
        "import sys; from pipeline.model_hub import HubModel, fetch; print(fetch(HubModel(sys.argv[1])));"
        "assert 'tensorflow' not in sys.modules"
    )
    settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}

    def ask(**more):
        return subprocess.run(
            [sys.executable, "-c", code, NAME], env=os.environ | settings | more, capture_output=True, text=True
        )

    first = ask()
    assert first.returncode == 0, first.stderr
    assert Path(first.stdout.strip()) == tmp_path / "home/hub/models--some-owner--bert-tiny/snapshots" / commit
    hub.asked.clear()
    assert ask(HF_HUB_OFFLINE="1").stdout == first.stdout
    assert hub.asked == []


def test_a_whole_run(hub, tmp_path, capsys):
    """Recorded, resumed from the record after the hub has moved, and refused where another commit is asked for."""
    assert WORDS[: len(SPECIAL)] == SPECIAL
    sizes = CONFIG | {"vocab_size": len(WORDS), "max_position_embeddings": 32}

    def add(seed):
        folder = write_folder(tmp_path / f"words-{seed}", random_tensors(sizes, seed), {"do_lower_case": True}, **sizes)
        (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
        return hub.add(NAME, folder)

    first = add(1)
    config = write_config(
        tmp_path / "work",
        rows=90,
        text={"vocabulary": None},
        model={"backbone": NAME, "num_layers": 1},
        training={"epochs": 1},
    )
    given = ["--config", str(config), "--run_dir", str(tmp_path / "run")]
    assert run([*given, "--export.enabled", "false"]) == 0
    stored = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert stored["model"]["revision"] == first and stored["model"]["backbone"] == NAME
    scores = json.loads((tmp_path / "run/metrics.json").read_text())["test"]
    second = add(2)
    assert run([*given, "--export.enabled", "false"]) == 0
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["model"]["revision"] == first
    again = json.loads((tmp_path / "run/metrics.json").read_text())["test"]
    assert again["accuracy"] == scores["accuracy"] and np.isclose(again["loss"], scores["loss"])
    capsys.readouterr()
    assert run([*given, "--model.revision", second]) == 2
    assert f"model.revision: {first} -> {second}" in capsys.readouterr().err
