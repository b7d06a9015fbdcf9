"""What a run tells whoever watches it: a terminal's progress bar, a log, or nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.engine.controls import Controls
    from batchrun.types import Record


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is about to be done: `open_rows` of `rows` are sent, at most `concurrency` at a time.

    `exposed` are rows that an earlier start sent and did not keep, so that they may be paid for twice: at most
    `exposed_nano_usd` is the price of that, None if it is not known. Of `budget_usd` earlier starts have spent
    `spent_nano_usd` at most. `notes` are what the user should know of his limits. Of the open rows `pilot_rows` are
    sent first.
    """

    folder: str
    rows: int
    open_rows: int
    concurrency: int
    flush_s: float
    simulated: bool
    exposed: list[int]
    exposed_nano_usd: int | None = None
    budget_usd: float | None = None
    spent_nano_usd: int = 0
    notes: list[str] = []
    pilot_rows: int = 0
    run_id: str = ""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands; `retrying` rows have a failed attempt behind them.

    `oldest` is the custom_id of the row that has been at it for `oldest_s`, `waits_for` what it waits for ("an
    answer", "a retry"). `outage` says what goes wrong while the endpoint does not work at all.
    """

    in_flight: int
    ceiling: int
    oldest_s: float
    throttled: int
    retrying: int = 0
    oldest: str = ""
    waits_for: str = ""
    outage: str = ""


class Watch:
    """Hears of a run and says nothing. All calls come from the loop's thread."""

    def plan(self, plan: Plan) -> None:
        """Before anything is sent."""

    def steer(self, controls: Controls) -> None:
        """Before it begins: what may be changed of the run until its end. Called inside the running loop."""

    def begin(self, status: Callable[[], Status]) -> None:
        """Sending begins; `status` may be asked at any time until `end`. Called inside the running loop.

        After a pilot it begins again with the rest.
        """

    def row(self, record: Record) -> None:
        """A row is settled."""

    def spent(self, nano_usd: int, budget_nano_usd: int | None) -> None:
        """What earlier starts and this one have spent at most, of a budget; called after each row."""

    def stopping(self, cause: BaseException, in_flight: int) -> None:
        """Nothing new is sent any more; what is in flight is waited for."""

    def end(self) -> None:
        """Nothing is in flight any more."""

    def warn(self, text: str) -> None:
        """Something beside the run went wrong, which changes nothing of it."""
