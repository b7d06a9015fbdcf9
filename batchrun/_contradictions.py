"""What a configuration must not say, although each key of it is one of ours."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from glob import has_magic
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from batchrun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchrun.config import Config, LimitsConfig, RequestConfig, StopStreamConfig

_PER_MINUTE = (
    "requests_per_minute",
    "prompt_tokens_per_minute",
    "uncached_prompt_tokens_per_minute",
    "generated_tokens_per_minute",
)
_WRITTEN = (
    "run.json",
    "results/part-000000-000000.parquet",
    "failures/part-000000-000000.parquet",
    "report/summary.json",
    "_manifest/00000000000000000000.json",
)
"""What is found in a run folder: under these names readers of prompts could take it for an input."""

_LEAST_REQUESTS, _MOST_PER_MINUTE = 0.01, 1e12
_SECRET_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "cookie", "proxy-authorization"})


def refuse_contradictions(config: Config, origin: str) -> None:
    """Raise ConfigError for values that cannot be right, or not together."""
    for name in config.endpoint.headers:
        if name.lower() in _SECRET_HEADERS:
            raise ConfigError(
                f"{origin}: `endpoint.headers.{name}` would put a secret into a file",
                remedy="put the key into an environment variable and name it in endpoint.api_key_env",
            )
    for key in ("messages", "prompt", "input", "turns", "model", "stream"):
        if key in config.request.params:
            remedy = "set request.stream" if key == "stream" else "remove it"
            raise ConfigError(f"{origin}: `request.params.{key}` is not a sampling parameter", remedy=remedy)
    if not config.output.strip():
        raise ConfigError(f"{origin}: `output` is empty", remedy="name a folder: -o runs/first")
    if config.endpoint.proxy is not None and config.endpoint.proxy != "env":
        _refuse_proxy(config.endpoint.proxy, origin)
    if config.request.system is not None and config.endpoint.api != "chat":
        remedy = "remove it, or set endpoint.api: chat"
        raise ConfigError(f"{origin}: `request.system` has no meaning under api {config.endpoint.api}", remedy=remedy)
    _refuse_overlap(config, origin)
    _refuse_stream(config.request, origin, api=config.endpoint.api)
    _refuse_absurd(config.limits, origin)


def _refuse_overlap(config: Config, origin: str) -> None:
    """The input must not lie in the run folder, nor may a glob match what is going to be written there."""
    if config.input == "-":
        return
    source = os.path.expanduser(config.input)  # noqa: PTH111 (those of Path may raise)
    output = Path(os.path.realpath(config.output))
    names = Path(source).parts
    literal = os.path.exists(source)  # noqa: PTH110
    fixed = names if literal else list(takewhile(lambda name: not has_magic(name), names))
    start, pattern = Path(os.path.realpath(Path(*fixed))), names[len(fixed) :]
    written = [output / name for name in _WRITTEN] if pattern else []
    ours = [path.relative_to(start).parts for path in written if path.is_relative_to(start)]
    if start.is_relative_to(output) or any(_matches(path, pattern) for path in ours):
        raise ConfigError(
            f"{origin}: the input {config.input} and the run folder {config.output} lie in one another",
            remedy="name another folder with -o, or a narrower input",
        )


def _matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a recursive glob matches a path; `**` stands for any number of folders."""
    if not names or not pattern:
        return not names and set(pattern) <= {"**"}
    if pattern[0] == "**":
        return _matches(names, pattern[1:]) or (_matches_name(names[0], "*") and _matches(names[1:], pattern))
    return _matches_name(names[0], pattern[0]) and _matches(names[1:], pattern[1:])


def _matches_name(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) and (not name.startswith(".") or pattern.startswith("."))


def _refuse_absurd(limits: LimitsConfig, origin: str) -> None:
    """Limits under which nothing would move, or that no endpoint has: most likely a slip of the hand."""
    for name in _PER_MINUTE:
        value, least = getattr(limits, name), _LEAST_REQUESTS if name == "requests_per_minute" else 1.0
        if value is not None and not least <= value <= _MOST_PER_MINUTE:
            remedy = f"write a number from {least:g} to {_MOST_PER_MINUTE:,.0f}, or null for no limit"
            raise ConfigError(f"{origin}: `limits.{name}: {value:g}` cannot be meant", remedy=remedy)


def _refuse_proxy(proxy: str, origin: str) -> None:
    try:
        parts = urlsplit(proxy)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        remedy = "write e.g. http://proxy.example:3128, or `env` for what HTTPS_PROXY and NO_PROXY say"
        raise ConfigError(f"{origin}: `endpoint.proxy: {proxy}` is not an http URL", remedy=remedy)
    if parts.username or parts.password:
        remedy = "put that URL into the environment variable HTTPS_PROXY and write `proxy: env`"
        raise ConfigError(f"{origin}: `endpoint.proxy` would put a password into a file", remedy=remedy)


def _refuse_stream(request: RequestConfig, origin: str, *, api: str) -> None:
    wishes = {"stop_stream": request.stop_stream is not None, "measure_ttft": request.measure_ttft}
    wishes["stream: always"] = request.stream == "always"
    if request.validate is not None and api == "embeddings":
        raise ConfigError(f"{origin}: `request.validate` has no meaning under api embeddings", remedy="remove it")
    for key, wanted in wishes.items():
        if wanted and api == "embeddings":
            raise ConfigError(f"{origin}: `request.{key}` needs a stream, and embeddings have none", remedy="remove it")
        if wanted and request.stream == "never":
            remedy = "set request.stream: auto"
            raise ConfigError(
                f"{origin}: `request.{key}` and `request.stream: never` exclude each other", remedy=remedy
            )
    if request.stop_stream is not None:
        _refuse_stop(request.stop_stream, origin)


def _refuse_stop(stop: StopStreamConfig, origin: str) -> None:
    if stop == type(stop)():
        remedy = "give it pattern, max_chars, json_complete or repetition, or remove it"
        raise ConfigError(f"{origin}: `request.stop_stream` has no rule", remedy=remedy)
    if stop.pattern is None:
        return
    import pyarrow as pa
    from pyarrow import compute

    if not stop.pattern:
        raise ConfigError(f"{origin}: `request.stop_stream.pattern` is empty", remedy="write one, or remove it")
    try:
        compute.match_substring_regex(pa.scalar(""), stop.pattern)
    except pa.ArrowInvalid as error:
        raise ConfigError(
            f"{origin}: `request.stop_stream.pattern`: {error}",
            remedy="correct it; RE2 syntax holds, without lookaround and backreferences",
        ) from error
