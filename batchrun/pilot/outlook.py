"""What a pilot says of the rows that are still to be sent."""

from __future__ import annotations

import msgspec


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate, and the ends of its 95 % confidence interval."""

    low: float
    likely: float
    high: float


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What `settled` rows of the pilot, `failed` ones among them, say of the `rest`.

    They cost `pilot_usd`, as far as that is known. `cost_usd` is what the rest will cost, None where the prices are not
    known or no row succeeded; `time_s` how long it will take. Of a budget of `budget_usd` at most `spent_usd` is spent.
    """

    settled: int
    failed: int
    rest: int
    pilot_usd: float
    cost_usd: Interval | None
    time_s: Interval | None
    spent_usd: float = 0.0
    budget_usd: float | None = None

    @property
    def most_usd(self) -> float | None:
        """The upper end of what the whole run will have cost, with what is spent; None where it is not known."""
        return self.spent_usd + self.cost_usd.high if self.cost_usd else None

    @property
    def fits(self) -> bool:
        """Whether there is a budget, and the upper end fits it."""
        return self.most_usd is not None and self.budget_usd is not None and self.most_usd <= self.budget_usd
