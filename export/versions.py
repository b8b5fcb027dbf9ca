"""Folders of exported models: which version a path means, and what it says of itself. No TensorFlow."""

import json
import os
import re
from pathlib import Path

METADATA = Path("assets.extra") / "metadata.json"
HIGHEST = 2**63 - 1


class ModelError(ValueError):
    """A model folder or a request that cannot be used; the message says why."""


def version_number(folder: Path) -> int | None:
    """The version that a server takes a folder for: 1 for "1" and "0001"; None where it ignores it.

    The folder's own name decides, also where it is a symbolic link.
    """
    # "." has no name of its own; resolving it would follow links.
    name = Path(os.path.abspath(folder)).name
    return int(name) if re.fullmatch("0*[0-9]{1,19}", name) and int(name) <= HIGHEST else None


def versions_in(folder: Path) -> list[Path]:
    """The SavedModels among a directory's folders, or links to folders, that are numbered as a server takes it.

    The oldest first; none where the directory is missing.
    """
    found = [(version_number(child), child) for child in folder.glob("*") if (child / "saved_model.pb").is_file()]
    return [child for _, child in sorted((number, child) for number, child in found if number is not None)]


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
    ignored = sorted({*path.glob("[0-9]*/saved_model.pb"), *path.glob("saved_model/[0-9]*/saved_model.pb")})
    if ignored:
        name = ignored[0].parent.name
        raise ModelError(f"{path} holds {name}, which servers ignore: a version is a number up to {HIGHEST}.")
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
