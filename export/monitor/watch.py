"""A log's rows to counts in windows, whatever its length: a window takes as much memory as the reference has bins."""

import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from export.monitor.features import Features, Rows
from export.monitor.redacting import redacting
from export.monitor.reference import Reference

# Of an ISO time, the part that names a day or an hour, or a second.
PARTS = {"day": 10, "hour": 13}
SECOND = 19
AGO = {"d": "days", "h": "hours", "m": "minutes"}


@dataclass
class Window:
    """Some rows of a log.

    Attributes:
        begins: time of its first row, or number of that row, counted from 1.
        rows: how many.
        counts: by feature, int [bins].
        sums: of numbers that are not missing, and how many they are, by feature.
    """

    begins: str
    rows: int = 0
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    sums: dict[str, tuple[float, int]] = field(default_factory=dict)


class Watch:
    """Counts what logs hold.

    Args:
        reference: to be compared with.
        size: rows of a window, or "day" or "hour".
        since: ISO time before which rows are passed over; None: none are.
        shown: so many of the rows that fit least are kept.

    Attributes:
        windows: by number of the window, or day or hour.
        rows: that were counted.
        passed_over: rows before `since`.
        without_time: rows that are passed over too, as `needs_time` does.
        needs_time: the option that needs the time of a row; None: none does.
    """

    def __init__(self, reference: Reference, size: int | str, since: str | None = None, shown: int = 0):
        self._features, self._sketches = Features.like(reference), reference.sketches
        self._redacted = redacting(reference.redaction)
        self._size, self._since = size, since
        windows = f"--window {size}" if isinstance(size, str) else None
        self.needs_time = "--since" if since else windows
        self.least = LeastFitting(reference, shown)
        self.windows: dict[Any, Window] = {}
        self.rows = self.passed_over = self.without_time = 0

    def add(self, rows: Rows) -> None:
        """Count the rows of a part of a log.

        Raises:
            ValueError: times are needed and are of no known column, one is no ISO time, or an answer is no number.
        """
        times, kept = rows.times, np.ones(len(rows), bool)
        if self.needs_time:
            times = _in_utc(rows, self.needs_time)
            kept = np.array([time is not None for time in times], bool)
            self.without_time += int((~kept).sum())
        rows = self._redacted(rows)
        values = self._features(rows)
        binned = {s.name: (s, s.bins(values[s.name])) for s in self._sketches if s.name in values}
        if self._since is not None:
            assert times is not None
            after = np.array([time is not None and time[:SECOND] >= self._since[:SECOND] for time in times], bool)
            self.passed_over += int((kept & ~after).sum())
            kept &= after
        for key, chosen in self._parts(times, np.flatnonzero(kept)):
            begins = (times[chosen[0]] if times else None) or f"row {self.rows + 1}"
            window = self.windows.setdefault(key, Window(begins))
            window.begins = begins if isinstance(self._size, str) and begins < window.begins else window.begins
            window.rows += len(chosen)
            self.rows += len(chosen)
            for name, (sketch, bins) in binned.items():
                counts = np.bincount(bins[chosen], minlength=sketch.size)
                window.counts[name] = window.counts.get(name, 0) + counts
                if sketch.numeric:
                    known = values[name][chosen]
                    known = known[np.isfinite(known)]
                    total, count = window.sums.get(name, (0.0, 0))
                    window.sums[name] = total + float(known.sum()), count + len(known)
        self.least.add(rows, values, kept)

    def _parts(self, times: Sequence[str | None] | None, chosen: np.ndarray) -> Iterator[tuple[Any, np.ndarray]]:
        """Windows with the numbers of their rows."""
        if isinstance(self._size, str):
            assert times is not None
            keys = np.array([str(times[row])[: PARTS[self._size]] for row in chosen.tolist()], str)
        else:
            keys = (self.rows + np.arange(len(chosen))) // self._size
        for key in dict.fromkeys(keys.tolist()):
            yield key, chosen[keys == key]

    def in_order(self) -> list[Window]:
        """The windows, the earliest first."""
        return [self.windows[key] for key in sorted(self.windows)]


class LeastFitting:
    """Of all rows those that fit least: with the lowest `fit`, where the model gives it, else with the lowest score.

    Args:
        reference: whose outputs there are.
        count: how many are kept.
    """

    def __init__(self, reference: Reference, count: int):
        self._count, self._found = count, []
        self.by = next((name for name in ("fit", "score") if name in reference.outputs), None)

    def add(self, rows: Rows, values: dict[str, np.ndarray], kept: np.ndarray) -> None:
        """Look at more rows."""
        if not self._count or self.by not in values:
            return
        oddness = np.where(kept, -values[self.by], np.nan)
        known = np.flatnonzero(np.isfinite(oddness))
        for row in known[np.argsort(-oddness[known], kind="stable")[: self._count]].tolist():
            shown = {
                "time": rows.times[row] if rows.times else None,
                "texts": [texts[row] for texts in rows.texts],
                **{name: found[row] for name, found in rows.outputs.items() if not isinstance(found[row], list)},
            }
            # The number of an entry makes entries different, so that no two rows are compared.
            entry = (float(oddness[row]), -self._seen(), shown)
            (heapq.heappush if len(self._found) < self._count else heapq.heappushpop)(self._found, entry)

    def _seen(self) -> int:
        self._entries = getattr(self, "_entries", 0) + 1
        return self._entries

    def rows(self) -> list[dict[str, Any]]:
        """The rows, the one that fits least first."""
        return [shown for _, _, shown in sorted(self._found, key=lambda entry: entry[:2], reverse=True)]


def window_size(word: str) -> int | str:
    """What --window means.

    Raises:
        ValueError: nothing.
    """
    if word in PARTS:
        return word
    if word.isdigit() and int(word) >= 50:
        return int(word)
    raise ValueError(f"--window {word}: give a number of rows, at least 50, or day, or hour.")


def _in_utc(rows: Rows, option: str) -> list[str | None]:
    if rows.times is None:
        raise ValueError(f"{rows.place} or below: a row has no time, which {option} needs; set --time_column.")
    return [time and utc(time, f"{rows.place} or below", option) for time in rows.times]


def utc(time: str, place: str, option: str) -> str:
    """An ISO time in UTC, to the second; one without an offset stays as it is.

    Args:
        time: as a log has it.
        place: of it, for the message.
        option: that needs it.

    Raises:
        ValueError: it is none.
    """
    try:
        found = datetime.fromisoformat(time)
        zone, found = found.tzinfo, found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
    except (ValueError, OverflowError):
        raise ValueError(f"{place}: {time!r} is no time in ISO's form, which {option} needs.") from None
    return f"{found.isoformat(timespec='seconds')}{'Z' if zone else ''}"


def since_time(word: str | None) -> str | None:
    """What --since means, as logs have times: in UTC.

    Raises:
        ValueError: it is neither a time nor so long ago.
    """
    if word is None:
        return None
    if ago := re.fullmatch(r"(\d+)([dhm])", word):
        time = datetime.now(UTC) - timedelta(**{AGO[ago[2]]: int(ago[1])})
    else:
        try:
            time = datetime.fromisoformat(word)
        except ValueError:
            raise ValueError(f"--since {word}: give a time, as 2026-01-31 or 2026-01-31T12:00Z, or 7d, 24h or 30m, "
                             "so long ago.") from None  # fmt: skip
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
