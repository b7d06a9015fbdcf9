"""An outage is waited out: after so many troubles in a row one request at a time asks whether it is over.

Trouble is what a dead, broken or overrun endpoint gives: no connection, no answer, a 5xx, a 429. Any completion, and
any other answer that shows an endpoint at work, ends it. The probes come after half a second, then half as late again
each time, every five seconds at last. Only what is sent is held back; nothing fails for it.
"""

from __future__ import annotations

import math
import random

OPENS_AFTER = 10
FIRST_PROBE_S, MOST_PROBE_S, SLOWER = 0.5, 5.0, 1.5


class Breaker:
    """Whether one model's requests may be sent; all times are the loop's, in seconds."""

    def __init__(self) -> None:
        self.open_since: float | None = None
        self._troubles = 0
        self._probing = False
        self._probe_at = 0.0
        self._interval_s = FIRST_PROBE_S

    @property
    def is_open(self) -> bool:
        """Whether an outage goes on."""
        return self.open_since is not None

    @property
    def probe_at(self) -> float:
        """When the next request may go: at any time, as a probe whose time has come, never while one is out."""
        if self.open_since is None:
            return 0.0
        return math.inf if self._probing else self._probe_at

    def sent(self) -> bool:
        """A request goes out; says whether it is a probe."""
        self._probing = self.is_open
        return self._probing

    def returned(self, *, probe: bool) -> None:
        """A request is no longer out, however it ended."""
        if probe:
            self._probing = False

    def alive(self) -> None:
        """The endpoint has shown that it works."""
        self.open_since, self._troubles, self._interval_s = None, 0, FIRST_PROBE_S

    def trouble(self, now: float, *, probe: bool) -> None:
        """A request met no endpoint that works."""
        self._troubles += 1
        if self.open_since is None and self._troubles >= OPENS_AFTER:
            self.open_since = now
        elif probe:
            self._interval_s = min(MOST_PROBE_S, self._interval_s * SLOWER)
        else:
            return
        self._probe_at = now + self._interval_s * random.uniform(0.8, 1.2)
