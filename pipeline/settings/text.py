"""Settings from YAML files and from the words of a command line; nothing but null is guessed from its spelling."""

from pathlib import Path
from typing import Any, get_origin

import yaml

from pipeline.errors import UserError
from pipeline.settings.read import is_section, members_of, read, read_section


def read_file(kind: type, path: Path) -> dict[str, Any]:
    """The settings of a dataclass that a YAML file gives, as `read_section` returns them.

    Raises:
        UserError: not YAML, not UTF-8, an unknown key or a wrong value; names the file.
    """
    try:
        values = load_yaml(path.read_text(encoding="utf-8-sig"))
        if values is not None and not isinstance(values, dict):
            raise UserError("the file must hold keys and their values.")
        return read_section(kind, values)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save the file in that encoding.") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read_word(kind: Any, word: str, key: str) -> Any:
    """A value from the command line: a string is the word itself, whatever it would be in YAML.

    Where it may be none, `null` is none; where a list or a mapping is expected, [a, b] and {a: 1} are read as YAML.

    Raises:
        UserError: as `pipeline.settings.read.read`.
    """
    members = members_of(kind)
    if word == "null" and type(None) in members:
        return None
    ends = word.strip()[:1] + word.strip()[-1:]
    if (ends == "[]" and any(get_origin(member) is list for member in members)) or (
        ends == "{}" and str not in members
    ):
        try:
            value = load_yaml(word)
        except UserError as error:
            raise UserError(f"{key} is {word}: {error}") from None
        return read_section(kind, value, key) if is_section(kind) else read(kind, value, key)
    return read_section(kind, word, key) if is_section(kind) else read(kind, word, key)


def load_yaml(text: str) -> Any:
    """YAML whose scalars stay as they are written, but for null: `no`, `1`, `0123` and `2024-01-01` are strings.

    Raises:
        UserError: not YAML, or a key that stands twice in a mapping.
    """
    try:
        return yaml.load(text, _Literally)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"not valid YAML{f' in line {mark.line + 1}' if mark else ''}: {problem}.") from None


class _Literally(yaml.SafeLoader):
    """Types are known from the dataclasses; YAML's own guesses would make a boolean of the label `no`."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in guesses if tag.rpartition(":")[2] in ("null", "merge")]
        for first, guesses in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)
