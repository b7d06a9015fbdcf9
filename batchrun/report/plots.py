"""Charts become SVG for a page: drawn by matplotlib, coloured by the page's style sheet, with ids of their own.

matplotlib is imported when something is drawn, as that takes half a second.
"""

from __future__ import annotations

import io
import logging
import re
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

    from batchrun.report.charts import Chart, Line

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 10, 44
"""The picture and its margins, in pixels of a phone's page."""
TEXT = 12
_COLORS = {"#000001": "muted", "#000002": "grid", "#000011": "series-1", "#000012": "series-2", "#000013": "series-3"}
"""Stand-ins that nothing else is drawn in, and the variables of the style sheet that take their place."""
_MUTED, _GRID = "#000001", "#000002"
_DROPPED = re.compile(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|<!--.*?-->", re.DOTALL)
_FINER = re.compile(r"(?<=\.\d\d)\d+")
"""A hundredth of a pixel is enough."""


def draw(chart: Chart) -> str:
    """The SVG element of a chart, the same for the same chart; its text is for no one but a reader of the page."""
    with _quietly():
        import matplotlib as mpl
        from matplotlib.figure import Figure

        with mpl.rc_context():
            mpl.rcdefaults()  # nobody's matplotlibrc changes a report
            mpl.rc("svg", fonttype="none", hashsalt=chart.name)
            mpl.rc("font", size=TEXT)
            mpl.rc("text", parse_math=False)
            mpl.rc("path", simplify=False)
            figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72, frameon=False)
            sides = (LEFT / WIDTH, BOTTOM / HEIGHT, (WIDTH - LEFT - RIGHT) / WIDTH, (HEIGHT - TOP - BOTTOM) / HEIGHT)
            axes = figure.add_axes(sides, frameon=False)
            _lay_out(axes, chart)
            for line in chart.lines:
                _add(axes, line, steps=chart.steps)
            file = io.StringIO()
            figure.savefig(file, format="svg", metadata={"Date": None})
    return _for_the_page(file.getvalue(), chart)


def _lay_out(axes: Axes, chart: Chart) -> None:
    for axis, drawn, scale in ((chart.x, axes.xaxis, axes.set_xscale), (chart.y, axes.yaxis, axes.set_yscale)):
        scale("log" if axis.logarithmic else "linear")
        drawn.set_ticks([at for at, _ in axis.ticks], labels=[label for _, label in axis.ticks])
        drawn.set_ticks([], minor=True)
        drawn.set_label_text(axis.label, color=_MUTED)
    axes.xaxis.set_label_coords(0.5, -0.14)  # matplotlib would measure every tick's label to find its place
    axes.yaxis.set_label_coords(-0.15, 0.5)
    axes.set_xlim(chart.x.low, chart.x.high)
    axes.set_ylim(chart.y.low, chart.y.high)
    axes.tick_params(length=0, pad=6, labelcolor=_MUTED, grid_color=_GRID, grid_linewidth=1)
    axes.grid(visible=True)
    axes.set_axisbelow(True)


def _add(axes: Axes, line: Line, *, steps: bool) -> None:
    color = f"#00001{line.color}"
    if line.filled:
        axes.fill_between(line.x, line.y, step="post" if steps else None, color=color, alpha=0.15, linewidth=0)
    axes.plot(
        line.x,
        line.y,
        color=color,
        drawstyle="steps-post" if steps else "default",
        linestyle=(0, (4, 3)) if line.dashed else "-",
        linewidth=1.8,
        clip_on=False,
    )


def _for_the_page(svg: str, chart: Chart) -> str:
    """Cut what a page has no use for, name colours by the style sheet's variables, and make the ids the chart's own."""
    name = chart.name
    _, _, svg = _DROPPED.sub("", svg[svg.index("<svg") :]).partition(">")
    svg = re.sub(r' style="([^"]*)"', lambda match: _attributes(match[1]), svg)
    for stand_in, variable in _COLORS.items():
        svg = svg.replace(stand_in, f"var(--{variable})")
    used = set(re.findall(r"#(\w+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", svg)
    svg = re.sub(r'(?:xlink:)?href="#|url\(#', lambda match: f"{match[0].removeprefix('xlink:')}{name}-", svg)
    svg = re.sub(r"<[^>]*>", lambda match: _FINER.sub("", match[0]), svg)
    svg = re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><").strip()
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-title {name}-says">'
        f'<title id="{name}-title">{escape(chart.title)}</title><desc id="{name}-says">{escape(chart.says)}</desc>{svg}'
    )


def _attributes(style: str) -> str:
    """A style as attributes, which a page's policy need not allow; the font is the page's."""
    pairs = [part.split(":", 1) for part in style.split(";") if part.strip()]
    return "".join(f' {name.strip()}="{value.strip()}"' for name, value in pairs if name.strip() != "font-family")


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what matplotlib says of its caches where nobody may write at home; it has one aside, then."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
