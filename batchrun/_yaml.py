"""Files of keys and values: YAML as people mean it (a key stands once, `1e-3` is a number), or TOML."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from batchrun.errors import ConfigError


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, less its two traps (the last of two equal keys wins; `1e-3` is text)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """Build a mapping, or say which key stands twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key {key.value!r} stands twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"),
    list("-+0123456789."),
)


def read_keys(path: str) -> dict[str, Any]:
    """The keys and values of a .yaml, .yml or .toml file; raises ConfigError with the path, and the line if known."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {why}", remedy="give the path of a .yaml or .toml file") from error
    if path.endswith(".toml"):
        import tomllib

        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: not TOML: {error}", remedy="correct it and run it again") from error
    values = parse_yaml(text, path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise ConfigError(f"{path}: holds a {kind}, not keys", remedy="write e.g. `input: prompts.jsonl`")
    return values


def parse_yaml(text: str, origin: str) -> Any:
    """A YAML text as Python values; raises ConfigError that names the origin and the line."""
    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506 (it is a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{origin}:{mark.line + 1}" if mark else origin
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise ConfigError(f"{where}: not YAML: {problem}", remedy="correct that line and run it again") from error
