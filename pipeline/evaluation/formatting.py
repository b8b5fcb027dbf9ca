"""Numbers and names as a reader wants them."""

import json
import math
from collections.abc import Sequence
from numbers import Real

THIN_SPACE = "\u202f"
NAMES_SHOWN = 8


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal, without the sign."""
    return "–" if value is None else f"{100 * value:.1f}"


def number(value: object) -> str:
    """Any JSON-able value for reading: grouped digits, four significant ones, JSON for lists and dicts."""
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, Real):
        value = float(value)
        whole = math.isfinite(value) and (abs(value) >= 10_000 or value == round(value))
        return f"{value:,.0f}".replace(",", THIN_SPACE) if whole else f"{value:.4g}"
    return json.dumps(value, ensure_ascii=False, default=str)


def quoted(name: str) -> str:
    return f"“{name}”"


def listed(names: Sequence[str]) -> str:
    """Quoted names, the first few of many."""
    shown = ", ".join(quoted(name) for name in names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"


def one_line(text: str) -> str:
    """Without line breaks and characters that a terminal would act on."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
