"""Keys that nobody knows, and what was probably meant."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from batchrun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def refuse_unknown(
    root: type[msgspec.Struct], values: Mapping[str, Any], origin: str, *, also: Mapping[str, str] | None = None
) -> None:
    """Raise a ConfigError for the first key that is none of the Struct's, at any depth.

    Args:
        root: the Struct whose fields are the known keys.
        values: what was written.
        origin: where, for the message.
        also: more names to suggest, by their full key.
    """
    for path, section, key in _unknown(root, values, ""):
        everywhere = dict(_known_keys(root)) | dict(also or {})
        near = _nearest(key, section, path, everywhere)
        remedy = f"did you mean `{near}`?" if near else "known here: " + ", ".join(section.__struct_fields__)
        raise ConfigError(f"{origin}: unknown key `{path}{key}`", remedy=remedy)


def _unknown(
    section: type[msgspec.Struct], values: Mapping[str, Any], path: str
) -> Iterator[tuple[str, type[msgspec.Struct], str]]:
    fields = {field.name: _section(field.type) for field in msgspec.structs.fields(section)}
    for key, value in values.items():
        inner = fields.get(key)
        if key not in fields:
            yield path, section, str(key)
        elif inner and isinstance(value, dict):
            yield from _unknown(inner, value, f"{path}{key}.")


def _nearest(key: str, section: type[msgspec.Struct], path: str, everywhere: Mapping[str, str]) -> str | None:
    """The known key that a misspelt one is most like: one of that name anywhere, or one of its own section, or any."""
    same = {full: name for full, name in everywhere.items() if name == key}
    for known in (same, {path + name: name for name in section.__struct_fields__}, everywhere):
        near = difflib.get_close_matches(key, known.values(), n=1)
        if near:
            return next(full for full, name in known.items() if name == near[0])
    return None


def _known_keys(section: type[msgspec.Struct], path: str = "") -> Iterator[tuple[str, str]]:
    for field in msgspec.structs.fields(section):
        yield path + field.name, field.name
        if inner := _section(field.type):
            yield from _known_keys(inner, f"{path}{field.name}.")


def _section(kind: Any) -> type[msgspec.Struct] | None:
    """The Struct that a field holds, perhaps or None; None for a plain value."""
    kinds = (kind, *get_args(kind))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)), None)


def readable(message: str) -> str:
    """Turn `Expected `int`, got `str` - at `$.limits.concurrency`` into `limits.concurrency: expected int, got str`."""
    problem, _, where = message.partition(" - at ")
    problem = problem[:1].lower() + problem[1:].replace("`", "")
    where = where.strip("`").removeprefix("$").lstrip(".")
    return f"`{where}`: {problem}" if where else problem
