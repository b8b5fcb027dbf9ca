"""Shared fixtures."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.fixture(scope="session")
def shared() -> Path:
    """A folder with reference tokenization (golden/) and real data (data/), where there is one."""
    folder = Path(os.environ.get("BERT_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip("no shared reference data (set BERT_SHARED)")
    return folder
