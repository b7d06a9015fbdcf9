"""What a run is asked to do: loaded from YAML or TOML, overridden by options, and checked before anything happens.

The Structs below are the reference: their fields are the keys of a configuration file, their defaults its defaults.
"""

from __future__ import annotations

import math
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from batchrun._contradictions import refuse_contradictions
from batchrun._keys import readable, refuse_unknown
from batchrun._yaml import parse_yaml, read_keys
from batchrun.address import SIMULATED, is_fireworks, normal_base_url
from batchrun.errors import ConfigError
from batchrun.types import Api

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

DEFAULT_PARAMS: dict[str, Any] = {"max_tokens": 512, "temperature": 0}
_PARAM_KEYS = {f"request.params.{name}": name for name in DEFAULT_PARAMS}

Positive = Annotated[float, Meta(gt=0)]
PositiveInt = Annotated[int, Meta(ge=1)]


class EndpointConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where requests go. `base_url` is kept in one spelling: see `normal_base_url`.

    `proxy` is an http URL, or `env` for the one that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name; `ca_file` holds
    certificate authorities (PEM) that are trusted in place of the system's.
    """

    base_url: str = "https://api.fireworks.ai/inference/v1"
    api_key_env: str | None = "FIREWORKS_API_KEY"
    api: Api = "chat"
    headers: dict[str, str] = {}
    proxy: str | None = None
    ca_file: str | None = None

    @property
    def simulated(self) -> bool:
        """Whether the embedded endpoint answers."""
        return self.base_url == SIMULATED

    @property
    def is_fireworks(self) -> bool:
        """Whether Fireworks itself answers."""
        return is_fireworks(self.base_url)


class StopStreamConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a stream is closed early: any of the rules is enough.

    `pattern` is searched in the visible text (RE2 syntax: no lookaround, no backreference); `max_chars` of it suffice;
    `json_complete`: its first JSON object or list has ended; `repetition`: it ends in one piece so many times over.
    """

    pattern: str | None = None
    max_chars: PositiveInt | None = None
    json_complete: bool = False
    repetition: Annotated[int, Meta(ge=2, le=1000)] | None = None


class ValidateConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an answer has to be: JSON, or JSON that fits the JSON Schema in a file."""

    json: bool = False
    schema: str | None = None


class RequestConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a prompt becomes on the wire, and what an answer has to be.

    `stream: auto` streams where it is needed: for more than 4,096 tokens, with `stop_stream` or with `measure_ttft`.
    """

    model: str | None = None
    system: str | None = None
    template: str | None = None
    params: dict[str, Any] = msgspec.field(default_factory=DEFAULT_PARAMS.copy)
    stream: Literal["auto", "always", "never"] = "auto"
    measure_ttft: bool = False
    stop_stream: StopStreamConfig | None = None
    validate: ValidateConfig | None = None


class LimitsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much at once, how much a minute, how much money."""

    concurrency: Annotated[int, Meta(ge=1, le=100_000)] = 64
    adaptive: bool = True
    requests_per_minute: Positive | None = None
    prompt_tokens_per_minute: Positive | None = None
    uncached_prompt_tokens_per_minute: Positive | None = None
    generated_tokens_per_minute: Positive | None = None
    max_cost_usd: Positive | None = None


class RetryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a request whose outcome is unknown is tried, and how long a Retry-After is obeyed."""

    max_attempts: PositiveInt = 4
    max_wait_s: Positive = 300


class TimeoutsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every wait has an end."""

    connect_s: Positive = 10
    first_byte_s: Positive = 300
    idle_s: Positive = 60
    attempt_s: Positive = 600
    row_s: Positive = 3600
    stall_s: Positive = 900
    grace_s: Annotated[float, Meta(ge=0)] = 20


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How results reach the disk."""

    flush_ms: Annotated[float, Meta(ge=1, le=60_000)] = 50
    part_mb: Positive = 64
    part_minutes: Positive = 10
    keep_response: bool = True


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run."""

    input: str
    output: str = "runs/{name}"
    endpoint: EndpointConfig = EndpointConfig()
    request: RequestConfig = RequestConfig()
    limits: LimitsConfig = LimitsConfig()
    retry: RetryConfig = RetryConfig()
    timeouts: TimeoutsConfig = TimeoutsConfig()
    store: StoreConfig = StoreConfig()
    keep_columns: list[str] = []
    prices: str | None = None
    tokenizer: str | None = None


def load_config(
    path: str | None = None, *, overrides: Mapping[str, Any] | None = None, sets: Iterable[str] = ()
) -> Config:
    """Read a configuration file and put options over it.

    Args:
        path: a .yaml, .yml or .toml file; None for the defaults alone.
        overrides: values by dotted key (`limits.concurrency`); None means "not given".
        sets: `KEY=VALUE` texts, the value in YAML; they win over `overrides`.

    Raises:
        ConfigError: the file cannot be read, or a key or value is not one of ours.
    """
    values = read_keys(path) if path else {}
    for key, value in (overrides or {}).items():
        if value is not None:
            _put(values, key, value)
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {text!r}: not KEY=VALUE", remedy="write e.g. --set limits.concurrency=32")
        _put_checked(values, key.strip(), parse_yaml(value, "--set " + key))
    return check_config(values, origin=path or "configuration")


def check_config(values: Mapping[str, Any], *, origin: str = "configuration") -> Config:
    """Turn plain values into a `Config`, or say which key is wrong. `{name}` and `{date}` of `output` are filled in."""
    values = _with_defaults(values, origin)
    if not values.get("input"):
        raise ConfigError(
            f"{origin}: no input is named",
            remedy="batchrun run prompts.jsonl -m MODEL -o OUT, or `input: prompts.jsonl` in the configuration",
        )
    config = _convert(values, origin)
    config = msgspec.structs.replace(
        config,
        output=_fill_in(config.output, origin, config.input),
        endpoint=msgspec.structs.replace(config.endpoint, base_url=normal_base_url(config.endpoint.base_url)),
    )
    refuse_contradictions(config, origin)
    return config


def merge_params(params: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Put parameters over others: a null takes one away, and the two names of the token limit replace each other."""
    merged = {**params, **over}
    if over.get("max_completion_tokens") is not None and "max_tokens" not in over:
        merged.pop("max_tokens", None)
    if over.get("max_tokens") is not None and "max_completion_tokens" not in over:
        merged.pop("max_completion_tokens", None)
    return {name: value for name, value in merged.items() if value is not None}


