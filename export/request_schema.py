"""What a request to a model must look like, as a JSON schema beside the export: written there, held against by clients.

No TensorFlow.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export.failures import RequestFailed
from pipeline.extras import require
from pipeline.features import Features
from pipeline.features.columns import DATE_PATTERN, Category, Column, Date, Number, Vector

FILE = Path("assets.extra") / "request.schema.json"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
# Of the names of a category so many are told; others are taken too.
EXAMPLES = 20
# "" is a missing one. Python's $ is also before a newline at the end.
DATE = rf"^({DATE_PATTERN})?$(?!\n)"
A_TEXT = "a text"
TEXT = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/bytes"}]}


class RowRefused(RequestFailed):
    """A row that the schema does not allow; `row` is its number from 0, `reason` a sentence without it."""

    def __init__(self, row: int, reason: str):
        super().__init__(f"row {row + 1}, {reason}")
        self.row, self.reason = row, reason


def request_schema(features: Features) -> dict[str, Any]:
    """The body of a predict request over REST, in rows: of all signatures that take texts (and columns)."""
    names, texts = features.inputs, len(features.text_columns)
    properties: dict[str, Any] = {name: TEXT | {"description": A_TEXT} for name in names[:texts]}
    for column, name in zip(features.columns, names[texts:], strict=True):
        properties[name] = _of_column(column)
    row: Any = {"type": "object", "properties": properties, "required": names, "additionalProperties": False}
    # What has a single input is also sent without its name.
    items = {"$ref": "#/$defs/row"} if len(names) > 1 else {"anyOf": [{"$ref": "#/$defs/row"}, TEXT]}
    return {
        "$schema": DRAFT,
        "title": "a predict request in rows, of the signatures that take " + " and ".join(names),
        "type": "object",
        "properties": {"signature_name": {"type": "string"}, "instances": {"type": "array", "items": items}},
        "required": ["instances"],
        "$defs": {
            "row": row,
            "bytes": {
                "description": "any bytes, in base64",
                "type": "object",
                "properties": {"b64": {"type": "string"}},
                "required": ["b64"],
                "additionalProperties": False,
            },
        },
    }


def _of_column(column: Column) -> dict[str, Any]:
    if isinstance(column, Number):
        return {"description": "a number, NaN where it is missing", "type": "number"}
    if isinstance(column, Vector):
        description = f"a list of {column.size} numbers, all of them NaN where it is missing"
        sizes = {"minItems": column.size, "maxItems": column.size}
        return {"description": description, "type": "array", "items": {"type": "number"}} | sizes
    if isinstance(column, Date):
        description = 'a date as ISO writes it, such as 2024-05-31, "" where it is missing'
        return {"description": description, "type": "string", "pattern": DATE}
    assert isinstance(column, Category)
    description = 'a name, "" where it is missing; others than those of the examples are taken too'
    return {"description": description, "type": "string", "examples": list(column.names[:EXAMPLES])}


class RequestSchema:
    """A schema that rows are held against before they are sent.

    Args:
        path: request.schema.json of an export.

    Attributes:
        inputs: names of the model's inputs, in its own order.
        texts: how many of them, the first, are texts.

    Raises:
        RequestFailed: it is none.
        UserError: without the extra `client`.
    """

    def __init__(self, path: str | Path):
        jsonschema = require("client", "jsonschema")
        try:
            schema = json.loads(Path(path).read_text(encoding="utf-8"))
            jsonschema.Draft202012Validator.check_schema(schema)
            self._columns = schema["$defs"]["row"]["properties"]
            self._wanted = {name: column["description"] for name, column in self._columns.items()}
            self.inputs: list[str] = list(schema["$defs"]["row"]["required"])
            self.texts = list(self._wanted.values()).count(A_TEXT)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, jsonschema.SchemaError) as error:
            said = str(error).partition("\n")[0]
            raise RequestFailed(f"{path} is no {FILE.name} of an export ({said}).") from error
        self._path, self._validator = path, jsonschema.Draft202012Validator(schema)

    def check(self, inputs: Mapping[str, list]) -> None:
        """Hold rows against the schema.

        Args:
            inputs: lists of one length by the name of an input, as a request has them; texts may be bytes.

        Raises:
            RowRefused: names the first row that does not fit, its column and the value.
            RequestFailed: the schema is of other inputs.
        """
        if inputs.keys() != self._columns.keys():
            own, given = (", ".join(sorted(names)) for names in (self._columns, inputs))
            raise RequestFailed(f"{self._path} is of a model that takes {own}, and this signature takes {given}.")
        rows = [dict(zip(inputs, map(_plain, row), strict=True)) for row in zip(*inputs.values(), strict=True)]
        for error in self._validator.iter_errors({"instances": rows}):
            _, number, *place = error.absolute_path
            # Where a row may be its text alone, the error is of the row.
            name = place[0] if place else next(iter(self._columns))
            raise RowRefused(int(number), f"column {name!r}: {rows[number][name]!r:.50} is not {self._wanted[name]}.")


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.tolist() if hasattr(value, "tolist") else value
