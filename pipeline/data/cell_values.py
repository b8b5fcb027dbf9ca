"""What the cells of a row hold, whatever type a format gives them: numbers, points in time, names of categories."""

import numbers
from datetime import UTC, date, datetime, time
from typing import Any

import numpy as np

from pipeline.data.formats import as_text


def is_missing(cell: Any) -> bool:
    """Whether nothing is in a cell: no text, or what tables put in place of a number or a date."""
    if isinstance(cell, str | bytes):
        return not cell.strip()
    if isinstance(cell, np.datetime64):
        return bool(np.isnat(cell))
    return cell is None or (isinstance(cell, float | np.floating) and bool(np.isnan(cell)))


def category_of(cell: Any) -> str:
    """The name that a cell holds; "" where it holds none. A whole number is the same name however it is stored."""
    if isinstance(cell, numbers.Real) and not isinstance(cell, (numbers.Integral, np.bool_)):
        value = float(cell)
        cell = "" if value != value else int(value) if value.is_integer() else value
    # Half a surrogate pair becomes a question mark, as in texts.
    return as_text(cell).strip().encode("utf-8", "replace").decode()


def number_of(cell: Any) -> float | None:
    """The number that a cell holds, None where it holds none."""
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "replace")
    if isinstance(cell, (bool, np.bool_)) or not isinstance(cell, (str, numbers.Number)):
        return None
    try:
        return float(cell)  # pyright: ignore[reportArgumentType]  Complex numbers raise TypeError.
    except (ValueError, TypeError, OverflowError):
        return None


def moment_of(cell: Any) -> datetime | None:
    """The point in time that a cell names, None where it names none."""
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "replace")
    if isinstance(cell, np.datetime64):
        cell = cell.astype("datetime64[us]").item()
    if isinstance(cell, str):
        try:
            cell = datetime.fromisoformat(cell.strip())
        except ValueError:
            return None
    if isinstance(cell, date) and not isinstance(cell, datetime):
        cell = datetime.combine(cell, time.min)
    if not isinstance(cell, datetime):
        return None
    return cell if cell.tzinfo else cell.replace(tzinfo=UTC)


def shown(cell: Any) -> str:
    """A cell in a message."""
    return repr(as_text(cell)[:80]) if as_text(cell).strip() else "the cell is empty"
