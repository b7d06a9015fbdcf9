"""YAML whose mappings know on which line they and their keys stand, read with the fast parser where there is one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from batchrun._yaml import Loader, parse_yaml, read_keys
from batchrun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Lined(dict[Any, Any]):
    """A mapping, and the line of it and of each of its keys; 0 where that is not known."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[Any, int] = {}


class _Loader(Loader):
    """The loader of configurations, for mappings with lines."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Iterator[Lined]:
    mapping = Lined(node.start_mark.line + 1)
    yield mapping
    mapping.update(loader.construct_mapping(node))
    mapping.lines = {key.value: key.start_mark.line + 1 for key, _ in node.value}


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Fastest: type[_Loader] = _Loader

if yaml.__with_libyaml__:
    from yaml.cyaml import CParser  # type: ignore[attr-defined]  # of a C extension

    class _Fast(CParser, _Loader):  # its methods go before those of the slow parser
        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)

    _Fastest = _Fast


def read_lined(path: str) -> Any:
    """The values of a .yaml, .yml or .json file with lines, of a .toml file without; raises ConfigError."""
    if path.endswith(".toml"):
        return read_keys(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {why}", remedy="give the path of a price file, in YAML") from error
    return parse_lined(text, path)


def parse_lined(text: str, origin: str) -> Any:
    """A YAML text; raises ConfigError that names the origin and the line."""
    try:
        return yaml.load(text, Loader=_Fastest)  # noqa: S506 (it is a SafeLoader)
    except yaml.YAMLError:
        return parse_yaml(text, origin)  # the slow parser knows better what is wrong, and where
