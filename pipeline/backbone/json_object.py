"""The JSON files beside a checkpoint's weights. Imports no TensorFlow."""

import json
from pathlib import Path

from pipeline.errors import UserError


def read_json(path: Path) -> dict:
    """The object in a JSON file; UserError if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object.")
    return content
