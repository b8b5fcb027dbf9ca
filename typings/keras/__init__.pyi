"""Keras has no types: pyright would take them from default values (`jit_compile` would be a str). All is Any."""

from typing import Any

def __getattr__(name: str) -> Any: ...
