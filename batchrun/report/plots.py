"""Charts become SVG for a page, in the colours of its style sheet and in its font.

They are written here: what matplotlib would take for it, import and drawing, is a second of CPU at the end of each run.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchrun.report.charts import Axis, Chart, Line

    Scale = Callable[[float], float]
    """Where a value stands, in pixels."""

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 10, 44
"""The picture and its margins, in pixels of a phone's page."""
TEXT = 12
_GAP, _RISE = 6, 4.5
"""Between a tick and its label, and from the middle of a label to the line that it stands on."""


def draw(chart: Chart) -> str:
    """The SVG element of a chart, the same for the same chart; its text is for no one but a reader of the page."""
    across, up = _scale(chart.x, LEFT, WIDTH - RIGHT), _scale(chart.y, HEIGHT - BOTTOM, TOP)
    name, elements = chart.name, [*_laid_out(chart, across, up)]
    for line in chart.lines:
        elements += _drawn(line, across, up, steps=chart.steps)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-title {name}-says">'
        f'<title id="{name}-title">{escape(chart.title)}</title><desc id="{name}-says">{escape(chart.says)}</desc>'
        f'<g font-size="{TEXT}" fill="none" stroke-linecap="square">{"".join(elements)}</g></svg>'
    )


def _scale(axis: Axis, start: float, end: float) -> Scale:
    put = math.log if axis.logarithmic else float
    low, high = put(axis.low), put(axis.high)
    return lambda value: start + (put(value) - low) / (high - low) * (end - start)


def _laid_out(chart: Chart, across: Scale, up: Scale) -> Iterator[str]:
    """The grid, the labels of its lines, and what the axes are called."""
    bottom, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    for at, label in chart.x.ticks:
        yield _grid_line(f"M{_px(across(at))} {bottom}V{TOP}")
        yield _text(label, across(at), bottom + _GAP + 2 * _RISE, "middle")
    for at, label in chart.y.ticks:
        yield _grid_line(f"M{LEFT} {_px(up(at))}H{WIDTH - RIGHT}")
        yield _text(label, LEFT - _GAP, up(at) + _RISE, "end")
    if chart.x.label:
        yield _text(chart.x.label, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - TEXT, "middle")
    if chart.y.label:
        yield _text(chart.y.label, TEXT - 2, middle, "middle", f' transform="rotate(-90 {TEXT - 2} {_px(middle)})"')


def _grid_line(path: str) -> str:
    return f'<path d="{path}" stroke="var(--grid)"/>'


def _text(text: str, x: float, y: float, anchor: str, turned: str = "") -> str:
    place = f'x="{_px(x)}" y="{_px(y)}" text-anchor="{anchor}"{turned}'
    return f'<text {place} fill="var(--muted)">{escape(text)}</text>'


def _drawn(line: Line, across: Scale, up: Scale, *, steps: bool) -> Iterator[str]:
    """A line, and before it the ground that it stands on if that is filled."""
    points = [(_px(across(x)), _px(up(y))) for x, y in zip(line.x, line.y, strict=True)]
    begin, rest = points[0], points[1:]
    path = f"M{begin[0]} {begin[1]}" + "".join(f"H{x}V{y}" if steps else f"L{x} {y}" for x, y in rest)
    color = f"var(--series-{line.color})"
    if line.filled:
        bottom = _px(up(0))
        yield f'<path d="{path}V{bottom}H{begin[0]}Z" fill="{color}" fill-opacity="0.15"/>'
    dashes = ' stroke-dasharray="7.2 5.4" stroke-linecap="butt"' if line.dashed else ""
    yield f'<path d="{path}" fill="none" stroke="{color}" stroke-width="1.8"{dashes}/>'


def _px(value: float) -> str:
    """A hundredth of a pixel is enough."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
