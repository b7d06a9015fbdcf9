"""The shape of a report, which is the shape of report/summary.json: counts, sums, dollars and seconds.

None means unknown, never zero. Times of day are whole microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import inspect
import json
import re

import msgspec

from batchrun.pricing import Tier
from batchrun.report.measures import Distribution, Latency, PerRow, SlowRow, Spread, Throughput, Timeline
from batchrun.report.spending import Bill, Breakdown, Cost, GroupCost, ModelCost, Tokens, WhatIf

__all__ = [
    "SUMMARY_VERSION",
    "Answers",
    "Bill",
    "Breakdown",
    "Client",
    "Cost",
    "Distribution",
    "FailureExample",
    "FailureGroup",
    "GroupCost",
    "Latency",
    "ModelCost",
    "PerRow",
    "Report",
    "Retries",
    "Rows",
    "RunFacts",
    "Session",
    "SlowRow",
    "Spread",
    "Throughput",
    "Timeline",
    "Tokens",
    "WhatIf",
    "to_json",
    "to_schema",
]

SUMMARY_VERSION = 1
"""It rises when a name goes or changes its meaning; new names may come at any time."""

_NUMBERS = re.compile(r"\[\n\s+((?:[-+.\deE]+,\n\s+)*[-+.\deE]+)\n\s+\]")


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One go at a run. `ended_at` is None while it is going on, and after a crash.

    `limited_s` are seconds by what bound them, `ceilings` how many requests might be in flight, from which second on.
    """

    started_at: int
    ended_at: int | None = None
    exit_code: int | None = None
    cause: str = ""
    requests: int | None = None
    free_retries: int | None = None
    throttled: int | None = None
    mended: int | None = None
    limited_s: dict[str, float] = {}
    ceilings: list[tuple[float, int]] = []
    loop_lag_p99_s: float | None = None
    loop_lag_max_s: float | None = None
    wall_s: float | None = None


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a report needs to know that is not in the records; `rows` counts the input's.

    `concurrency` is how many requests the user allowed to be in flight, in the last session. `replaced_rows` were
    answered for an earlier input and are in no other figure; they cost `replaced_cost_usd`. `tier` is what the
    configuration asks for.
    """

    name: str
    rows: int | None = None
    concurrency: int | None = None
    models: list[str] = []
    endpoint: str = ""
    simulated: bool = False
    tier: Tier = "standard"
    price_date: str | None = None
    price_source: str | None = None
    sessions: list[Session] = []
    replaced_rows: int = 0
    replaced_cost_usd: float = 0.0


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of the input; those `missing` have neither a result nor a failure yet."""

    total: int | None
    succeeded: int
    failed: int
    missing: int | None


class FailureExample(msgspec.Struct, frozen=True, kw_only=True):
    """One failed row; its texts are cut to 200 characters."""

    custom_id: str
    message: str


class FailureGroup(msgspec.Struct, frozen=True, kw_only=True):
    """The failures of one `error_type`, with its share of all failures (0 to 1)."""

    error_type: str
    rows: int
    share: float
    examples: list[FailureExample]


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts that brought no result are wasted, and what the endpoint charged for them is: tokens and dollars.

    `requests`, `free_retries` and `throttled` are what sessions counted, None if none did. `wasted_cost_usd` is None
    where a wasted answer has no price; attempts that broke off are in `Cost.unsettled_attempts`.
    """

    rows_retried: int
    attempts: int
    attempts_wasted: int
    requests: int | None
    free_retries: int | None
    throttled: int | None
    wasted_prompt_tokens: int = 0
    wasted_completion_tokens: int = 0
    wasted_cost_usd: float | None = None


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """How answers ended.

    `reasoning_overflow`: cut off with every completion token spent on reasoning. `empty`: came without content, which
    makes them failures. `mended`: held what no column can, and have U+FFFD or null there; None where no session
    counted them.
    """

    finish_reasons: dict[str, int]
    truncated: int
    reasoning_overflow: int
    empty: int = 0
    mended: int | None = None


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """The worst loop lag of all sessions; past 0.1 s (p99) this machine, not the endpoint, was the bottleneck."""

    loop_lag_p99_s: float | None
    loop_lag_max_s: float | None
    client_bound: bool


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to. `limited` has what bound it, the largest first, as shares (0 to 1) of the time measured.

    `last_session` is the part of the whole that was charged since the last of several sessions began. `slowest` are at
    most 10 successes, the slowest first. `by_tier` has a group for each service tier, `by_column` one for each value
    of the input column that was asked for. `time_s` is where the rows' time went, by phase in the order of a row's
    life and summed over all rows; `time_shares` are the same as shares (0 to 1). See PHASES.
    """

    summary_version: int = SUMMARY_VERSION
    run: RunFacts
    first_started_at: int | None
    last_finished_at: int | None
    rows: Rows
    failures: list[FailureGroup]
    tokens: Tokens
    cost: Cost
    by_tier: list[GroupCost] = []
    by_column: Breakdown | None = None
    last_session: Bill | None = None
    what_if: WhatIf | None = None
    latency: Latency
    per_row: PerRow = PerRow()
    throughput: Throughput
    time_s: dict[str, float] = {}
    time_shares: dict[str, float] = {}
    slowest: list[SlowRow] = []
    timeline: Timeline | None = None
    retries: Retries
    answers: Answers
    limited: dict[str, float]
    client: Client


def to_json(report: Report) -> bytes:
    """Indented JSON in pure ASCII: no text from outside can steer the terminal that prints it, and none is changed.

    A list of numbers is one line.
    """
    text = json.dumps(msgspec.to_builtins(report), indent=2, ensure_ascii=True, allow_nan=False)
    text = _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)  # no string has a raw line break
    return text.encode("ascii") + b"\n"


def to_schema() -> bytes:
    """The JSON schema of what to_json writes, which is shipped as report/summary.schema.json."""
    schema = msgspec.json.schema(Report)
    for shape in schema["$defs"].values():
        shape["description"] = inspect.cleandoc(shape["description"])
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "report/summary.json of a run folder"}
    return json.dumps(head | schema, indent=2, ensure_ascii=True).encode("ascii") + b"\n"
