"""What the rows of one model will take: tokens as the answers in the folder, a tokenizer or a guess have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import numpy as np

from batchrun.forecast.ranges import Range, around, exactly
from batchrun.pricing import Tier, cost_nano_usd
from batchrun.types import Usage

if TYPE_CHECKING:
    from batchrun.forecast.tokenizer import Counted
    from batchrun.pricing import Price

UNLIMITED = 0xFFFFFFFF
"""Stands for the token limit of a request that sets none."""

LEAST_LEARNT = 20
_BYTES_PER_TOKEN = (6.0, 4.0, 2.0)
"""Of a prompt nobody has counted the tokens of, which has one at least: few, likely, many tokens."""

_LIKELY_GENERATED = 512

Source = Literal["guess", "answers", "tokenizer", "tokenizer and answers"]


class ModelForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What the open rows of one model, in one tier, will take; `learnt_from` answers of it (0: a guess).

    `requests` counts each turn of a conversation. `prompt_tokens_by` says what the prompt's tokens rest on.
    `unlimited_rows` set no token limit, so that `completion_tokens.high` and `cost_usd.high` do not hold for them; of
    `image_rows` the images are in no figure. A `price_guessed` follows from the size in the model's name. A model on a
    deployment has `usd_per_hour` in place of a cost.
    """

    model: str
    tier: Tier
    rows: int
    requests: int
    prompt_tokens: Range
    prompt_tokens_by: Source
    cached_share: float
    completion_tokens: Range
    cost_usd: Range | None
    price_guessed: bool
    usd_per_hour: float | None
    learnt_from: int
    latency_s: float | None
    unlimited_rows: int
    image_rows: int


class Rows(NamedTuple):
    """By row: the bytes of its prompts, how many tokens an answer may have, how many requests it takes.

    All turns of a conversation are in the bytes, without their answers. `frame_bytes` of one request are no text.
    """

    prompt_bytes: np.ndarray
    most: np.ndarray
    calls: np.ndarray
    counted: Counted | None
    frame_bytes: int

    def of(self, rows: np.ndarray) -> Rows:
        """Those of some rows, in 64 bits for arithmetic."""
        prompt_bytes, most, calls = (column[rows].astype(np.int64) for column in self[:3])
        return Rows(prompt_bytes, most, calls, self.counted.of(rows) if self.counted else None, self.frame_bytes)


class Learnt(NamedTuple):
    """What answers of one model took, by answer, and the rows that they answered; seconds of those that are known."""

    prompt_tokens: np.ndarray
    completion_tokens: np.ndarray
    rows: Rows
    cached_share: float
    latency_s: float | None

    @property
    def answers(self) -> int:
        """How many answers there are to learn from, none where they are too few."""
        return len(self.prompt_tokens) if len(self.prompt_tokens) >= LEAST_LEARNT else 0


def of_tokens(rows: Rows, learnt: Learnt) -> tuple[Range, Source, Range]:
    """The prompts' tokens, what that rests on, and the answers' tokens."""
    known = learnt.answers > 0
    generated = _as_learnt(rows, learnt) if known else _guessed(rows)
    if rows.counted:
        prompt = _counted(rows, rows.counted, learnt if known else None, generated)
        if prompt:
            return prompt, "tokenizer and answers" if known else "tokenizer", generated
    if known:
        rates = learnt.prompt_tokens / np.maximum(learnt.rows.prompt_bytes, 1)
        return around(rates, len(rows.calls), float(rows.prompt_bytes.sum())), "answers", generated
    text_bytes = rows.prompt_bytes - rows.frame_bytes * rows.calls
    few, likely = (float(np.maximum(text_bytes / each, rows.calls).sum()) for each in _BYTES_PER_TOKEN[:2])
    most = float(rows.prompt_bytes.sum()) / _BYTES_PER_TOKEN[2]
    return (
        Range(low=few, likely=likely, high=most) + _answers_asked_again(rows, generated),
        "guess",
        generated,
    )


def cost_of(prompt: Range, generated: Range, cached_shares: Range, price: Price, tier: Tier) -> Range | None:
    """What such tokens cost; None where the price of the tier is not known. `cached_shares.low` is for the low end."""

    def usd(which: str) -> float | None:
        tokens = getattr(prompt, which)
        usage = Usage(
            prompt_tokens=round(tokens),
            cached_tokens=round(tokens * getattr(cached_shares, which)),
            completion_tokens=round(getattr(generated, which)),
        )
        nano_usd = cost_nano_usd(usage, price, tier=tier)
        return None if nano_usd is None else nano_usd / 1e9

    low, likely, high = usd("low"), usd("likely"), usd("high")
    return None if low is None or likely is None or high is None else Range(low=low, likely=likely, high=high)


def cached_shares(learnt: Learnt) -> Range:
    """Which share of the prompts may be cached: the largest for the lowest cost; all or nothing where nobody knows."""
    if not learnt.answers:
        return Range(low=1.0, likely=0.0, high=0.0)
    share = learnt.cached_share
    return Range(low=min(1.0, 1.5 * share), likely=share, high=share / 2)


def _as_learnt(rows: Rows, learnt: Learnt) -> Range:
    a_call = learnt.completion_tokens / np.maximum(learnt.rows.calls, 1)
    generated = around(a_call, len(rows.calls), float(rows.calls.sum()))
    if (rows.most == UNLIMITED).any():
        return generated
    return generated.at_most(float((rows.most * rows.calls).sum()))


def _guessed(rows: Rows) -> Range:
    most = np.where(rows.most == UNLIMITED, _LIKELY_GENERATED, rows.most)
    few, some = np.minimum(most, 1), np.minimum(most / 2, _LIKELY_GENERATED)
    return Range(
        **{
            name: float((tokens * rows.calls).sum())
            for name, tokens in (("low", few), ("likely", some), ("high", most))
        }
    )


def _counted(rows: Rows, counted: Counted, learnt: Learnt | None, generated: Range) -> Range | None:
    """The tokens of the text and what is around it; None where answers say that the tokenizer is another model's."""
    text = float(counted.text.sum())
    if learnt is None or learnt.rows.counted is None:
        likely, most = float(counted.likely_more.sum()), float(counted.most_more.sum())
        return Range(low=text, likely=text + likely, high=text + most) + _answers_asked_again(rows, generated)
    more = learnt.prompt_tokens - learnt.rows.counted.text
    if more.mean() < 0:
        return None
    return exactly(text) + around(more, len(rows.calls), float(len(rows.calls)))


def _answers_asked_again(rows: Rows, generated: Range) -> Range:
    """Answers of turns are in the prompts of the turns after them: of three turns the first one twice."""
    calls = float(rows.calls.sum())
    times = float((rows.calls * (rows.calls - 1) / 2).sum()) / calls if calls else 0.0
    return Range(low=generated.low * times, likely=generated.likely * times, high=generated.high * times)
