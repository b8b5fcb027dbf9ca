"""Files that a reader never sees half of."""

import os
from pathlib import Path


def write_text(path: str | os.PathLike, text: str, errors: str = "strict") -> None:
    """Write UTF-8 beside, then rename; missing folders are made. `errors` is as in str.encode."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(text.encode("utf-8", errors))
    os.replace(partial, path)
