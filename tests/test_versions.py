"""Which folders are versions, as a server sees them."""

from pathlib import Path

import pytest

from export.versions import HIGHEST, ModelError, find_version, version_number, versions_in


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    return folder


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("1", 1),
        ("0001", 1),
        ("0", 0),
        (str(HIGHEST), HIGHEST),
        ("000" + str(HIGHEST), HIGHEST),
        (str(HIGHEST + 1), None),
        ("9" * 20, None),
        # More digits than Python turns into a number.
        ("9" * 5000, None),
        ("1.0", None),
        ("-1", None),
        (" 1", None),
        ("²", None),
        ("١", None),
        (".new-1", None),
    ],
)
def test_version_number(name, number):
    assert version_number(Path("models") / name) == number


def test_versions_are_sorted_by_number_and_may_be_links_with_zeros_in_front(tmp_path):
    models = tmp_path / "run" / "saved_model"
    for name in ("0002", "10", "9" * 20, "best", "²"):
        make(models / name)
    (models / "11").mkdir()
    (models / "003").symlink_to(make(tmp_path / "store" / "today"))
    (models / "12").symlink_to(tmp_path / "nowhere")
    assert [version.name for version in versions_in(models)] == ["0002", "003", "10"]
    assert find_version(tmp_path / "run").name == "10"
    assert find_version(models / "003").name == "003"
    assert versions_in(tmp_path / "absent") == []


def test_the_folder_that_one_is_in_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(make(tmp_path / "7"))
    assert version_number(Path(".")) == 7


def test_a_number_that_servers_ignore_is_named(tmp_path):
    make(tmp_path / "saved_model" / str(HIGHEST + 1))
    with pytest.raises(
        ModelError, match=f"holds {HIGHEST + 1}, which servers ignore: a version is a number up to {HIGHEST}"
    ):
        find_version(tmp_path)
