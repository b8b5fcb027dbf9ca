"""Packages that only some of the commands need: extras of this project, named where one is missing."""

import importlib
from types import ModuleType

from pipeline.errors import UserError


def require(extra: str, module: str) -> ModuleType:
    """Import a module that one of the extras in pyproject.toml brings.

    Args:
        extra: its name there.
        module: dotted name.

    Raises:
        UserError: the module, or one that it imports, is not installed; or what is installed is of a version that
            cannot be imported here.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = getattr(error, "name", None) or module
        reason = f"{missing} is not installed" if isinstance(error, ModuleNotFoundError) else str(error)
        reason = reason.partition("\n")[0].rstrip(".")
        raise UserError(f"this needs the extra {extra} ({reason}): pip install 'bert-pipeline[{extra}]'.") from error
