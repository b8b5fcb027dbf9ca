"""Small SVG charts as strings. Colours come from the page's style sheet, so they follow light and dark.

Written by hand because the page must scale from telephone to print, follow the colour scheme and hold text in any
script; drawn as pictures the charts could do none of that.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 12, 40


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x_label: str,
    y_format: Callable[[float], str],
    tick_format: Callable[[float], str],
    marked_x: float | None = None,
) -> str:
    """Lines over whole-numbered x (epochs, updates).

    Args:
        series: name to points (x, y), all finite; line i has the CSS class `s<i>`.
        x_label: under the axis.
        y_format, tick_format: the text of a value in a tool tip and at the axis.
        marked_x: draws a vertical line there.
    """
    points = [point for line in series.values() for point in line]
    x_ticks = _whole_ticks([x for x, _ in points])
    y_ticks = nice_ticks(min(y for _, y in points), max(y for _, y in points))
    x_of, y_of = _scales(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])
    parts = _axes(x_ticks, y_ticks, x_of, y_of, str, tick_format, x_label)
    if marked_x is not None and x_ticks[0] <= marked_x <= x_ticks[-1]:
        parts.append(f'<path class="marked" d="M{x_of(marked_x):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    for i, (name, line) in enumerate(series.items()):
        path = "L".join(f"{x_of(x):.1f} {y_of(y):.1f}" for x, y in line)
        parts.append(f'<path class="line s{i}" d="M{path}"/>')
        for x, y in line:
            title = f"<title>{escape(name)}, {x_label} {x:g}: {y_format(y)}</title>"
            parts.append(f'<circle class="dot s{i}" cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3.2">{title}</circle>')
    return _svg("chart", WIDTH, HEIGHT, parts, ", ".join(series))


def reliability_diagram(bins: list[dict], *, x_label: str, y_label: str) -> str:
    """How often the model is right (bars) against how sure it is; on the diagonal they agree.

    Args:
        bins: "calibration_bins" of tasks.label_scores.
    """
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    x_of, y_of = _scales(0, 1, 0, 1)
    parts = _axes(ticks, ticks, x_of, y_of, "{:.0%}".format, "{:.0%}".format, x_label)
    most = max(item["rows"] for item in bins)
    for item in bins:
        x, width = x_of(item["low"]) + 1, x_of(item["high"]) - x_of(item["low"]) - 2
        top = y_of(item["accuracy"])
        title = (
            f"<title>{item['low']:.0%} to {item['high']:.0%}: {item['rows']} decisions, mean probability "
            f"{item['confidence']:.1%}, {y_label} {item['accuracy']:.1%}</title>"
        )
        # Faint bars rest on few decisions: their height is mostly chance.
        opacity = 0.25 + 0.75 * math.sqrt(item["rows"] / most)
        parts.append(
            f'<g><rect class="bar" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" '
            f'height="{max(y_of(0) - top, 1):.1f}" opacity="{opacity:.2f}"/>'
            f'<circle class="dot expected" cx="{x_of(item["confidence"]):.1f}" cy="{top:.1f}" r="3"/>'
            f"{title}</g>"
        )
    parts.append(f'<path class="diagonal" d="M{x_of(0):.1f} {y_of(0):.1f}L{x_of(1):.1f} {y_of(1):.1f}"/>')
    return _svg("chart", WIDTH, HEIGHT, parts, "reliability diagram")


def scatter(points: Sequence[Sequence[float]], *, x_label: str, y_label: str) -> str:
    """Dots; on the diagonal both values are equal.

    Args:
        points: (x, y), all finite, in one unit.
        x_label: under the axis.
        y_label: of a dot's y, in its tool tip.
    """
    values = [value for point in points for value in point]
    ticks = nice_ticks(min(values), max(values))
    x_of, y_of = _scales(ticks[0], ticks[-1], ticks[0], ticks[-1])
    parts = _axes(ticks, ticks, x_of, y_of, "{:.6g}".format, "{:.6g}".format, x_label)
    low, high = ticks[0], ticks[-1]
    parts.append(f'<path class="diagonal" d="M{x_of(low):.1f} {y_of(low):.1f}L{x_of(high):.1f} {y_of(high):.1f}"/>')
    for x, y in points:
        title = f"<title>{escape(x_label)} {x:.6g}, {escape(y_label)} {y:.6g}</title>"
        parts.append(
            f'<circle class="dot s0" opacity="0.5" cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="2.6">{title}</circle>'
        )
    return _svg("chart", WIDTH, HEIGHT, parts, f"{y_label} against {x_label}")


def dots(points: Sequence[tuple[float, float]], *, x_label: str, y_format: Callable[[float], str], log: bool) -> str:
    """Dots of one quantity over another.

    Args:
        points: (x, y), all finite; with log all x are positive.
        x_label: under the axis.
        y_format: the text of a y.
        log: equal factors of x are equally wide.
    """
    xs = [math.log10(x) if log else x for x, _ in points]
    x_ticks = nice_ticks(min(xs), max(xs))
    y_ticks = nice_ticks(min(y for _, y in points), max(y for _, y in points))
    x_of, y_of = _scales(x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1])

    def x_format(x: float) -> str:
        return f"{10**x if log else x:.2g}"

    parts = _axes(x_ticks, y_ticks, x_of, y_of, x_format, y_format, x_label)
    for x, (shown, y) in zip(xs, points, strict=True):
        title = f"<title>{escape(x_label)} {shown:.4g}: {y_format(y)}</title>"
        parts.append(f'<circle class="dot s0" cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3.2">{title}</circle>')
    return _svg("chart", WIDTH, HEIGHT, parts, x_label)


def compact_matrix(cells: Iterable[Sequence[int]], names: Sequence[str], supports: Sequence[int]) -> str:
    """A confusion matrix of many classes as one small square a cell; only cells with rows are drawn.

    Args:
        cells: true class, predicted class and count of each.
        names, supports: of the classes, with the rows of each.
    """
    size = len(names)
    parts = [f'<rect class="ground" width="{size}" height="{size}"/>']
    for i, j, count in cells:
        kind = "right" if i == j else "wrong"
        # Single mistakes must stay visible beside a bright diagonal.
        opacity = 0.2 + 0.8 * count / supports[i]
        title = f"<title>{escape(names[i])} → {escape(names[j])}: {count} of {supports[i]}</title>"
        parts.append(
            f'<rect class="{kind}" x="{j}" y="{i}" width="1" height="1" opacity="{opacity:.2f}">{title}</rect>'
        )
    return _svg("compact", size, size, parts, "confusion matrix")


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers in even steps of 1, 2, 2.5 or 5 times a power of ten from at most low to at least high."""
    if high <= low:
        # A flat line sits in the middle of a small range of its own size.
        spread = abs(low) * 0.1 or 1.0
        low, high = low - spread, high + spread
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _whole_ticks(values: Sequence[float]) -> list[int]:
    low, high = math.floor(min(values)), math.ceil(max(values))
    if low == high:
        low, high = low - 1, high + 1
    if high - low <= 10:
        return list(range(low, high + 1))
    # In steps of 5 and more all ticks are whole.
    return [round(tick) for tick in nice_ticks(low, high, about=min(6, (high - low) // 4))]


def _scales(x_low, x_high, y_low, y_high) -> tuple[Callable, Callable]:
    def x_of(x):
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def y_of(y):
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    return x_of, y_of


def _axes(x_ticks, y_ticks, x_of, y_of, x_format, y_format, x_label) -> list[str]:
    parts = []
    for y in y_ticks:
        at = y_of(y)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="y" x="{LEFT - 8}" y="{at + 4:.1f}">{y_format(y)}</text>')
    for x in x_ticks:
        parts.append(f'<text class="x" x="{x_of(x):.1f}" y="{HEIGHT - BOTTOM + 17}">{x_format(x)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="x name" x="{middle:.1f}" y="{HEIGHT - 5}">{escape(x_label)}</text>')
    return parts


def _svg(kind: str, width: int, height: int, parts: list[str], label: str) -> str:
    head = f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
    return f"{head}{''.join(parts)}</svg>"
