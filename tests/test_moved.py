"""Runs taken up from another folder, and runs whose sources have moved, changed or vanished."""

import json
import shutil

import pytest
import yaml
from tiny import write_config

from pipeline.config import Config, DataConfig, ModelConfig, differences, to_yaml
from pipeline.data.load import load
from pipeline.errors import UserError
from pipeline.local_paths import absolute, reconcile
from pipeline.run import main
from pipeline.run_folder import held


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run, started in its own folder with relative paths."""
    folder = tmp_path_factory.mktemp("made") / "here"
    config = write_config(folder, rows=200, training={"epochs": 1})
    content = yaml.safe_load(config.read_text())
    content["data"]["train"], content["text"]["vocabulary"] = "train.csv", "vocab.txt"
    shutil.copy(folder / "train.csv", folder / "held_out.csv")
    content["data"]["test"] = ["held_out.csv"]
    config.write_text(yaml.safe_dump(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["--config", "tiny.yaml", "--run_dir", "run"]) == 0
    return folder


@pytest.fixture
def copied(made, tmp_path):
    """The same, as if it had been made in a folder of this test."""
    folder = shutil.copytree(made, tmp_path / "here")
    stored = folder / "run" / "config.yaml"
    stored.write_text(stored.read_text().replace(str(made), str(folder)))
    return folder


def again(folder, *arguments):
    """Take the run up with these arguments; where that is not refused, it must score as before."""
    run_dir = folder / "run"
    before = json.loads((run_dir / "metrics.json").read_text())["test"]
    status = main([*arguments, "--run_dir", str(run_dir)])
    assert status or json.loads((run_dir / "metrics.json").read_text())["test"] == before
    return status


def versions(folder):
    return sorted(path.name for path in (folder / "run" / "saved_model").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("config", ["../here/tiny.yaml", "../here/run/config.yaml"])
def test_a_run_is_exported_again_from_another_folder(copied, tmp_path, monkeypatch, capsys, config):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert again(copied, "--config", config) == 0
    output = capsys.readouterr().out
    assert "training is already complete" in output and "cannot be found" not in output
    assert versions(copied) == ["1", "2"]


def test_the_stored_config_of_a_run_names_its_files_from_anywhere(made):
    stored = yaml.safe_load((made / "run" / "config.yaml").read_text())
    assert stored["data"]["train"] == str(made / "train.csv")
    assert stored["data"]["test"] == [str(made / "held_out.csv")]
    assert stored["text"]["vocabulary"] == str(made / "vocab.txt")
    assert stored["run_dir"] == str(made / "run")


@pytest.mark.slow
def test_sources_that_have_moved_are_held_to_the_rows_of_the_run(copied, tmp_path, monkeypatch, capsys):
    moved = tmp_path / "there"
    moved.mkdir()
    (copied / "train.csv").rename(moved / "train.csv")
    monkeypatch.chdir(copied)
    arguments = ["--config", "tiny.yaml", "--data.train", str(moved / "train.csv")]
    assert again(copied, *arguments) == 0
    assert "cannot be found" not in capsys.readouterr().out
    assert yaml.safe_load((copied / "run" / "config.yaml").read_text())["data"]["train"] == str(moved / "train.csv")
    content = (moved / "train.csv").read_text()
    (moved / "train.csv").write_text(content + "one more goal,sport\n")
    assert again(copied, *arguments) == 2
    error = capsys.readouterr().err
    assert "the data changed since this run began (200 train rows then, 201 now)" in error
    # The rows of the run are still there, should the file that has changed be taken away.
    (moved / "train.csv").unlink()
    assert again(copied, *arguments) == 0
    assert versions(copied) == ["1", "2", "3"]


@pytest.mark.slow
def test_sources_that_have_vanished_are_one_note(copied, monkeypatch, capsys):
    (copied / "train.csv").unlink()
    (copied / "held_out.csv").unlink()
    monkeypatch.chdir(copied)
    assert again(copied, "--config", "tiny.yaml") == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if "cannot be found" in line]
    assert len(notes) == 1 and notes[0].startswith("note: data.train (") and " and data.test (" in notes[0]
    assert versions(copied) == ["1", "2"]


def test_a_run_that_has_moved_with_its_sources_goes_on(copied, tmp_path, monkeypatch):
    moved = copied.rename(tmp_path / "there")
    monkeypatch.chdir(moved)
    assert again(moved, "--config", "tiny.yaml") == 0
    assert yaml.safe_load((moved / "run" / "config.yaml").read_text())["data"]["train"] == str(moved / "train.csv")


def test_another_file_of_the_same_relative_name_is_refused(copied, tmp_path, monkeypatch, capsys):
    other = tmp_path / "elsewhere"
    write_config(other, rows=100)
    monkeypatch.chdir(other)
    before = (copied / "run" / "config.yaml").read_text()
    assert again(copied, "--config", str(copied / "tiny.yaml")) == 2
    assert "data.train" in capsys.readouterr().err
    assert (copied / "run" / "config.yaml").read_text() == before


def test_a_run_that_could_not_read_its_rows_takes_the_setting_that_its_error_names(tmp_path, capsys):
    config = write_config(tmp_path, rows=60, training={"epochs": 1})
    source = tmp_path / "train.csv"
    source.write_text(source.read_text().replace(",", ";"))
    words = ["--config", str(config), "--run_dir", str(tmp_path / "run")]
    assert main(words) == 2 and "set data.delimiter" in capsys.readouterr().err
    words += ["--data.delimiter", ";"]
    assert main([*words, "--data.label_column", "subject"]) == 2
    assert "no column 'subject'" in capsys.readouterr().err
    assert main([*words, "--data.label_column", "label", "--data.max_examples", "1"]) == 2
    assert "holds a run" not in capsys.readouterr().err


def settings(tmp_path, source, **model):
    data = DataConfig(train=str(source), validation_fraction=0, test_fraction=0)
    return Config(data=data, model=ModelConfig(**model), run_dir=str(tmp_path / "run"))


def test_what_was_decided_or_stored_for_other_settings_is_forgotten(tmp_path):
    source = tmp_path / "rows.csv"
    source.write_text("text,label\nx,a\ny,b\n")
    with held(settings(tmp_path, source, backbone=str(tmp_path), pooling="mean")) as (config, _):
        load(config.data, tmp_path / "run" / "data")
    gone = settings(tmp_path, tmp_path / "another.csv", backbone="elsewhere")
    with held(gone) as (config, _):
        assert config.model.pooled_by != "mean"
        with pytest.raises(UserError, match=r"another\.csv: no such file"):
            load(config.data, tmp_path / "run" / "data")
    (tmp_path / "run" / "method.json").write_text("{}")
    with pytest.raises(UserError, match="holds a run with other settings"), held(settings(tmp_path, source)):
        pass


def test_a_run_without_stored_rows_needs_its_source(tmp_path):
    source = tmp_path / "rows.csv"
    source.write_text("text,label\nx,a\ny,b\n")
    config = DataConfig(train=str(source), validation_fraction=0, test_fraction=0)
    fingerprint = load(config, tmp_path / "cache").fingerprint
    source.unlink()
    assert load(config, tmp_path / "cache").fingerprint == fingerprint
    # Rows that were read with other settings are other rows.
    config.max_examples = 1
    with pytest.raises(UserError, match=r"rows\.csv: no such file"):
        load(config, tmp_path / "cache")
    with pytest.raises(UserError, match=r"rows\.csv: no such file"):
        load(config, tmp_path / "other")


def with_vectors(folder, *sizes):
    """The config and cache of rows with vectors, train and validation, whose manifest is from before sizes were kept,
    and whose sources are gone."""
    paths = [folder / f"{name}.csv" for name in ("train", "validation")]
    for path, size in zip(paths, sizes, strict=True):
        path.write_text("text,label,v\n" + "".join(f"row {i},{'ab'[i % 2]},{'1 ' * size}\n" for i in range(4)))
    config = DataConfig(*map(str, paths), test_fraction=0, vector_columns=["v"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.features.columns._READERS", {"vector": lambda _, cell: cell.strip()})
        load(config, folder / "cache")
    manifest = folder / "cache" / "manifest.json"
    entries = json.loads(manifest.read_text())
    for entry in entries.values():
        del entry["settings"]["sizes"]
        meta = folder / "cache" / entry["store"] / "meta.json"
        about = json.loads(meta.read_text())
        del about["sizes"]
        meta.write_text(json.dumps(about))
    manifest.write_text(json.dumps(entries))
    for path in paths:
        path.unlink()
    return config, folder / "cache"


def test_a_run_of_before_vectors_were_counted_goes_on_without_its_source(tmp_path):
    config, cache = with_vectors(tmp_path, 3, 3)
    for _ in range(2):
        found = load(config, cache, begun=True)
        assert [len(split) for split in found.splits] == [4, 4] and found.features.sizes == {"v": 3}
    # Settings that decide more than sizes are still other settings.
    config.vector_columns = ["w"]
    with pytest.raises(UserError, match=r"train\.csv: no such file"):
        load(config, cache, begun=True)


def test_vectors_of_several_sizes_from_before_they_were_counted_do_not_count(tmp_path):
    config, cache = with_vectors(tmp_path, 3, 2)
    with pytest.raises(UserError, match=r"validation\.csv: no such file"):
        load(config, cache, begun=True)


def test_changed_rows_are_read_anew_before_a_model_has_seen_them(tmp_path):
    source = tmp_path / "rows.csv"
    config = DataConfig(train=str(source), validation_fraction=0, test_fraction=0)
    for rows in (2, 3):
        source.write_text("text,label\n" + "".join(f"{i},{i}\n" for i in range(rows)))
        assert len(load(config, tmp_path / "cache").train) == rows
    source.unlink()
    assert len(load(config, tmp_path / "cache", begun=True).train) == 3


def test_names_that_are_no_files_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config(data=DataConfig(train=["tfds:imdb", "wheel:a==1/b", "not_there.csv"]), run_dir=None)
    config.model = ModelConfig(backbone="bert_tiny_en_uncased")
    assert absolute(config) == config
    (tmp_path / "shard-1.csv").touch()
    config.data.train = "shard-*.csv"
    assert absolute(config).data.train == str(tmp_path / "shard-*.csv")


def test_spellings_of_one_file_are_no_difference_and_other_files_are(tmp_path, monkeypatch):
    for folder in ("a", "b"):
        (tmp_path / folder / "bert").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a")

    def changed(stored, given):
        old = yaml.safe_load(to_yaml(Config(model=ModelConfig(backbone=stored))))
        return differences(*reconcile(old, Config(model=ModelConfig(backbone=given))))

    stored = str(tmp_path / "a" / "bert")
    monkeypatch.chdir(tmp_path / "a")
    for given in ("bert", "./bert", "../a/bert", stored, str(tmp_path / "link" / "bert")):
        assert changed(stored, given) == []
    monkeypatch.chdir(tmp_path / "b" / "bert")
    assert changed(stored, "bert") == []  # not here: the run's own
    assert changed(stored, "no_bert") != []
    assert changed(stored, "../bert") != []  # another folder of that name
    assert changed(stored, None) != [] and changed(None, stored) != []
    (tmp_path / "a" / "bert").rmdir()
    assert changed(stored, "../bert") == []  # moved
