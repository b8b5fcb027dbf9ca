"""When XLA compiles, and where its programs are kept."""

import os

import pytest

from pipeline.training.xla import UPDATES, choose_xla, keep_programs

H100 = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 41\n"


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Makes the folder where the driver names GPUs; the cache is in tmp_path too."""
    monkeypatch.setenv("BERT_PIPELINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TF_XLA_FLAGS", "")

    def make(*gpus):
        for number, text in enumerate(gpus):
            (tmp_path / "gpus" / str(number)).mkdir(parents=True)
            (tmp_path / "gpus" / str(number) / "information").write_text(text)
        return tmp_path / "gpus"

    return make


def test_programs_are_kept_by_tensorflow_and_gpu(driver, tmp_path):
    folder = keep_programs(driver(H100, H100))
    assert folder.parent == tmp_path / "cache" / "xla"
    assert folder.name.endswith("-NVIDIA-H100-80GB-HBM3")
    assert os.environ["TF_XLA_FLAGS"] == f"--tf_xla_persistent_cache_directory={folder}"


def test_nothing_is_kept_without_a_gpu_or_for_two_kinds(driver, tmp_path):
    assert keep_programs(tmp_path / "none") is None
    assert keep_programs(driver(H100, "Model: NVIDIA A100\n")) is None
    assert os.environ["TF_XLA_FLAGS"] == ""


def test_a_folder_that_the_user_names_stays(driver, monkeypatch):
    given = "--tf_xla_persistent_cache_directory=/mine"
    monkeypatch.setenv("TF_XLA_FLAGS", given)
    assert keep_programs(driver(H100)) is None
    assert os.environ["TF_XLA_FLAGS"] == given


@pytest.mark.parametrize("gpus", [[], ["GPU:0"]])
def test_auto_takes_long_trainings_on_gpus(gpus, monkeypatch):
    monkeypatch.setattr("tensorflow.config.list_logical_devices", lambda kind: gpus)
    assert not choose_xla("auto", UPDATES - 1)
    assert choose_xla("auto", UPDATES) == bool(gpus)
    assert choose_xla(True, 1)
    assert not choose_xla(False, UPDATES)
