"""Files that a reader never sees half of."""

import os
from pathlib import Path


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 beside, then rename; folders are made, and what UTF-8 cannot hold becomes a question mark."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(text.encode("utf-8", "replace"))
    os.replace(partial, path)
