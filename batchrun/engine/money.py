"""Money: the most that a request can cost is reserved before it is sent, and settled by what its answer says.

Theory of operation. `spent` is what was charged, `reserved` the worst case of all that is out or about to go out. A
request whose worst case does not fit beside both waits until others are settled, in order of arrival; when there is
nothing left to be settled, the budget is reached. An attempt of which nobody knows what was charged is settled at its
worst case. A token is at least a byte, so a prompt costs at most as many tokens as its body has bytes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from batchrun.engine.tokens import most_generated
from batchrun.errors import BudgetReached
from batchrun.pricing import cost_nano_usd, tier_of
from batchrun.types import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.pricing import Price
    from batchrun.types import Request


class Money:
    """A budget in whole nano-dollars; None lets everything pass. Make it inside the running loop."""

    def __init__(self, limit: int | None, price_for: Callable[[str], Price | None], *, spent: int = 0) -> None:
        self.limit, self.spent, self.reserved = limit, spent, 0
        self._price_for = price_for
        self._line, self._waiting = asyncio.Lock(), 0
        self._settled = asyncio.Event()

    async def reserve(self, request: Request) -> int:
        """Return when the worst case of a request fits, with what is reserved for it, to be given to `settle`.

        Raises:
            BudgetReached: it does not fit, and nothing is out whose settlement could make room.
        """
        if self.limit is None:
            return 0
        worst = worst_nano_usd(request, self._price_for(request.model)) or 0
        if self._waiting or not self._fits(worst):
            self._waiting += 1
            try:
                async with self._line:
                    await self._room(worst)
            finally:
                self._waiting -= 1
        self.reserved += worst
        return worst

    def settle(self, reserved: int, request: Request, usage: Usage | None, *, charged: bool) -> None:
        """Take what was charged in place of what was reserved for an attempt; `charged` also where nobody knows."""
        if self.limit is None:
            return
        price, tier = self._price_for(request.model), tier_of(request.body)
        cost = cost_nano_usd(usage, price, tier=tier) if usage else None
        self.reserved -= reserved
        self.spent += cost if cost is not None else reserved if charged else 0
        self._settled.set()

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
    most = most_generated(request) if request.api != "embeddings" else 0
    if most is None or price is None:
        return None
    prompt_tokens = len(request.body)
    for turn in request.turns:  # each of them is asked with the answers before it
        prompt_tokens += len(turn.encode()) + most
    usage = Usage(prompt_tokens=prompt_tokens, completion_tokens=most)
    return cost_nano_usd(usage, price, tier=tier_of(request.body))
