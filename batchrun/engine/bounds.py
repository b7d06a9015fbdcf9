"""What limited a run: seconds by what bound it, and how the ceiling went, sampled ten times a second."""

from __future__ import annotations

_MOST_CEILINGS = 500


class Bounds:
    """Sums samples; all times are the loop's, in seconds.

    `seconds` are by what was waited for; `ceilings` are how many requests might be in flight, each with the second from
    which on.
    """

    def __init__(self, now: float) -> None:
        self._began_at = self._at = now
        self.seconds: dict[str, float] = {}
        self.ceilings: list[tuple[float, int]] = []

    def add(self, reason: str, now: float, ceiling: int) -> None:
        """Since the last sample this was waited for."""
        self.seconds[reason] = self.seconds.get(reason, 0.0) + now - self._at
        self._at = now
        if not self.ceilings or self.ceilings[-1][1] != ceiling:
            self.ceilings.append((round(now - self._began_at, 1), ceiling))
        if len(self.ceilings) > _MOST_CEILINGS:
            self.ceilings = self.ceilings[::2]
