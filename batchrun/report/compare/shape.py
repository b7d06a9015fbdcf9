"""The shape of a comparison, which is that of `batchrun compare --format json`: run A, run B, and B against A.

None means unknown, never zero. Texts from outside stand as they came, cut.
"""

from __future__ import annotations

from typing import Literal

import msgspec

COMPARISON_VERSION = 1

Method = Literal["bootstrap", "normal", "ranks", "score"]

SUMS = ("cost_usd", "prompt_tokens", "completion_tokens", "total_tokens")
MEANS = ("latency_s", "ttft_s")
PERCENTILES = {
    "latency_p50_s": ("latency_s", 0.50),
    "latency_p95_s": ("latency_s", 0.95),
    "ttft_p50_s": ("ttft_s", 0.50),
    "ttft_p95_s": ("ttft_s", 0.95),
}
METRICS = (*SUMS, *MEANS, *PERCENTILES, "failures", "accuracy")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two runs as a whole, its rows without a partner included.

    `rows` are those of its input, `cost_usd` is the sum of what is known, failures included. `exit_code` is that of
    its last session, None while it is going on and after a crash.
    """

    name: str
    rows: int
    succeeded: int
    failed: int
    missing: int
    models: list[str]
    endpoint: str
    simulated: bool
    exit_code: int | None
    cost_usd: float | None


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A key of the configuration in which the runs differ; the values are JSON text, cut to 200 characters."""

    key: str
    a: str
    b: str


class Pairing(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows were settled in both runs, and by what they were paired.

    `same_request_rows` of them were sent the same body by the same model. `made_up_ids`: the input has no `custom_id`,
    so that rows pair by their position.
    """

    rows: int
    by_custom_id: int
    by_request: int
    only_in_a: int
    only_in_b: int
    same_request_rows: int
    made_up_ids: bool


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A measure over the `pairs` that have a value in both runs.

    `a` and `b` are sums (dollars, tokens), means, percentiles (seconds), counts or shares, as the name says. The
    difference is b - a and the ratio b / a; `low` and `high` bound them with 95 % confidence, None where the pairs are
    too few. `significant`: the interval of the difference does not hold zero.
    """

    pairs: int
    a: float
    b: float
    difference: float
    difference_low: float | None = None
    difference_high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    significant: bool = False
    interval: Method | None = None


class MovedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row that failed in one of the runs; its texts are cut to 200 characters."""

    custom_id: str
    a_message: str | None
    b_message: str | None


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs by how they ended in A and in B: an `error_type`, or None for an answer."""

    a: str | None
    b: str | None
    rows: int
    examples: list[MovedRow]


class DifferentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What two runs answered to one row, cut to 200 characters."""

    custom_id: str
    a: str
    b: str


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs by who answered. Identical are the words, refusal and tool calls of the first choice, or the vector."""

    both: int
    identical: int
    different: int
    only_in_a: int
    only_in_b: int
    examples: list[DifferentAnswer]


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs that both runs answered and whose expected answer is known, by who answered it exactly.

    `pairs_expecting_otherwise` are left out: the two inputs expect different answers there.
    """

    column: str
    pairs: int
    both_right: int
    only_a_right: int
    only_b_right: int
    neither_right: int
    pairs_expecting_otherwise: int


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one `--fail-if`; `value` is what was held against it, None where that is not known: it fails."""

    gate: str
    failed: bool
    a: float | None
    b: float | None
    value: float | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Run B against run A; `metrics` has all of METRICS, None where no pair has both values."""

    comparison_version: int = COMPARISON_VERSION
    a: Run
    b: Run
    settings: list[Setting]
    pairing: Pairing
    metrics: dict[str, Metric | None]
    moves: list[Move]
    answers: Answers
    accuracy: Accuracy | None
    gates: list[GateResult] = []


def to_json(comparison: Comparison) -> str:
    """The comparison for programs; ends with a newline."""
    return msgspec.json.format(msgspec.json.encode(comparison), indent=2).decode() + "\n"
