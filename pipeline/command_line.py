"""From the command line and config files to a checked Config, before TensorFlow is imported.

A config file holds only what differs from the defaults; the command line overrides the file (``--training.epochs 5``).
Unknown keys and wrong types are refused by jsonargparse, impossible combinations by `check`.
"""

import dataclasses
import sys
from pathlib import Path

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from pipeline.config import Config, PhaseConfig
from pipeline.config_check import check
from pipeline.errors import UserError

RECIPES = Path(__file__).parent / "configs"
DEFAULT_RECIPE = "quickstart"


def parse(arguments: list[str] | None = None) -> Config:
    """Read the command line and config files (later ones override earlier ones).

    Args:
        arguments: the command line without the program; None: ``sys.argv[1:]``.

    Returns:
        A checked config whose `run_dir` is set.

    Raises:
        UserError: an impossible combination of settings.
        SystemExit: --help, --print_config, an unknown key or a wrong type.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    given = [i for i, word in enumerate(arguments) if word.split("=")[0] == "--config"]
    if not given:
        arguments = ["--config", DEFAULT_RECIPE, *arguments]
        given = [0]
    name = DEFAULT_RECIPE
    for i in given:
        value = arguments[i].partition("=")[2] if "=" in arguments[i] else arguments[i + 1 : i + 2][0]
        path = find_config(value)
        name = path.stem
        if "=" in arguments[i]:
            arguments[i] = f"--config={path}"
        else:
            arguments[i + 1] = str(path)
    parsed = _parser().parse_args(arguments)
    parsed.pop("config", None)
    config = _from_namespace(Config, parsed)
    config.run_dir = config.run_dir or str(Path("runs") / name)
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
    config = _typed(lambda parser: parser.parse_args(["--config", str(path)]), str(path))
    config.run_dir = config.run_dir or str(Path("runs") / path.stem)
    return config


def checked(config: Config) -> Config:
    """A config made in Python, checked as a command line is; paths in it may be pathlib's.

    Returns:
        A copy with the types that the fields say.

    Raises:
        UserError: a value of a wrong type, an impossible combination of settings, or no run_dir.
    """
    values = _plain(dataclasses.asdict(config))
    config = _typed(lambda parser: parser.parse_object(values), "config")
    if not config.run_dir:
        raise UserError("run_dir is not set: name the folder of the run, as Config(run_dir='runs/reviews').")
    check(config)
    return config


def _typed(parse_with, source: str) -> Config:
    parser = _parser()
    parser.exit_on_error = False
    try:
        parsed = parse_with(parser)
    except ArgumentError as error:
        raise UserError(f"{source}: {' '.join(str(error).split())}") from error
    parsed.pop("config", None)
    return _from_namespace(Config, parsed)


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def find_config(name_or_path: str) -> Path:
    """The file of a config given by path or by the name of a shipped recipe."""
    for path in (Path(name_or_path), RECIPES / f"{name_or_path}.yaml"):
        if path.is_file():
            return path
    names = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
    raise UserError(f"--config {name_or_path}: no such file, and no such recipe; the recipes are {names}.")


def _parser() -> ArgumentParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(
        prog="python -m pipeline.run",
        # argparse takes --training.epoch for --training.epochs otherwise: a misspelt key must be an error.
        allow_abbrev=False,
        description="Take BERT from raw text to a served classifier.",
    )
    parser.add_argument("--config", action="config", help="A recipe's name or a YAML file (default: quickstart).")
    parser.add_class_arguments(Config)
    return parser


def _from_namespace(kind, values: Namespace):
    arguments = {}
    for item in dataclasses.fields(kind):
        value = values[item.name]
        if isinstance(value, Namespace):
            value = _from_namespace(item.type, value)
        elif item.name == "phases":
            value = [_from_namespace(PhaseConfig, phase) for phase in value]
        arguments[item.name] = value
    return kind(**arguments)
