"""Protocol buffers, whose classes are made at import: all is Any."""

from typing import Any

def __getattr__(name: str) -> Any: ...
