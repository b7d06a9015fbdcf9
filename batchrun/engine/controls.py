"""What may be changed of a run while it goes on: its limits, whether it sends at all, and that it ends.

All calls come from the loop's thread, and take effect at once for what is not yet sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batchrun.errors import ConfigError

if TYPE_CHECKING:
    from batchrun.config import Config
    from batchrun.engine.lanes import Lanes
    from batchrun.engine.money import Money
    from batchrun.engine.pool import Pool
    from batchrun.engine.watch import Status

CHANGEABLE = (
    "concurrency",
    "requests_per_minute",
    "prompt_tokens_per_minute",
    "uncached_prompt_tokens_per_minute",
    "generated_tokens_per_minute",
    "max_cost_usd",
)
"""The keys of `limits` that may be other ones while a run is going on."""

MOST_WAITING, GO_ON_BELOW = 512, 128
"""Records that may wait for a slow reader before he pauses the run, and how few they are when it goes on."""


class Controls:
    """The controls of one run. Who pauses it is named, so that one who resumes it does not do so for another."""

    def __init__(self, pool: Pool, lanes: Lanes, money: Money, config: Config) -> None:
        self._pool, self._lanes, self._money = pool, lanes, money
        self.limits, self.grace_s, self._attempt_s = config.limits, config.timeouts.grace_s, config.timeouts.attempt_s
        self._paused_by: set[str] = set()

    @property
    def paused(self) -> bool:
        """Whether nothing new is sent for now."""
        return bool(self._paused_by)

    def status(self) -> Status:
        """Where the run stands."""
        return self._pool.status()

    def set_limit(self, name: str, value: float | None) -> None:
        """Keep to another limit from now on, one of `CHANGEABLE`.

        Raises:
            ConfigError: it cannot be changed, or not to that.
        """
        if name == "max_cost_usd" and (value is None or self._money.limit is None):
            raise ConfigError(
                "a budget can be made larger or smaller, not begun or ended, while a run is going on",
                remedy="end it (batchrun ctl OUT drain) and run it again with --max-cost",
            )
        self.limits = msgspec.convert({**msgspec.to_builtins(self.limits), name: value}, type(self.limits))
        if name == "max_cost_usd":
            self._money.change(self.limits.max_cost_usd or 0)
        self._apply()

    def pause(self, who: str) -> None:
        """Send nothing new until the same one resumes; what is in flight goes on."""
        self._paused_by.add(who)
        self._apply()

    def resume(self, who: str) -> None:
        """Go on, unless somebody else has paused it as well."""
        self._paused_by.discard(who)
        self._apply()

    def stop(self, cause: Exception) -> None:
        """Send nothing new, let what is in flight be answered within the grace, and end."""
        self._pool.stop(cause)

    def drain(self, cause: Exception) -> None:
        """The same, with time for every answer."""
        self._pool.stop(cause, grace_s=self._attempt_s)

    def _apply(self) -> None:
        self._lanes.change(self.limits, paused=self.paused)
        self._pool.change(self.limits.concurrency, paused=self.paused)
