"""What the simulated endpoint is like: how slow, how long-winded, how strict, and what goes wrong with it."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from batchrun._yaml import read_keys
from batchrun.errors import ConfigError

Share = Annotated[float, Meta(ge=0, le=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
PositiveInt = Annotated[int, Meta(ge=1)]

FaultKind = Literal[
    "rate_limited",  # 429
    "overloaded",  # 503
    "server_error",  # 500, or `status`
    "auth",  # 401
    "redirect",  # 307 to another path of this server
    "html",  # a page instead of JSON: 200, or `status`
    "reset_before_answer",  # all below worked on the request, so all below are charged
    "reset",
    "truncated",
    "bad_json",
    "empty",
    "no_choices",
    "error_in_200",
    "slow",
    "silent",
    "close_silently",  # a whole answer, but the next request on its connection finds that closed
]


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Medians of two log-normal draws, and their common sigma (0: always the median)."""

    ttft_s: NotNegative = 0.7
    per_token_s: NotNegative = 0.005
    sigma: NotNegative = 0.3


class Answers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The lengths of reasoning, and of an answer that no list of labels and no schema decides: log-normal draws."""

    tokens: PositiveInt = 80
    reasoning_tokens: PositiveInt = 60
    sigma: NotNegative = 0.4


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is refused with 429. The minute is a sliding window; `window_s` shortens it, budgets in proportion."""

    requests_per_minute: Positive | None = None
    prompt_tokens_per_minute: Positive | None = None
    generated_tokens_per_minute: Positive | None = None
    concurrency: PositiveInt | None = None
    retry_after_s: NotNegative | None = None
    window_s: Positive = 60


class Stream(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Habits of servers in streaming: where usage stands, how a stream ends, and what may stand between its events."""

    usage: Literal["asked", "last", "own_chunk", "every_chunk", "never"] = "asked"
    stream_options: Literal["accepted", "rejected"] = "accepted"
    done: bool = True
    role_chunk: bool = True
    comments: bool = False
    crlf: bool = False


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that goes wrong, and with which requests: all conditions that are given must hold.

    `match` is a regular expression searched in the body. `first` and `every` count the requests that `match`;
    `tries` counts requests with the same body, so that `tries: 1` fails each row once.
    """

    kind: FaultKind
    probability: Share = 1
    first: PositiveInt | None = None
    every: PositiveInt | None = None
    tries: PositiveInt | None = None
    match: str | None = None
    status: Annotated[int, Meta(ge=200, le=599)] | None = None
    seconds: NotNegative = 30
    retry_after_s: NotNegative | None = None


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be said about the simulated endpoint; the default is a well-behaved one of usual speed."""

    seed: int = 0
    context_tokens: PositiveInt = 131_072
    keep_alive_s: Positive = 75
    strict: bool = True
    gzip: bool = False
    latency: Latency = Latency()
    answers: Answers = Answers()
    limits: Limits = Limits()
    stream: Stream = Stream()
    faults: list[Fault] = []


def load_scenario(path: str | None) -> Scenario:
    """Read a scenario from YAML; None is the default one.

    Raises:
        ConfigError: the file cannot be read, or a key or value in it is not one of ours.
    """
    if path is None:
        return Scenario()
    values = read_keys(path)
    try:
        scenario = msgspec.convert(values, Scenario)
        for fault in scenario.faults:
            re.compile(fault.match or "")
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_lowered(str(error))}", remedy=_remedy(str(error))) from error
    except re.error as error:
        remedy = "write a Python regular expression"
        raise ConfigError(f"{path}: faults: match {error.pattern!r}: {error}", remedy=remedy) from error
    return scenario


def _lowered(message: str) -> str:
    """Turn `Expected `float`, got `str` - at `$.latency.ttft_s`` into `expected float, got str at latency.ttft_s`."""
    problem, _, where = message.replace("`", "").partition(" - at $")
    return problem[:1].lower() + problem[1:] + (f" at {where.lstrip('.')}" if where else "")


def _remedy(message: str) -> str:
    unknown = re.search(r"unknown field `(.+?)`", message)
    if unknown is None:
        return "correct that key and start it again"
    sections = (Scenario, Latency, Answers, Limits, Stream, Fault)
    known = {name for section in sections for name in section.__struct_fields__}
    near = difflib.get_close_matches(unknown[1], known, n=1)
    return f"did you mean `{near[0]}`?" if near else "remove that key and start it again"
