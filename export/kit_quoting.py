"""Values that people and paths bring, quoted for the languages of the kit's files. Filters of its templates.

Whatever is not printable, line separators and the marks that turn the direction of text among it, is written as an
escape wherever the language has them: what a file shows is then what it says.
"""

import json
import shlex
from collections.abc import Callable
from typing import Any

import jinja2
import yaml
from google.protobuf import text_encoding

from pipeline.markdown import code_span


def quote_json(value: Any) -> str:
    """JSON, and with it JavaScript, on one line."""
    return _escaped(json.dumps(value, ensure_ascii=False), lambda character: json.dumps(character)[1:-1])


def quote_yaml(value: str) -> str:
    """A YAML scalar, always in quotes: which plain words are booleans, numbers or dates is not agreed upon."""
    return yaml.safe_dump(value, default_style='"', width=float("inf")).rstrip("\n")


def quote_compose(value: str) -> str:
    """A YAML scalar of a Compose file, where `$` begins a variable."""
    return quote_yaml(value.replace("$", "$$"))


def quote_shell(value: str) -> str:
    """One word for bash, on one line."""
    if all(character.isprintable() for character in value):
        return shlex.quote(value)
    # $'...' takes escapes; those of bytes mean the same in every locale.
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _escaped(quoted, lambda character: "".join(rf"\x{byte:02x}" for byte in character.encode())) + "'"


def quote_prototext(value: str) -> str:
    """A string of protocol buffers' text format."""
    return f'"{text_encoding.CEscape(value.encode(), as_utf8=False)}"'


def quote_go(value: str) -> str:
    """A string of PromQL, whose escapes are those of Go, or of Python."""
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + _escaped(quoted, lambda character: rf"\U{ord(character):08x}") + '"'


def quote_haproxy(value: str) -> str:
    """One word of HAProxy's configuration: between single quotes nothing is special."""
    return "'" + value.replace("'", "'\\''") + "'"


def quote_cell(value: str) -> str:
    """A code span in a cell of a Markdown table."""
    return code_span(value).replace("|", "\\|")


FILTERS = {
    "json": quote_json,
    "yaml": quote_yaml,
    "compose": quote_compose,
    "shell": lambda value: quote_shell(value if isinstance(value, str) else json.dumps(value)),
    "prototext": quote_prototext,
    "promql": quote_go,
    "python": lambda value: quote_go(value) if isinstance(value, str) else repr(value),
    "haproxy": quote_haproxy,
    "code": code_span,
    "cell": quote_cell,
}


def environment(loader: jinja2.BaseLoader) -> jinja2.Environment:
    """What renders the kit's templates: a value that is not there is an error, and each line is kept as it is."""
    made = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(FILTERS)
    return made


def text_of(value: str, where: str) -> str:
    """The value, if it can be written into a file.

    Raises:
        ValueError: it is no valid Unicode, or holds a zero byte, which no program takes in an argument.
    """
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        what = f"character {error.start + 1} is half a surrogate pair or a byte that is no UTF-8"
        raise ValueError(f"{where} {value!r}: {what}; give valid Unicode.") from error
    if "\0" in value:
        raise ValueError(f"{where} {value!r}: it holds a zero byte.")
    return value


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    return "".join(character if character.isprintable() else escape(character) for character in text)
