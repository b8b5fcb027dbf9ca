"""What a task shows of scores: a table on the terminal, its part of the report."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Tile:
    """One number in the head of the report."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Headline:
    """The score that the report begins with. `strip` is the CSS left offset of score, baseline and interval, from 0 to
    1, where the score is a share; None: it has no scale."""

    name: str
    value: str
    unit: str
    baseline: str
    interval: str = ""
    strip: dict[str, float | None] | None = None


@dataclass(frozen=True)
class Page:
    """What a task puts into report.html.

    Attributes:
        about: what is predicted, in a few words.
        template: file of this folder with the sections below the headline.
        context: what that template needs.
        figures: dicts of title, keys (a line above), svg and caption.
    """

    about: str
    headline: Headline
    tiles: list[Tile]
    template: str
    context: dict[str, Any]
    figures: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class ScoreTable:
    """Scores of one set of rows for the terminal: a header, rows of cells, and lines below them."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    averages: list[tuple[str, ...]]
    lines: list[str]
