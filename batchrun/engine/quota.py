"""How many retries there may be: where most requests fail, trying each of them again at once helps nobody.

The manner of the AWS and gRPC clients: a purse of 500 tokens, of which a retry after an unknown outcome takes 14 and
one after a 429 takes 5; a success puts back what its own retries took, and one more. Theirs give up when the purse is
empty; here a retry then waits, as time fills the purse too, by one retry a second. No row is lost for it.
"""

from __future__ import annotations

CAPACITY = 500.0
TRANSIENT, THROTTLED, SUCCESS = 14.0, 5.0, 1.0
REFILL_PER_S = TRANSIENT


class Quota:
    """The purse of one model; all times are the loop's, in seconds."""

    def __init__(self, now: float) -> None:
        self._tokens, self._at = CAPACITY, now

    def take(self, tokens: float, now: float) -> float:
        """Pay for a retry: 0, or how long to wait before asking again, with nothing taken."""
        self._tokens = min(CAPACITY, self._tokens + (now - self._at) * REFILL_PER_S)
        self._at = now
        if self._tokens < tokens:
            return (tokens - self._tokens) / REFILL_PER_S
        self._tokens -= tokens
        return 0.0

    def succeeded(self, spent: float) -> None:
        """A request was served whose retries have taken so much."""
        self._tokens = min(CAPACITY, self._tokens + spent + SUCCESS)
