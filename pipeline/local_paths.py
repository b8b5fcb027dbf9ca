"""Settings that name files of this machine: the same file by any spelling, wherever a run is taken up from."""

import copy
import dataclasses
import glob
import os
from pathlib import Path

from pipeline import remote
from pipeline.config import Config
from pipeline.errors import UserError

SETTINGS = (
    ("data", "train"),
    ("data", "validation"),
    ("data", "test"),
    ("data", "unlabelled"),
    ("data", "data_dir"),
    ("corpus", "train"),
    ("corpus", "validation"),
    ("corpus", "data_dir"),
    ("text", "vocabulary"),
    ("model", "backbone"),
    ("distillation", "teacher"),
)


def absolute(config: Config) -> Config:
    """The config with the absolute paths of the local files and folders that it names, and of run_dir.

    What is no file here (tfds:, wheel:, the name of a preset, an address) stays as it is.
    """
    config = copy.deepcopy(config)
    for section, key in SETTINGS:
        value = getattr(getattr(config, section), key)
        found = [os.path.abspath(os.path.expanduser(item)) if is_here(item) else item for item in items(value)]
        setattr(getattr(config, section), key, found if isinstance(value, list) else next(iter(found), value))
    return dataclasses.replace(config, run_dir=config.run_dir and os.path.abspath(config.run_dir))


def local_files(config: Config) -> dict[str, set[Path]]:
    """The files of this machine that a config names, alone, by a glob or by their folder, by what names them; absolute.
    None for what is not found, or is no file here."""
    found: dict[str, set[Path]] = {}
    for section, key in SETTINGS:
        for item in items(getattr(getattr(config, section), key)):
            files = found.setdefault(item, set())
            place = os.path.expanduser(item)
            for path in map(Path, [place] if os.path.exists(place) else glob.glob(place, recursive=True)):
                inner = path.rglob("*") if path.is_dir() else [path]
                files |= {one.absolute() for one in inner if one.is_file()}
    return found


def remote_files(config: Config) -> dict[str, str]:
    """The addresses of files that hold rows or text, with what tells whether they have changed; of those that cannot be
    asked for, which a run that has stored its rows does not need, the sentence that says so."""
    found = {}
    for section, key in SETTINGS:
        if section in ("data", "corpus"):
            for item in filter(remote.is_remote, items(getattr(getattr(config, section), key))):
                try:
                    found |= {address: remote.state_of(address)[1] for address in remote.matches(item)}
                except UserError as error:
                    found[item] = str(error)
    return found


def reconcile(old: dict, config: Config) -> tuple[dict, Config]:
    """Give files and folders one spelling where a stored config and the present one mean the same.

    Args:
        old: the stored config, which `absolute` has made.
        config: of a run that is taken up, perhaps from another folder, or with files that have moved.

    Returns:
        Both, changed: a path that is not found from here is the stored one, and the stored path of a file that has
        moved is the present one.
    """
    old, config = copy.deepcopy(old), copy.deepcopy(config)
    for section, key in SETTINGS:
        before, now = (old.get(section) or {}).get(key), getattr(getattr(config, section), key)
        if before is None or now is None or len(items(before)) != len(items(now)):
            continue
        pairs = zip(items(before), items(now), strict=True)
        chosen = [_chosen(stored, given) for stored, given in pairs]
        if None not in chosen:
            value = chosen if isinstance(now, list) else chosen[0]
            old[section][key] = value
            setattr(getattr(config, section), key, value)
    return old, config


def _chosen(stored: str, given: str) -> str | None:
    """The path to go on with; None where the two do not mean the same."""
    if stored == given or _same_file(stored, given):
        return given
    if not os.path.isabs(stored) or Path(stored).name != Path(given).name:
        return None
    if not is_here(stored):
        # It has moved, or is gone from both places.
        return given if is_here(given) else stored
    parts = Path(given).parts
    from_elsewhere = not os.path.isabs(given) and Path(stored).parts[-len(parts) :] == parts
    return stored if from_elsewhere and not is_here(given) else None


def _same_file(stored: str, given: str) -> bool:
    if os.path.isabs(stored) and stored == os.path.abspath(os.path.expanduser(given)):
        return True
    return os.path.exists(stored) and os.path.exists(given) and os.path.samefile(stored, given)


def is_here(item: str) -> bool:
    """Whether a setting's item is a file or a folder of this machine, or a pattern that some match."""
    return os.path.exists(os.path.expanduser(item)) or bool(glob.glob(item, recursive=True))


def items(value: str | list[str] | None) -> list[str]:
    """What a setting names, perhaps nothing."""
    return value if isinstance(value, list) else [value] if value else []
