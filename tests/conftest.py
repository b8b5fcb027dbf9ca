"""Shared fixtures."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def pytest_configure(config):
    """Two CPU devices for the tests of MirroredStrategy; TensorFlow takes this only before it is first used."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(scope="session")
def shared() -> Path:
    """A folder with reference tokenization (golden/) and real data (data/), where there is one."""
    folder = Path(os.environ.get("BERT_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip("no shared reference data (set BERT_SHARED)")
    return folder
