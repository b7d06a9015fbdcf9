"""Values that fit a JSON schema, as far as its commonest words say what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchrun.simulated.refusals import bad_request

if TYPE_CHECKING:
    from random import Random

MAX_DEPTH = 16
"""A schema that contains itself has to end."""


def fitting(schema: Any, draw: Random) -> Any:
    """Draw a value for `$ref`, `anyOf`, `const`, `enum`, `type`, `properties`, `items`, `minimum` and `maximum`.

    Raises:
        Refusal: 400, what stands there is no schema.
    """
    try:
        return _value(schema, draw, schema, 0)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise bad_request(f"Invalid JSON schema: {error}") from error


def _value(schema: Any, draw: Random, root: Any, depth: int) -> Any:
    schema = _chosen(schema, root)
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return "simulated"
    if "const" in schema:
        return schema["const"]
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return draw.choice(schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties") or {"simulated": {"const": True}}
        return {name: _value(inner, draw, root, depth + 1) for name, inner in properties.items()}
    if kind == "array":
        return [_value(schema.get("items"), draw, root, depth + 1)]
    return _scalar(kind, schema, draw)


def _scalar(kind: Any, schema: dict[str, Any], draw: Random) -> Any:
    integer, number, boolean = draw.randrange(10), round(draw.random(), 3), draw.random() < 1 / 2
    if kind in {"integer", "number"}:
        drawn = integer if kind == "integer" else number
        return max(schema.get("minimum", drawn), min(schema.get("maximum", drawn), drawn))
    return {"boolean": boolean, "null": None}.get(kind, "simulated")


def _chosen(schema: Any, root: Any) -> Any:
    """Follow `$ref`, and of `anyOf` take null if it is one, else the first."""
    for _ in range(MAX_DEPTH):
        if not isinstance(schema, dict) or not {"$ref", "anyOf"} & schema.keys():
            break
        if "anyOf" in schema:
            schema = {"type": "null"} if {"type": "null"} in schema["anyOf"] else schema["anyOf"][0]
        else:
            names, schema = str(schema["$ref"]).split("/")[1:], root
            for name in names:
                schema = schema.get(name) if isinstance(schema, dict) else None
    return schema
