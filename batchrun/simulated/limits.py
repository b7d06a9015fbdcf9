"""What this server allows: budgets over a sliding window, and a ceiling of requests at once."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from batchrun.simulated.refusals import rate_limited

if TYPE_CHECKING:
    from batchrun.simulated.scenario import Limits

UNLIMITED = 1_000_000_000
"""Stated in headers where no limit is set: more a minute than this server can serve."""


class Window:
    """An amount that may be used in any `window_s` seconds; None is no limit, and nothing is kept then."""

    def __init__(self, per_minute: float | None, window_s: float) -> None:
        self.per_minute = per_minute
        self._window_s = window_s
        self._used: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    def left(self, now: float) -> float:
        """What may still be used at `now`, in seconds of any clock that does not go back."""
        if self.per_minute is None:
            return UNLIMITED
        while self._used and self._used[0][0] <= now - self._window_s:
            self._sum -= self._used.popleft()[1]
        return self.per_minute * self._window_s / 60 - self._sum

    def use(self, amount: float, now: float) -> None:
        """Take it, also when that much was not left: tokens are known only when they are there."""
        if self.per_minute is not None:
            self._used.append((now, amount))
            self._sum += amount


class Turnstile:
    """Lets a request in, or refuses it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._requests = Window(limits.requests_per_minute, limits.window_s)
        self._prompt = Window(limits.prompt_tokens_per_minute, limits.window_s)
        self._generated = Window(limits.generated_tokens_per_minute, limits.window_s)

    def admit(self, number: int, *, in_flight: int, now: float) -> None:
        """Count a request in.

        Raises:
            Refusal: 429, when `in_flight`, this one included, is too many, or a budget is used up.
        """
        full = self._limits.concurrency is not None and in_flight > self._limits.concurrency
        spent = self._requests.left(now) < 1 or self._prompt.left(now) <= 0 or self._generated.left(now) <= 0
        if full or spent:
            raise rate_limited(number, self._limits.retry_after_s)
        self._requests.use(1, now)

    def settle(self, *, prompt_tokens: int, completion_tokens: int, now: float) -> None:
        """Count the tokens of a request that was served."""
        self._prompt.use(prompt_tokens, now)
        self._generated.use(completion_tokens, now)

    def headers(self, now: float) -> dict[str, str]:
        """The budgets as Fireworks states them, in tokens a minute."""
        stated = {"x-ratelimit-over-limit": "no"}
        windows = {"prompt": self._prompt, "cache-adjusted-prompt": self._prompt, "generated": self._generated}
        for name, window in windows.items():
            limit = UNLIMITED if window.per_minute is None else window.per_minute
            stated[f"x-ratelimit-limit-tokens-{name}"] = f"{limit:.0f}"
            stated[f"x-ratelimit-remaining-tokens-{name}"] = f"{max(0.0, window.left(now)):.0f}"
        return stated
