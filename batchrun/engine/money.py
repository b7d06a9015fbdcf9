"""Money: the most that a request can cost is reserved before it is sent, and settled by what its answer says.

Theory of operation. `spent` is what was charged, `reserved` the worst case of all that is out or about to go out. A
request whose worst case does not fit beside both waits until others are settled, in order of arrival; when there is
nothing left to be settled, the budget is reached. An attempt of which nobody knows what was charged is settled at its
worst case. A token is at least a byte, so a prompt costs at most as many tokens as its body has bytes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from batchrun.engine.tokens import asked_of
from batchrun.errors import BudgetReached
from batchrun.pricing import Tier, cost_nano_usd, tier_of
from batchrun.types import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.pricing import Price
    from batchrun.types import Request


class Hold(msgspec.Struct, frozen=True):
    """What is reserved for one attempt, and the tier that its request asks for, if that has been looked up."""

    nano_usd: int = 0
    tier: Tier | None = None


NOTHING = Hold()


class Money:
    """A budget in whole nano-dollars; None lets everything pass. Make it inside the running loop."""

    def __init__(self, limit: int | None, price_for: Callable[[str], Price | None], *, spent: int = 0) -> None:
        self.limit, self.spent, self.reserved = limit, spent, 0
        self._price_for = price_for
        self._line, self._waiting = asyncio.Lock(), 0
        self._settled = asyncio.Event()

    async def reserve(self, request: Request) -> Hold:
        """Return when the worst case of a request fits, with what is reserved for it, to be given to `settle`.

        Raises:
            BudgetReached: it does not fit, and nothing is out whose settlement could make room.
        """
        if self.limit is None:
            return NOTHING
        known, tier = _worst_case(request, self._price_for(request.model))
        worst = known or 0
        if self._waiting or not self._fits(worst):
            self._waiting += 1
            try:
                async with self._line:
                    await self._room(worst)
            finally:
                self._waiting -= 1
        self.reserved += worst
        return Hold(worst, tier)

    def settle(
        self, hold: Hold, request: Request, usage: Usage | None, *, charged: bool, tier: str | None = None
    ) -> int | None:
        """Take what was charged in place of what was reserved for an attempt; returns it, None if it is not known.

        Args:
            hold: what `reserve` returned.
            request: what was sent.
            usage: what its answer stated.
            charged: whether it was, or nobody knows.
            tier: the one that the answer names, None for the one asked for.
        """
        cost = None
        if usage:
            in_tier = hold.tier if hold.tier and tier is None else tier_of(request.body, tier)
            cost = cost_nano_usd(usage, self._price_for(request.model), tier=in_tier)
        if self.limit is not None:
            self.reserved -= hold.nano_usd
            self.spent += cost if cost is not None else hold.nano_usd if charged else 0
            self._settled.set()
        return cost

    def change(self, limit_usd: float) -> None:
        """Allow another amount from now on."""
        self.limit = round(limit_usd * 1e9)
        self._settled.set()

    def worst(self, request: Request) -> int | None:
        """The most that an answer to a request costs, in nano-dollars; None where that is not known."""
        return worst_nano_usd(request, self._price_for(request.model))

    async def _room(self, worst: int) -> None:
        while not self._fits(worst):
            if not self.reserved:
                raise self._reached(worst)
            self._settled.clear()
            await self._settled.wait()

    def _fits(self, worst: int) -> bool:
        return self.limit is not None and self.spent + self.reserved + worst <= self.limit

    def _reached(self, worst: int) -> BudgetReached:
        spent, limit = self.spent / 1e9, (self.limit or 0) / 1e9
        return BudgetReached(
            f"the budget of ${limit:,.6g} is reached: ${spent:,.6g} is spent, and the next request may cost "
            f"${worst / 1e9:,.6g}",
            remedy=f"run it again with a larger --max-cost than {limit:,.6g} to go on",
        )


def worst_nano_usd(request: Request, price: Price | None) -> int | None:
    """The most that one answer to a request costs; None where its price or its token limit is not known."""
    return _worst_case(request, price)[0]


def _worst_case(request: Request, price: Price | None) -> tuple[int | None, Tier]:
    """The same with the tier that the request asks for: its body is read once."""
    asked = asked_of(request)
    tier = tier_of(b"", asked.service_tier) if asked.service_tier else "standard"
    most = asked.most_generated if request.api != "embeddings" else 0
    if most is None or price is None:
        return None, tier
    prompt_tokens = len(request.body)
    for turn in request.turns:  # each of them is asked with the answers before it
        prompt_tokens += len(turn.encode()) + most
    return cost_nano_usd(Usage(prompt_tokens=prompt_tokens, completion_tokens=most), price, tier=tier), tier
