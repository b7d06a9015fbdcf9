"""A JSON Schema from a file, made safe against hostile answers: nothing backtracks, nothing is fetched.

Python's `re` can take for ever on a text made for it, so patterns are searched by RE2, in time linear to the text; a
pattern that RE2 cannot take is refused when the schema is read. Equal items are found by hashing, not pair by pair.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from jsonschema import Draft3Validator, Draft4Validator, Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012, specification_with

from batchrun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema.protocols import Validator

_REFS = ("$ref", "$dynamicRef")
_SHOWN_CHARS = 200


def read_schema(path: str) -> Validator:
    """A validator for the JSON Schema (draft 6 or later) in a file.

    Raises:
        ConfigError: there is no such file, it is not JSON, no valid schema, it refers to what is not in it, or it has
            a pattern that RE2 cannot take.
    """
    schema = _read(path)
    try:
        return _validator(schema)
    except SchemaError as error:
        raise _unusable(path, f"{error.json_path}: {error.cause or error.message}", "correct that place") from error
    except Unresolvable as error:
        problem = f"it refers to {getattr(error, 'anchor', error.ref)!r}, which is not in it"
        raise _unusable(path, problem, "nothing is fetched: put that schema into `$defs` of the file") from error
    except RecursionError as error:
        problem = "it goes round in circles, or nests too deeply"
        raise _unusable(path, problem, "look at what its `$ref`s refer to") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise _unusable(path, str(error), "look at its `$schema`, `$id` and `$ref`s") from error


def _unusable(path: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError(f"{path}: is no JSON Schema that can be used: {problem[:_SHOWN_CHARS]}", remedy=remedy)


def _validator(schema: dict[str, Any]) -> Validator:
    draft: Any = validator_for(schema, default=Draft202012Validator)
    if draft in {Draft3Validator, Draft4Validator}:
        raise ValueError("it is for a draft before 6")
    checker, registry = _regex_checker(), Registry()
    specification = specification_with(schema.get("$schema", ""), default=DRAFT202012)
    root = specification.create_resource(schema)
    keywords: set[str] = set()
    for part in _schemas(root, registry.resolver_with_root(root), specification, set()):
        draft.check_schema(part, format_checker=checker)
        keywords |= part.keys()
    if {"unevaluatedProperties", "patternProperties"} <= keywords:  # the library would search these patterns with `re`
        raise ValueError("it has both unevaluatedProperties and patternProperties")
    validator: Validator = extend(draft, _KEYWORDS)(schema, registry=registry)  # type: ignore[no-untyped-call]
    any(validator.iter_errors(None))  # a schema that refers to itself is found here and not at the first answer
    return validator


def _read(path: str) -> dict[str, Any]:
    try:
        schema = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(
            f"request.validate.schema: {path}: {error.strerror}", remedy="name a file that holds a JSON Schema"
        ) from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: is not JSON: {error.msg}", remedy="correct that line") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not JSON: {error}", remedy="write it in UTF-8, nested less deeply") from error
    if not isinstance(schema, dict):
        raise _unusable(path, "it holds no object", 'write e.g. {"type": "object"}')
    return schema


def _regex_checker() -> FormatChecker:
    """What a schema has to pass where it is to hold a regular expression: RE2's own judgement."""
    checker = FormatChecker(formats=())

    @checker.checks("regex", raises=pa.ArrowInvalid)
    def _takes(pattern: object) -> bool:
        return not isinstance(pattern, str) or _matching(pattern, [""]) is not None

    return checker


def _schemas(resource: Any, resolver: Any, specification: Any, seen: set[int]) -> Iterator[dict[str, Any]]:
    """A schema and all schemas that it holds or refers to, each once; raises Unresolvable where it refers elsewhere."""
    schema = resource.contents
    if not isinstance(schema, dict) or id(schema) in seen:
        return
    seen.add(id(schema))
    yield schema
    for key in _REFS:
        if isinstance(schema.get(key), str):
            there = resolver.lookup(schema[key])
            yield from _schemas(specification.create_resource(there.contents), there.resolver, specification, seen)
    for inner in resource.subresources():
        yield from _schemas(inner, resolver.in_subresource(inner), specification, seen)


def _matching(pattern: str, texts: list[str]) -> list[bool]:
    """Which of the texts hold a match of a pattern (RE2); raises pyarrow.ArrowInvalid if it is none."""
    found: list[bool] = pc.match_substring_regex(pa.array(texts, pa.large_string()), pattern).to_pylist()
    return found


# Keywords that jsonschema would look after with `re`, or pair by pair: (validator, keyword's value, instance, schema)


def _pattern(validator: Any, pattern: str, instance: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _matching(pattern, [instance])[0]:
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, schemas: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for pattern, schema in schemas.items():
            for (name, value), found in zip(instance.items(), _matching(pattern, list(instance)), strict=True):
                if found:
                    yield from validator.descend(value, schema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, extra: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        others = [name for name in instance if name not in schema.get("properties", {})]
        for pattern in schema.get("patternProperties", {}):
            others = [name for name, found in zip(others, _matching(pattern, others), strict=True) if not found]
        for name in others:
            if extra is False:
                yield ValidationError(f"has a property {name!r}, which is not in the schema")
            else:
                yield from validator.descend(instance[name], extra, path=name)


def _unique_items(validator: Any, unique: Any, instance: Any, _: Any) -> Iterator[ValidationError]:
    if unique and validator.is_type(instance, "array") and len(set(map(_hashable, instance))) < len(instance):
        yield ValidationError("has items that are equal")


def _hashable(value: Any) -> Any:
    """A value that is equal to another's exactly where the two are equal in JSON: 1 is 1.0, and neither is true."""
    if isinstance(value, dict):
        return frozenset((name, _hashable(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    return (bool, value) if isinstance(value, bool) else value


_KEYWORDS = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
