"""A row that cannot be sent: where it stands, why not, and what to correct."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchrun.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Collection

    from batchrun.types import Prompt

_NAMES_SHOWN = 12
_KINDS = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}


def unfit(prompt: Prompt, problem: str, remedy: str) -> PromptError:
    """The error of a row; it knows where the row stands."""
    return PromptError(problem, where=prompt.where, index=prompt.index, custom_id=prompt.custom_id, remedy=remedy)


def names(values: Collection[str]) -> str:
    """Some names as they are shown to people: escaped where they are not printable, and not too many."""
    shown = [f"`{name}`" if name.isprintable() else ascii(name) for name in list(values)[:_NAMES_SHOWN]]
    more = len(values) - len(shown)
    return (", ".join(shown) or "no columns") + (f" and {more} more" if more else "")


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    if isinstance(value, str):
        return "text" if value else "empty text"
    return _KINDS.get(type(value), "a number")
