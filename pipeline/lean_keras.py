"""Keras without what it imports for wrappers that no command uses, about a second of every start."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder

# Keras does without where they are not installed; whoever imports them afterwards gets them.
NOT_NEEDED = ("sklearn", "pandas")


def lean_keras() -> None:
    """Let Keras find none of NOT_NEEDED while it is imported; for commands only: it stays without them."""
    sys.meta_path.insert(0, _Hidden())


class _Hidden(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target=None) -> None:
        if fullname in NOT_NEEDED and _importing("keras"):
            raise ModuleNotFoundError(f"{fullname} is not for Keras", name=fullname)


def _importing(name: str) -> bool:
    # Python's own word on a module that is not yet complete.
    return getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False)
