"""The ceiling on requests in flight: it falls when the endpoint asks for patience and grows back while that helps.

Theory of operation. The ceiling starts at what the user allows (above 64 it gets there by slow start: one more for
each success). A 429 or 503 halves it, at most once per cooldown, and only if the request was sent after the last cut:
the rest of a burst that met the same wall says nothing new. After the first cut it grows by one for every 32
successes sent since. It only grows while at least half of it is in use (answers come in batches, so that a ceiling
that binds is not always full); otherwise it is not the ceiling that binds, and a success says nothing about it.
Latency is no signal: long answers are not congestion.
"""

from __future__ import annotations

START = 64
COOLDOWN_S = 1.0
SUCCESSES_PER_STEP = 32


class Ceiling:
    """How many requests may be in flight now, between 1 and `maximum`."""

    def __init__(self, maximum: int, *, adaptive: bool = True) -> None:
        self._maximum = maximum
        self._adaptive = adaptive
        self._value = float(min(START, maximum) if adaptive else maximum)
        self._cut_at: float | None = None

    @property
    def limit(self) -> int:
        """Requests that may be in flight, at least 1."""
        return max(1, int(self._value))

    @property
    def below_maximum(self) -> bool:
        """Whether it allows less than the user does."""
        return self._value < self._maximum

    def change(self, maximum: int) -> None:
        """Allow another maximum from now on; one that is adaptive finds its way up to it."""
        self._maximum = maximum
        self._value = min(self._value, float(maximum)) if self._adaptive else float(maximum)

    def succeeded(self, sent_at: float, in_flight: int) -> None:
        """A request sent at `sent_at` was answered, while `in_flight` were out (itself included)."""
        if self._value >= self._maximum or 2 * in_flight < self.limit:
            return
        if self._cut_at is None:
            self._value += 1.0
        elif sent_at >= self._cut_at:
            self._value += 1.0 / SUCCESSES_PER_STEP
        self._value = min(self._value, float(self._maximum))

    def may_be_cut(self, sent_at: float, now: float) -> bool:
        """Whether a 429 to a request sent at `sent_at` says anything new."""
        if not self._adaptive:
            return False
        return self._cut_at is None or (sent_at >= self._cut_at and now >= self._cut_at + COOLDOWN_S)

    def throttled(self, sent_at: float, now: float) -> None:
        """A request sent at `sent_at` was told to wait."""
        if not self.may_be_cut(sent_at, now):
            return
        self._cut_at = now
        self._value = max(1.0, self._value / 2)
