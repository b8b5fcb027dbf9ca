"""Folders of exported models: which version a path means, and what it says of itself. No TensorFlow."""

import json
from pathlib import Path

METADATA = Path("assets.extra") / "metadata.json"


class ModelError(ValueError):
    """A model folder or a request that cannot be used; the message says why."""


def versions_in(folder: Path) -> list[Path]:
    """The SavedModels among the numbered folders of a directory, the oldest first; none where it is missing."""
    found = (child for child in folder.glob("*") if child.name.isdigit() and (child / "saved_model.pb").is_file())
    return sorted(found, key=lambda child: int(child.name))


def find_version(path: str | Path) -> Path:
    """The SavedModel folder that a path means: itself, its newest version, or the newest of a run directory.

    Raises:
        ModelError: there is none.
    """
    path = Path(path)
    if (path / "saved_model.pb").is_file():
        return path
    for folder in (path / "saved_model", path):
        versions = versions_in(folder)
        if versions:
            return versions[-1]
    if not path.exists():
        raise ModelError(f"{path}: no such folder.")
    raise ModelError(f"{path} holds no exported model: give a run directory, a directory of versions, or one version.")


def read_metadata(folder: Path) -> dict:
    """What the export wrote about itself.

    Raises:
        ModelError: it is not there, or cannot be read.
    """
    try:
        return json.loads((folder / METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{METADATA} cannot be read: {error}") from error
