"""Values of settings, held to the types and bounds of the dataclass that they are for.

A dataclass of settings has fields of bool, int, float, str, Literal, list, dict, other such dataclasses, unions of
these with None, and the bounded numbers of pipeline.settings.bounds. The same function reads what comes from a shell,
from a YAML file and from Python, so that all of them are equally safe.
"""

import difflib
import math
import numbers
import os
import types
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, partial
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin, get_type_hints

from pipeline.errors import UserError


class _WrongValue(ValueError):
    """The value is not of the type in question, or out of its bounds."""


def require(condition: object, message: str) -> None:
    """Raise UserError with this sentence unless the condition holds."""
    if not condition:
        raise UserError(message)


def is_section(kind: Any) -> TypeGuard[type]:
    """Whether a type is a dataclass of settings."""
    return isinstance(kind, type) and is_dataclass(kind)


@cache
def types_of(kind: type) -> dict[str, Any]:
    """The fields of a dataclass in order, each with its type and bounds."""
    hints = get_type_hints(kind, include_extras=True)
    return {item.name: hints[item.name] for item in fields(kind)}


def members_of(kind: Any) -> tuple:
    """The types of a union; any other type alone."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def keys_of(kind: type, prefix: str = "") -> dict[str, Any]:
    """All settings of a dataclass and of the dataclasses in it, such as training.epochs, each with its type."""
    found = {}
    for name, member in types_of(kind).items():
        found |= keys_of(member, f"{prefix}{name}.") if is_section(member) else {prefix + name: member}
    return found


def read(kind: Any, value: Any, key: str) -> Any:
    """A value as the field holds it.

    Numbers, booleans and choices may be written out; a single value is a list of one where a list is expected; an
    integer or a path is a string where a string is expected.

    Args:
        kind: the field's type.
        value: as it was given.
        key: as the user calls it (training.epochs), for messages.

    Returns:
        Plain Python objects, and instances of the dataclasses in lists.

    Raises:
        UserError: an unknown key, another type, or a number out of its bounds.
    """
    try:
        return _read(kind, value, key)
    except _WrongValue:
        shown = "null" if value is None else value if isinstance(value, str) and value.strip() else repr(value)
        near = difflib.get_close_matches(str(value), _choices(kind), 1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise UserError(f"{key} is {shown}: it must be {describe(kind)}{hint}") from None


def read_section(kind: type, value: Any, key: str = "") -> dict[str, Any]:
    """The settings that are given of a dataclass; those of the dataclasses in it are dictionaries too.

    Args:
        kind: the dataclass.
        value: a mapping; None, as YAML reads a section whose lines are all comments, is an empty one.
        key: of the section; "": the dataclass is the whole.

    Raises:
        UserError: as `read`.
    """
    known, prefix = types_of(kind), f"{key}." if key else ""
    if not isinstance(value, Mapping | None):
        raise UserError(f"{key or 'the whole'} is {value!r}: it must hold keys such as {', '.join(list(known)[:3])}.")
    found = {}
    for name, each in (value or {}).items():
        if name not in known:
            raise unknown_key(f"{prefix}{name}", kind, prefix)
        reader = read_section if is_section(known[name]) else read
        found[name] = reader(known[name], each, prefix + name)
    return found


def build(kind: type, values: Mapping[str, Any]) -> Any:
    """An instance of a dataclass from what `read_section` returns; defaults for the rest."""
    known = types_of(kind)
    return kind(**{name: build(known[name], v) if is_section(known[name]) else v for name, v in values.items()})


def settle(settings: Any, key: str = "") -> None:
    """Hold an instance, made or changed in Python, to its types and bounds, in place.

    Afterwards it holds plain Python objects only: what was a tuple, a path or a number of NumPy is a list, a string,
    a number.

    Raises:
        UserError: as `read`.
    """
    prefix = f"{key}." if key else ""
    for name in vars(settings).keys() - types_of(type(settings)).keys():
        raise unknown_key(f"{prefix}{name}", type(settings), prefix)
    for name, kind in types_of(type(settings)).items():
        value = getattr(settings, name)
        if not is_section(kind):
            setattr(settings, name, read(kind, value, prefix + name))
        elif isinstance(value, kind):
            settle(value, prefix + name)
        else:
            setattr(settings, name, build(kind, read_section(kind, value, prefix + name)))


def unknown_key(key: str, kind: type, prefix: str = "", others: Iterable[str] = ()) -> UserError:
    """What to say of a key that a dataclass has not.

    Args:
        key: with the prefix.
        kind: the dataclass.
        prefix: of its keys.
        others: keys beside those of the dataclass that may have been meant.
    """
    names = [prefix + name for name in types_of(kind)]
    known = list(dict.fromkeys([*keys_of(kind, prefix), *names, *others]))
    leaf = key.rpartition(".")[2].removeprefix("--")
    near = [other for other in known if other.rpartition(".")[2] == leaf]
    near = near or [other for other in [max(known, key=partial(_likeness, key))] if _likeness(key, other) > 0.7]
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}."
    return UserError(f"{key} is not a setting; {hint}")


def _likeness(key: str, other: str) -> float:
    """From 0 to 1: of the sections or of the names in them, whichever are less alike; a long section counts no more."""
    (section, _, name), (of, _, other_name) = key.rpartition("."), other.rpartition(".")
    ratios = [difflib.SequenceMatcher(None, name, other_name).ratio()]
    if section:
        ratios.append(difflib.SequenceMatcher(None, section, of).ratio())
    return min(ratios)


def describe(kind: Any) -> str:
    """A type and its bounds in words, such as "an integer of at least 1 or null"."""
    if get_origin(kind) is Annotated:
        base, bounds = get_args(kind)
        return f"{describe(base)} {'' if str(bounds).startswith(('above', 'below')) else 'of '}{bounds}"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if len(members_of(kind)) > 1:
        return " or ".join(describe(member) for member in members_of(kind))
    if get_origin(kind) is list:
        (member,) = get_args(kind)
        return "a list of strings" if member is str else f"a list, each {describe(member)}"
    names = {type(None): "null", bool: "true or false", int: "an integer", float: "a number", str: "a string"}
    return names.get(kind, "a mapping")


def _choices(kind: Any) -> list[str]:
    """What the Literals in a type allow."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [choice for member in get_args(kind) for choice in _choices(member)]


