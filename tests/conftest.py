"""Shared fixtures."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from pipeline import frozen_weights

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def pytest_configure(config):
    """Two CPU devices for the tests of MirroredStrategy; TensorFlow takes this only before it is first used."""
    if config.getoption("numprocesses") and not hasattr(config, "workerinput"):
        # This process only hands tests to others.
        return
    # Where the extra `bench` is there: torch imports triton, which ends a process that has TensorFlow's LLVM already.
    with contextlib.suppress(ImportError):
        import triton  # noqa: F401
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(autouse=True)
def float32():
    """Whatever numerics a test sets, the next begins with Keras' own; none may leave what spoils all training."""
    yield
    assert frozen_weights.NAME not in os.environ
    import keras

    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="session")
def shared() -> Path:
    """A folder with reference tokenization (golden/) and real data (data/), where there is one."""
    folder = Path(os.environ.get("BERT_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip("no shared reference data (set BERT_SHARED)")
    return folder


@pytest.fixture(scope="module")
def encoder():
    """A TextEncoder of letters.py's words, which files with others have in place of it."""
    from letters import VOCABULARY

    from pipeline.text import TextEncoder

    return TextEncoder(VOCABULARY, lowercase=True, sequence_length=24)


@pytest.fixture(scope="module")
def model():
    """Likewise, the classifier of letters.py."""
    from letters import make_model

    return make_model()


@pytest.fixture(scope="session")
def sound(tmp_path_factory) -> Path:
    """A version made by hand that breaks no rule of export.check."""
    from hand_made import HandMade, save

    return save(HandMade(), tmp_path_factory.mktemp("models") / "saved_model" / "1")


@pytest.fixture
def sound_copy(sound, tmp_path) -> Path:
    """One to be spoilt."""
    return Path(shutil.copytree(sound, tmp_path / "1"))
