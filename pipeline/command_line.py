"""From the command line and config files to a checked Config, before TensorFlow is imported.

A config file holds only what differs from the defaults; the command line overrides the files (``--training.epochs 5``).
Whatever is wrong is one sentence that names the file, the key and the value.
"""

import copy
import difflib
import sys
from pathlib import Path
from typing import Any

from pipeline.config import Config, to_yaml
from pipeline.config_check import check
from pipeline.errors import UserError
from pipeline.settings.help import help_of
from pipeline.settings.read import build, is_section, keys_of, types_of, unknown_key
from pipeline.settings.text import read_file, read_word

RECIPES = Path(__file__).parent / "configs"
DEFAULT_RECIPE = "quickstart"
USAGE = f"""usage: python -m pipeline.run [--config NAME_OR_FILE] [--print_config] [--section.key VALUE ...]

Take BERT from raw text to a served classifier.

  --config NAME_OR_FILE
      A recipe's name or a YAML file (default: {DEFAULT_RECIPE}; none for --stage pretrain, which is to begin with what
      it is given); given again, the later file overrides the earlier one.
  --print_config
      Print all settings as YAML, which is a config file too, and do nothing.
  --help, --section.help
      Print this, or the settings of one section.

VALUE is taken literally where a string is expected; null is none where there may be none; lists are [a, b], and a
single value is a list of one. --section.key=VALUE is the same.
"""


def parse(arguments: list[str] | None = None) -> Config:
    """Read config files (later ones override earlier ones) and the command line, which overrides them all.

    Args:
        arguments: the command line without the program; None: ``sys.argv[1:]``.

    Returns:
        A checked config whose `run_dir` is set.

    Raises:
        UserError: an unknown key, a wrong value or an impossible combination of settings.
        SystemExit: after --help or --print_config.
    """
    names, overrides, printing = _split(list(sys.argv[1:] if arguments is None else arguments))
    # The quickstart is a checkpoint and data to fine-tune it with.
    default = [] if dict(overrides).get("stage") == "pretrain" else [DEFAULT_RECIPE]
    paths = [find_config(name) for name in names or default]
    values: dict[str, Any] = {}
    for path in paths:
        _merge(values, read_file(Config, path))
    for key, word in overrides:
        _merge(values, _override(key, word))
    config = build(Config, values)
    if printing:
        check(config)
        print(to_yaml(config), end="")
        raise SystemExit(0)
    config.run_dir = config.run_dir or str(Path("runs") / (paths[-1].stem if paths else config.stage))
    check(config)
    return config


def read_config(name_or_path: str | Path) -> Config:
    """A recipe or config file as a Config to be changed in Python; `pipeline.train` checks it.

    Args:
        name_or_path: as of `--config`.

    Returns:
        A config whose `run_dir` is runs/<name of the file>.

    Raises:
        UserError: no such file or recipe, an unknown key, or a value of a wrong type.
    """
    path = find_config(str(name_or_path))
    config = build(Config, read_file(Config, path))
    config.run_dir = config.run_dir or str(Path("runs") / path.stem)
    return config


def checked(config: Config) -> Config:
    """A config made in Python, checked as a command line is; paths in it may be pathlib's.

    Returns:
        A copy with the types that the fields say.

    Raises:
        UserError: a value of a wrong type, an impossible combination of settings, or no run_dir.
    """
    config = copy.deepcopy(config)
    if not config.run_dir:
        raise UserError("run_dir is not set: name the folder of the run, as Config(run_dir='runs/reviews').")
    check(config)
    return config


def find_config(name_or_path: str) -> Path:
    """The file of a config given by path or by the name of a shipped recipe."""
    for path in (Path(name_or_path), RECIPES / f"{name_or_path}.yaml"):
        if path.is_file():
            return path
    names = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    near = difflib.get_close_matches(name_or_path, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"the recipes are {', '.join(names)}."
    raise UserError(f"--config {name_or_path}: no such file, and no such recipe; {hint}")


def _split(words: list[str]) -> tuple[list[str], list[tuple[str, str]], bool]:
    """Names of config files, (key, value) of every other option in order, and whether to print the config."""
    names, overrides, printing = [], [], False
    while words:
        word = words.pop(0)
        key, equals, value = word.removeprefix("--").partition("=")
        if word in ("-h", "--help") or word.endswith(".help"):
            _print_help(key)
        if word == "--print_config":
            printing = True
            continue
        if not word.startswith("--") or not key:
            raise _no_option(word)
        if key != "config":
            _type_of(key)
        if not equals:
            if not words or (words[0].startswith("--") and words[0] != "--"):
                raise UserError(f"--{key} needs a value: --{key} VALUE, or --{key}=VALUE where it begins with --.")
            value = words.pop(0)
        if key == "config":
            names.append(value)
        else:
            overrides.append((key, value))
    return names, overrides, printing


def _print_help(key: str) -> None:
    section = types_of(Config).get(key.removesuffix(".help"))
    if is_section(section):
        print(help_of(section, f"{key.removesuffix('.help')}."), end="")
    elif key in ("-h", "help"):
        print(f"{USAGE}\n{help_of(Config)}", end="")
    else:
        raise unknown_key(key.removesuffix(".help"), Config)
    raise SystemExit(0)


def _no_option(word: str) -> UserError:
    name = word.lstrip("-").partition("=")[0]
    if name in keys_of(Config) or name == "config":
        return UserError(f"{word}: options begin with two hyphens: --{name}.")
    hint = f"; did you mean --config {word}?" if (RECIPES / f"{word}.yaml").is_file() or Path(word).is_file() else "."
    return UserError(f"{word} stands alone: settings are given as --section.key VALUE{hint}")


def _type_of(key: str) -> Any:
    kind, prefix = Config, "--"
    for name in key.split("."):
        if name not in types_of(kind):
            raise unknown_key(f"--{key}", kind, prefix, keys_of(Config, "--"))
        found = types_of(kind)[name]
        kind, prefix = found if is_section(found) else Config, f"{prefix}{name}."
    return found


def _override(key: str, word: str) -> dict[str, Any]:
    """What one option sets, nested as a file would have it."""
    value = read_word(_type_of(key), word, key)
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def _merge(into: dict[str, Any], later: dict[str, Any]) -> None:
    """Put later settings over earlier ones, section by section."""
    for name, value in later.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value