def read_config(config: Config | Mapping[str, Any] | str | Path) -> Config:
    """A configuration however it is given: as a `Config`, as keys and values, or as the path of a file."""
    if isinstance(config, str | Path):
        return load_config(str(config))
    if not isinstance(config, Config):
        return check_config(config)
    values = msgspec.to_builtins(config)
    if config.endpoint.api_key_env == EndpointConfig().api_key_env:
        del values["endpoint"]["api_key_env"]  # a default: it holds for Fireworks only
    return check_config(values)


def read_key(endpoint: EndpointConfig) -> str | None:
    """The key from the variable that `api_key_env` names; None where none is needed.

    Raises:
        ConfigError: the variable is not set, or holds what cannot be a key. The key itself is in no message.
    """
    name = endpoint.api_key_env
    if name is None or endpoint.simulated:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(
            f"the key for {endpoint.base_url} is missing: the environment variable {name} is not set",
            remedy=f"export {name}=…, or set endpoint.api_key_env: null if the endpoint needs no key, "
            "or endpoint.base_url: simulated to try without one",
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{name} does not hold a key", remedy="look for quotes, spaces or line ends around it")
    return key


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *outer, last = key.split(".")
    for name in outer:
        inner = values.get(name)
        if inner is None:
            inner = values[name] = {}
        elif not isinstance(inner, dict):
            remedy = "look at the keys in configs/fireworks.yaml"
            raise ConfigError(f"{key}: `{name}` has no keys of its own", remedy=remedy)
        values = inner
    values[last] = value


def _put_checked(values: dict[str, Any], key: str, value: Any) -> None:
    """Put one `--set` in; what is wrong with it is blamed on it and not on the file."""
    alone: dict[str, Any] = {}
    _put(alone, key, value)
    refuse_unknown(Config, alone, "--set", also=_PARAM_KEYS)
    _convert({"input": "-", **alone}, "--set")
    _put(values, key, value)


def _convert(values: Mapping[str, Any], origin: str) -> Config:
    try:
        config = msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        said = readable(str(error))
        remedy = "write dollars, more than 0: 5 or 2.50" if "max_cost_usd" in said else "correct that value"
        raise ConfigError(f"{origin}: {said}", remedy=remedy) from error
    for key, value in _numbers(values):
        if not math.isfinite(value):
            raise ConfigError(f"{origin}: `{key}`: {value} is not a number to go by", remedy="write a finite number")
    return config


def _numbers(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{path}{key}.")
        elif isinstance(value, float):
            yield f"{path}{key}", value


def _with_defaults(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Check the keys and put in the defaults that depend on other keys."""
    refuse_unknown(Config, values, origin, also=_PARAM_KEYS)
    values = dict(values)
    endpoint, request = values.get("endpoint"), values.get("request")
    if isinstance(endpoint, dict) and endpoint.get("api") == "embeddings":  # neither has a meaning there
        values["request"] = request = {"params": {}, **request} if isinstance(request, dict) else {"params": {}}
    elif isinstance(request, dict) and isinstance(request.get("params"), dict):
        values["request"] = {**request, "params": merge_params(DEFAULT_PARAMS, request["params"])}
    if isinstance(endpoint, dict) and "api_key_env" not in endpoint:
        base_url = str(endpoint.get("base_url", EndpointConfig().base_url))
        if not is_fireworks(base_url):  # a key for Fireworks is nobody else's business
            values["endpoint"] = {**endpoint, "api_key_env": None}
    return values


def _fill_in(output: str, origin: str, source: str) -> str:
    stem = Path(origin if origin.endswith((".yaml", ".yml", ".toml")) else source).name.split(".")[0]
    fields = {"name": stem if stem not in {"", "-"} else "stdin", "date": datetime.now(UTC).date().isoformat()}
    return re.sub(r"\{(name|date)\}", lambda match: fields[match[1]], output)
