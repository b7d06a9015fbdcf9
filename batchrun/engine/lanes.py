"""A turnstile for each model: limits, ceilings and outages are a model's, places and requests a minute the run's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from batchrun.engine.adaptive import Ceiling
from batchrun.engine.budgets import TokenBudgets
from batchrun.engine.limits import Gate, Turnstile, bucket
from batchrun.engine.pace import Pace
from batchrun.engine.quota import Quota

if TYPE_CHECKING:
    from batchrun.config import LimitsConfig


class Lane(Turnstile):
    """The turnstile of one model, with the purse that pays for its retries.

    `turned_away` says that a limit has been met at all; `trouble` is what the last failed attempt failed of.
    """

    def __init__(self, limits: LimitsConfig, gate: Gate) -> None:
        now = asyncio.get_running_loop().time()
        super().__init__(
            Ceiling(limits.concurrency, adaptive=limits.adaptive),
            gate=gate,
            pace=Pace(now, adaptive=limits.adaptive),
            budgets=TokenBudgets(_tokens_per_minute(limits)),
        )
        self.quota = Quota(now)
        self.turned_away = False
        self.trouble = ""


class Lanes:
    """The lanes of a run, made as models come up; make it inside the running loop."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self.gate = Gate(limits.concurrency, limits.requests_per_minute)
        self._lanes: dict[str, Lane] = {}

    def of(self, model: str) -> Lane:
        """The lane of a model."""
        lane = self._lanes.get(model)
        if lane is None:
            lane = self._lanes[model] = Lane(self._limits, self.gate)
        return lane

    @property
    def in_flight(self) -> int:
        """Requests that are out."""
        return self.gate.in_flight

    @property
    def limit(self) -> int:
        """How many may be in flight, of all models together."""
        allowed = sum(lane.ceiling.limit for lane in self._lanes.values())
        return min(self._limits.concurrency, allowed) if allowed else self._limits.concurrency

    @property
    def reason(self) -> str:
        """What holds the line up, of the longest-standing lane that has one; empty where nobody waits."""
        return next((lane.reason for lane in self._lanes.values() if lane.reason), "")

    def outage_since(self) -> float | None:
        """Since when every model's endpoint has been in trouble; None if any is not."""
        since = [lane.breaker.open_since for lane in self._lanes.values()]
        known = [at for at in since if at is not None]
        return max(known) if known and len(known) == len(since) else None

    @property
    def outage(self) -> str:
        """What goes wrong while no model is served; empty where all of them only wait for a limit that they met."""
        if self.outage_since() is None:
            return ""
        return next((lane.trouble for lane in self._lanes.values() if not lane.storm), "")

    def change(self, limits: LimitsConfig, *, paused: bool) -> None:
        """Keep to other limits from now on; while it is paused nobody is let in."""
        before, self._limits = self._limits, limits
        self.gate.places = 0 if paused else limits.concurrency
        if limits.requests_per_minute != before.requests_per_minute:
            self.gate.requests = bucket(limits.requests_per_minute) if limits.requests_per_minute else None
        for lane in self._lanes.values():
            lane.ceiling.change(limits.concurrency)
            if lane.budgets and _tokens_per_minute(limits) != _tokens_per_minute(before):
                lane.budgets.allow(_tokens_per_minute(limits))
        self.gate.pump()

    async def sleep(self, seconds: float) -> None:
        """Wait; raises Closed as soon as the run is ending."""
        await self.gate.sleep(seconds)

    def close(self) -> None:
        """Turn away everybody who waits, and who comes."""
        self.gate.close()


def _tokens_per_minute(limits: LimitsConfig) -> dict[str, float | None]:
    return {
        "prompt_tokens": limits.prompt_tokens_per_minute,
        "uncached_prompt_tokens": limits.uncached_prompt_tokens_per_minute,
        "generated_tokens": limits.generated_tokens_per_minute,
    }
