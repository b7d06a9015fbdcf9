"""A budget of tokens a minute: reserved when a request is sent, settled when its answer says what it took.

Theory of operation. Two rules hold together. The pace: what a request has reserved is owed until as much has come in
time, and the next one goes when nothing is owed, so that the budget is used evenly. The window: what was sent within
the last 60 s, at its settled size where that is known, and the new request do not pass the budget. A settlement gives
back what was reserved too much, and owes what was too little; a limiter of requests (aiolimiter) knows neither. A
request that is larger than a whole budget counts as one whole budget: it goes alone, not never. Nothing is reserved
before the request goes out.

What the endpoint's headers say of its limits counts once it has turned a request away: then it may lower a user's
budget or make one, never raise it. A limit that would not let a single request through says nothing.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING

from batchrun.engine.tokens import Need, Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchrun.types import Hints, Request, Usage

WINDOW_S = 60.0
CREDIT_S = 2.0
"""Of the budget: what was reserved too much is given back up to so much, lest it all goes out at once."""

NO_BOUND_PER_MINUTE = 1e12
AHEAD_S = 0.1
_SHARE = 0.98
"""Of the budget that is used: answers do not end as evenly as requests are sent."""

_ROUNDING = 1e-6
_LEAST_S = 0.001


class Spent:
    """What one request has reserved of one budget, since it was sent."""

    __slots__ = ("at", "tokens")

    def __init__(self, at: float, tokens: float) -> None:
        self.at, self.tokens = at, tokens


class Budget:
    """So many tokens in any minute; all times are the loop's, in seconds."""

    def __init__(self, per_minute: float) -> None:
        self._window: deque[Spent] = deque()
        self._in_window = 0.0
        self._owed, self._paid_until = 0.0, -math.inf
        self.change(per_minute)

    def change(self, per_minute: float) -> None:
        """Allow another amount from now on."""
        self.per_minute, self._per_s = per_minute, per_minute / 60 * _SHARE

    def free_at(self, tokens: float, now: float) -> float:
        """When to ask for so many: now, or when there may be room for them."""
        if self._used(now) and self._in_window + min(tokens, self.per_minute) > self.per_minute:
            return max(now + _LEAST_S, self._window[0].at + WINDOW_S)
        self._pay(now)
        return now if self._owed <= _ROUNDING else now + self._owed / self._per_s

    def reserve(self, tokens: float, now: float) -> Spent:
        """A request of this size goes out now."""
        spent = Spent(now, min(tokens, self.per_minute))
        self._owed += spent.tokens
        self._window.append(spent)
        self._in_window += spent.tokens
        return spent

    def settle(self, spent: Spent, tokens: float, now: float) -> None:
        """The request took so many tokens; 0 if it was turned away."""
        tokens = min(tokens, self.per_minute)
        most = max(self.per_minute / 60 * CREDIT_S, spent.tokens)  # what is turned away gives back all
        self._pay(now)
        self._owed = max(-most, self._owed + tokens - spent.tokens)
        if spent.at > now - WINDOW_S:
            self._in_window += tokens - spent.tokens
            spent.tokens = tokens

    def _pay(self, now: float) -> None:
        """What has come since the last time pays for what is owed, and a little beforehand: nobody wakes in time."""
        ahead = -self._per_s * AHEAD_S
        if self._owed > ahead:
            self._owed = max(ahead, self._owed - (now - self._paid_until) * self._per_s)
        self._paid_until = now

    def _used(self, now: float) -> bool:
        """Whether anything was sent within the last minute; what is older is forgotten."""
        window = self._window
        while window and window[0].at <= now - WINDOW_S:
            self._in_window -= window.popleft().tokens
        return bool(window)


class Reserved:
    """What one request has reserved, by budget."""

    def __init__(self, budgets: TokenBudgets, request: Request) -> None:
        self._budgets, self._request = budgets, request
        self._need = budgets.tokens.need(request)
        self._spent: dict[str, Spent] = {}

    def short(self, now: float) -> tuple[str, float] | None:
        """The budget that has no room for this request for longest, and when to ask again."""
        free = [(budget.free_at(amount(name, self._need), now), name) for name, budget in self._budgets.of.items()]
        at, name = max(free)
        return (name, at) if at > now else None

    def take(self, now: float) -> None:
        """The request goes out."""
        for name, budget in self._budgets.of.items():
            self._spent[name] = budget.reserve(amount(name, self._need), now)

    def settle(self, usage: Usage | None, *, charged: bool) -> None:
        """The request took this; where that is not known, what it was expected to take, or nothing."""
        now = asyncio.get_running_loop().time()
        if usage:
            self._budgets.tokens.learn(self._request, usage)
        for name, spent in self._spent.items():
            taken = taken_of(name, usage)
            if taken is None:
                taken = spent.tokens if charged else 0.0
            self._budgets.of[name].settle(spent, taken, now)
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

    def allow(self, per_minute: Mapping[str, float | None]) -> None:
        """Keep to other amounts from now on; a budget that is lifted stays, without a bound, for what it is owed."""
        self._allowed = {name: value for name, value in per_minute.items() if value is not None}
        for name in {*self.of, *self._allowed}:
            self._keep_to(name, self._allowed.get(name, NO_BOUND_PER_MINUTE))

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
            self._keep_to(name, min(said, self._allowed.get(name, said)))

    def _keep_to(self, name: str, per_minute: float) -> None:
        if name in self.of:
            self.of[name].change(per_minute)
        else:
            self.of[name] = Budget(per_minute)


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
