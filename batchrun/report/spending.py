"""The shape of tokens and money in a report; None means unknown, never zero."""

from __future__ import annotations

import msgspec


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over results and failures. Prompt tokens include cached ones, completion tokens include reasoning.

    `cached_share` (0 to 1) is of the prompt tokens of rows that say how many were cached, None if none does.
    `retried_tokens`, prompt and completion, were charged for answers that were tried again; no other figure has them.
    """

    prompt_tokens: int
    cached_tokens: int
    cached_share: float | None
    completion_tokens: int
    reasoning_tokens: int
    total_tokens: int
    retried_tokens: int
    rows_without_usage: int
    rows_with_estimated_usage: int


class ModelCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one requested model used; `cost_usd` is None if no row of it has a known cost."""

    model: str
    rows: int
    unpriced_rows: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


class GroupCost(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows of one group used, failures included; `cost_usd` is None if no row of it has a known cost."""

    name: str
    rows: int
    failed: int
    unpriced_rows: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


class Breakdown(msgspec.Struct, frozen=True, kw_only=True):
    """The groups of an input column that the run kept, the dearest first; past 100 values the rest is `(other)`."""

    column: str
    groups: list[GroupCost]


class HourlyCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployment cost that is paid by the hour, if it was up while sessions were going on and no longer."""

    deployment: str
    usd_per_hour: float
    wall_s: float
    cost_usd: float


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Exact sums of the rows' costs, failures included.

    `cost_partial`: something is missing in it, because a model has no price or the endpoint stated no usage: of a row,
    or of `unsettled_attempts`, which timed out or broke off before another one and may be charged. `cost_high_usd` is
    what it came to if none of that cost more than the dearest row of its model; None where that is not known. The two
    means are over the successes whose cost is known, and carry the failures' cost too.

    No other figure has these: `by_hour`, the deployments whose time is paid in place of the tokens of `hourly_rows`,
    which are not unpriced; and `guessed_usd`, what all rows of `guessed_models`, which are, would cost by the sizes in
    the models' names.
    """

    cost_usd: float | None
    cost_high_usd: float | None
    cost_partial: bool
    unsettled_attempts: int
    failures_cost_usd: float | None
    mean_usd_per_row: float | None
    usd_per_1000_rows: float | None
    saved_by_caching_usd: float | None
    unpriced_rows: int
    unpriced_models: list[str]
    by_model: list[ModelCost]
    hourly_rows: int = 0
    by_hour: list[HourlyCost] = []
    guessed_usd: float | None = None
    guessed_models: list[str] = []


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What some attempts were charged for, those that were tried again included; `rows` were settled by them.

    `cost_partial`: the answers of `rows_without_usage` are not in it, nor those of `unpriced_rows`.
    """

    rows: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_usd: float | None
    cost_partial: bool
    rows_without_usage: int
    unpriced_rows: int
    unpriced_models: list[str]


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """The bill of the same tokens under other prices.

    `difference_usd` is how much more that is than `compared_usd`, which the rows cost that have a price in both.
    """

    prices: str
    bill: Bill
    compared_usd: float
    difference_usd: float
