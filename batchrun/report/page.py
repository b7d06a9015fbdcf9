"""A page that can be mailed: one template filled in, with every text made visible, cut and escaped, and no script."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from batchrun.report.format import number, percent, rate, seconds, visible
from batchrun.report.money import of_group

FOLDER = Path(__file__).parent
MOST_CHARS = 600
"""How much is shown of a text from outside."""


class Card(NamedTuple):
    """One key figure: what it is, the figure, and what else is worth knowing."""

    name: str
    value: str
    more: str


def page(template: str, **values: Any) -> str:
    """Fill in a template, by its path in this folder, that extends page.html.

    A str among the values is text, whatever it holds; a template says `safe` of what is our own markup.
    """
    return _templates().get_template(template).render(values).strip() + "\n"


@cache
def _templates() -> Environment:
    """The templates, to which the style sheet belongs; the page's policy names it by its hash and allows no other."""
    css = (FOLDER / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    env = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_safe,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    env.globals |= {one.__name__: one for one in (number, of_group, percent, rate, seconds, Prose)}
    env.globals |= {"css": css, "css_hash": f"sha256-{digest}"}
    return env


class Prose(str):
    """A text of several lines, which are kept, as are their indents; who makes one has cut it."""

    __slots__ = ()


def _safe(value: Any) -> Any:
    """What each `{{ }}` of a template puts out, before it is escaped."""
    if isinstance(value, Prose):
        return "\n".join(f"{_indent(line)}{visible(line)}" for line in value.splitlines())
    if not isinstance(value, str) or hasattr(value, "__html__"):  # markup: by a macro, or said to be safe
        return value
    return visible(value if len(value) <= MOST_CHARS else f"{value[:MOST_CHARS]}...")


def _indent(line: str) -> str:
    return " " * (len(line) - len(line.lstrip(" \t")))
