"""The help of a command line, from the fields of a dataclass and the text below each of them."""

import textwrap
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import docstring_parser

from pipeline.settings.read import describe, is_section, types_of

WIDTH = 110


def help_of(kind: type, prefix: str = "") -> str:
    """All settings of a dataclass, section by section: key, meaning, what it may be, default.

    Args:
        kind: the dataclass.
        prefix: of its keys, such as "training.".
    """
    described = docstring_parser.parse_from_object(kind)
    meanings = {parameter.arg_name: parameter.description for parameter in described.params}
    sections, lines = [], []
    for item in fields(kind):
        of = types_of(kind)[item.name]
        if is_section(of):
            sections.append(help_of(of, f"{prefix}{item.name}."))
            continue
        default = item.default if item.default_factory is MISSING else item.default_factory()
        meaning = " ".join((meanings.get(item.name) or "").split())
        lines.append(f"  --{prefix}{item.name}")
        lines += _indented(f"{meaning} ({describe(of)}; default: {_shown(default)})")
    return "\n".join([f"{prefix.rstrip('.') or 'run'}: {described.short_description}", *lines, "", *sections])


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_shown(each) for each in value)}]"
    if is_dataclass(value):
        return f"{{{', '.join(f'{name}: {_shown(each)}' for name, each in vars(value).items())}}}"
    plain = {None: "null", True: "true", False: "false", "": '""'}
    return plain[value] if isinstance(value, bool) or value in (None, "") else str(value)