def _read(kind: Any, value: Any, key: str) -> Any:
    origin = get_origin(kind)
    if is_section(kind):
        if isinstance(value, kind):
            settle(value, key)
            return value
        return build(kind, read_section(kind, value, key))
    if origin is Annotated:
        base, bounds = get_args(kind)
        number = _read(base, value, key)
        if not bounds.allow(number):
            raise _WrongValue
        return number
    if len(members_of(kind)) > 1:
        return _read_union(kind, value, key)
    if origin is Literal:
        if value not in get_args(kind):
            raise _WrongValue
        return value
    if origin is list:
        if value is None:
            raise _WrongValue
        (member,) = get_args(kind)
        if not _is_list(value):
            return [read(member, value, key)]
        return [read(member, each, f"{key}[{i}]") for i, each in enumerate(value)]
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _WrongValue
        of_name, of_value = get_args(kind)
        return {read(of_name, name, f"a key of {key}"): read(of_value, v, f"{key}.{name}") for name, v in value.items()}
    return _SCALARS[kind](value)


def _read_union(kind: Any, value: Any, key: str) -> Any:
    members = members_of(kind)
    if value is None and type(None) in members:
        return None
    # A list is never one value, and one value is a list of one only where nothing else takes it.
    for member in sorted(members, key=lambda member: (get_origin(member) is list) != _is_list(value)):
        if member is not type(None):
            try:
                return _read(member, value, key)
            except _WrongValue:
                pass
    raise _WrongValue


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _bool(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false", "yes", "no", "on", "off"):
        return value.lower() in ("true", "yes", "on")
    if type(value).__name__ not in ("bool", "bool_"):  # bool_: NumPy 1's.
        raise _WrongValue
    return bool(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | numbers.Real):
        raise _WrongValue
    try:
        number = float(value)
    except ValueError:
        raise _WrongValue from None
    if not math.isfinite(number):
        raise _WrongValue
    return number


def _int(value: Any) -> int:
    number = _float(value)
    if not number.is_integer():
        raise _WrongValue
    # Not by way of a float, which is exact up to 2**53 only.
    return int(value) if isinstance(value, numbers.Integral) or str(value).lstrip("+-").isdigit() else int(number)


def _str(value: Any) -> str:
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, str | os.PathLike):
        raise _WrongValue
    return os.fspath(value)


_SCALARS = {bool: _bool, int: _int, float: _float, str: _str}
