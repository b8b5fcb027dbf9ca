"""Where in a checkpoint's folder the model's own files are. Imports no TensorFlow."""

import json
from pathlib import Path

from pipeline.errors import UserError

# Of sentence-transformers: what follows what, and the longest sequence.
MODULES, LENGTHS = "modules.json", "sentence_bert_config.json"


def checkpoint_folder(folder: Path) -> Path:
    """The folder that holds all of a checkpoint, of sentence-transformers' with its modules: the one given, or of a
    folder of the Hugging Face Hub's cache (models--owner--name) the snapshot that refs/main names, or the only one.

    Raises:
        UserError: several snapshots, and no main one.
    """
    return _snapshot(folder) if (folder / "snapshots").is_dir() else folder


def model_folder(folder: Path) -> Path:
    """The folder of config.json and weights: `checkpoint_folder`, or of sentence-transformers' that of its Transformer
    module (0_Transformer).

    Raises:
        UserError: as `checkpoint_folder`.
    """
    folder = checkpoint_folder(folder)
    for module in modules(folder):
        if module["type"] == "Transformer":
            return folder / module["path"]
    old = folder / "0_Transformer"
    return old if old.is_dir() and not (folder / "config.json").is_file() else folder


def modules(folder: Path) -> list[dict[str, str]]:
    """The modules of a sentence-transformers folder in their order, each its "type" and "path"; []: it is none.

    Args:
        folder: as `checkpoint_folder` gives it.
    """
    try:
        found = json.loads((folder / MODULES).read_text(encoding="utf-8"))
        return [{"type": str(item["type"]).rpartition(".")[2], "path": str(item["path"])} for item in found]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _snapshot(folder: Path) -> Path:
    snapshots = {path.name: path for path in sorted((folder / "snapshots").iterdir()) if path.is_dir()}
    main = folder / "refs" / "main"
    commit = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    if commit in snapshots:
        return snapshots[commit]
    if len(snapshots) != 1:
        raise UserError(f"{folder} has {len(snapshots)} snapshots, none of them refs/main's: name the folder of one.")
    return next(iter(snapshots.values()))
