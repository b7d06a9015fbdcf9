"""A budget of tokens a minute: reserved when a request is sent, settled when its answer says what it took.

Theory of operation. Two rules hold together. The pace: what is reserved is drawn in small portions from a leaky bucket
(aiolimiter, a tenth of a second's worth), so that the budget is used evenly. The window: what was sent within the last
60 s, at its settled size where that is known, and the new request do not pass the budget. A settlement gives back what
was reserved too much, and owes what was too little. A request that is larger than a whole budget counts as one whole
budget: it goes alone, not never. Only the one at the head of the line draws; if it is cancelled, what it has drawn is
given back.

What the endpoint's headers say of its limits counts once it has turned a request away: then it may lower a user's
budget or make one, never raise it. A limit that would not let a single request through says nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter

from batchrun.engine.tokens import Need, Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchrun.types import Hints, Request, Usage

WINDOW_S = 60.0
CREDIT_S = 2.0
"""Of the budget: what was reserved too much is given back up to so much, lest it all goes out at once."""

BURST_S = 0.1
_SHARE = 0.98
"""Of the budget that is used: answers do not end as evenly as requests are sent."""

_ROUNDING = 1e-6


class Spent:
    """What one request has reserved of one budget, since it was sent."""

    __slots__ = ("at", "tokens")

    def __init__(self, at: float, tokens: float) -> None:
        self.at, self.tokens = at, tokens


class Budget:
    """So many tokens in any minute."""

    def __init__(self, per_minute: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._window: deque[Spent] = deque()
        self._in_window = 0.0
        self._balance = 0.0
        self.change(per_minute)

    def change(self, per_minute: float) -> None:
        """Allow another amount from now on."""
        self.per_minute = per_minute
        self._burst = max(1.0, per_minute * _SHARE / 60 * BURST_S)
        self._bucket = AsyncLimiter(self._burst, self._burst * 60 / (per_minute * _SHARE))

    async def reserve(self, tokens: float) -> Spent:
        """Return when a request of this size may be sent, having counted it."""
        tokens = min(tokens, self.per_minute)
        await self._wait_for_window(tokens)
        await self._draw(tokens)
        spent = Spent(self._loop.time(), tokens)
        self._window.append(spent)
        self._in_window += tokens
        return spent

    def settle(self, spent: Spent, tokens: float) -> None:
        """The request took so many tokens; 0 if it was turned away."""
        tokens = min(tokens, self.per_minute)
        most = max(self.per_minute / 60 * CREDIT_S, spent.tokens)  # what is turned away gives back all
        self._balance = min(most, self._balance + spent.tokens - tokens)
        if spent.at > self._loop.time() - WINDOW_S:
            self._in_window += tokens - spent.tokens
            spent.tokens = tokens

    async def _wait_for_window(self, tokens: float) -> None:
        while self._used(self._loop.time()) and self._in_window + tokens > self.per_minute:  # noqa: ASYNC110 (time frees it)
            await asyncio.sleep(max(0.001, self._window[0].at + WINDOW_S - self._loop.time()))

    def _used(self, now: float) -> bool:
        """Whether anything was sent within the last minute; what is older is forgotten."""
        window = self._window
        while window and window[0].at <= now - WINDOW_S:
            self._in_window -= window.popleft().tokens
        return bool(window)

    async def _draw(self, tokens: float) -> None:
        """Take tokens as fast as they come; what was given back comes off, what is owed comes on top."""
        before = self._balance
        due = tokens - before
        self._balance = max(0.0, -due)
        drawn = 0.0
        try:
            while due - drawn > _ROUNDING:
                portion = min(self._burst, due - drawn)
                await self._bucket.acquire(portion)
                drawn += portion
        except BaseException:
            self._balance += before + drawn - max(0.0, -due)
            raise


class Reserved:
    """What one request has reserved, by budget."""

    def __init__(self, budgets: TokenBudgets, request: Request) -> None:
        self._budgets, self._request = budgets, request
        self._need = budgets.tokens.need(request)
        self._spent: dict[str, Spent] = {}
        self._drawing: dict[str, asyncio.Task[None]] = {}

    def missing(self) -> str | None:
        """A budget of which nothing is reserved yet."""
        return next((name for name in self._budgets.of if name not in self._spent), None)

    async def reserve(self, name: str) -> None:
        """Return when there is room for this request in a budget; all that are missing are drawn on at once."""
        missing = [other for other in self._budgets.of if other not in self._spent]
        if missing == [name] and not self._drawing:
            await self._draw_on(name)
            return
        for other in missing:
            if other not in self._drawing:
                self._drawing[other] = asyncio.create_task(self._draw_on(other))
        await self._drawing[name]

    async def _draw_on(self, name: str) -> None:
        self._spent[name] = await self._budgets.of[name].reserve(amount(name, self._need))

    def sent(self, now: float) -> None:
        """The request goes out now: its minute begins, whenever its tokens were there."""
        for spent in self._spent.values():
            spent.at = now

    def settle(self, usage: Usage | None, *, charged: bool) -> None:
        """The request took this; where that is not known, what it was expected to take, or nothing."""
        for drawing in self._drawing.values():
            drawing.cancel()
        if usage:
            self._budgets.tokens.learn(self._request, usage)
        for name, spent in self._spent.items():
            taken = taken_of(name, usage)
            if taken is None:
                taken = spent.tokens if charged else 0.0
            self._budgets.of[name].settle(spent, taken)
        self._spent.clear()


class TokenBudgets:
    """The budgets of one model, by name: prompt_tokens, uncached_prompt_tokens, generated_tokens, and requests."""

    def __init__(self, per_minute: Mapping[str, float | None]) -> None:
        self._allowed = {name: value for name, value in per_minute.items() if value is not None}
        self.of = {name: Budget(value) for name, value in self._allowed.items()}
        self.tokens = Tokens()

    @property
    def any(self) -> bool:
        """Whether there is any budget to keep to."""
        return bool(self.of)

    def reservation(self, request: Request) -> Reserved | None:
        """What a request has reserved, which is nothing yet; None where there is no budget."""
        return Reserved(self, request) if self.of else None

    def hint(self, hints: Hints, request: Request) -> None:
        """Take in what the endpoint says of its limits."""
        need = self.tokens.need(request)
        for name in ("requests", "prompt_tokens", "uncached_prompt_tokens", "generated_tokens"):
            said = getattr(hints, f"{name}_per_minute")
            if said is None or said < amount(name, need):
                continue
            wanted = min(said, self._allowed.get(name, said))
            if name not in self.of:
                self.of[name] = Budget(wanted)
            elif self.of[name].per_minute != wanted:
                self.of[name].change(wanted)


def amount(name: str, need: Need) -> float:
    """What a request takes of a budget."""
    return 1.0 if name == "requests" else float(getattr(need, name))


def taken_of(name: str, usage: Usage | None) -> float | None:
    """What a usage says that a request took of a budget; None if it does not."""
    if name == "requests":
        return 1.0
    if usage is None:
        return None
    if name == "generated_tokens":
        return usage.completion_tokens
    if usage.prompt_tokens is None or name == "prompt_tokens":
        return usage.prompt_tokens
    return usage.prompt_tokens - (usage.cached_tokens or 0)
