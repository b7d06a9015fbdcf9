"""How a run stands, from its folder alone: what is kept, how fast it goes, how it last ended, what to type next."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import msgspec

from batchrun.address import SIMULATED
from batchrun.pricing import PriceBook
from batchrun.store.counting import count_kept
from batchrun.store.live import Live, is_held, look
from batchrun.store.manifest import Manifest, Session

if TYPE_CHECKING:
    from batchrun.store.folder import RunFolder
    from batchrun.store.manifest import Entry

State = Literal["running", "complete", "stopped", "cut_off", "not_begun"]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands now.

    Rows are `succeeded`, `failed` or `missing`; `this_start_rows` were settled since the last start, at `rows_per_s`.
    `cost_usd` is what is known: where `unpriced_models` are named there is more that is not, and `usd_per_hour` is what
    the run's deployments cost apart from it, None without one. `eta_s` is None unless it is running. `live` is what
    the run says of itself, at most about a second old; `last_session` how the last start that ended did so,
    `started_at` and `ended_at` (microseconds since 1970, UTC) when the last one began and ended.
    """

    schema_version: int = 1
    folder: str
    state: State
    rows: int
    succeeded: int
    failed: int
    missing: int
    this_start_rows: int
    rows_per_s: float | None
    eta_s: float | None
    cost_usd: float
    unpriced_models: list[str]
    usd_per_hour: float | None
    simulated: bool
    prompt_tokens: int
    completion_tokens: int
    max_cost_usd: float | None
    started_at: int | None
    ended_at: int | None
    live: Live | None
    last_session: Session | None


def is_running(folder: RunFolder) -> bool:
    """Whether a run is going on in a folder; raises FolderUnusable where there is none."""
    entries = Manifest(folder, folder.read_run_file().run_id).entries
    return is_held(folder) and (look(folder) is not None or not entries or entries[-1].kind != "close")


def stand(folder: RunFolder) -> Standing:
    """Look at a run folder, at any time, without its lock; raises FolderUnusable where there is no run."""
    held = is_held(folder)
    run = folder.read_run_file()
    live = look(folder)
    kept, manifest = count_kept(folder, run)
    rows = manifest.with_input(run).rows
    prices = msgspec.convert(run.prices, PriceBook)
    hourly = prices.deployments_of(run.models).values()
    missing = max(0, rows - kept.succeeded - kept.failed)
    start, close = _last_start(manifest.entries)
    state: State = "not_begun"
    if held and (live or not manifest.entries or manifest.entries[-1].kind != "close"):
        state = "running"
    elif start:
        state = "cut_off" if close is None else "stopped" if missing else "complete"
    rows_per_s = _rate(kept.since, start, close, running=state == "running")
    eta_s = max(0, live.open_rows - kept.since) / rows_per_s if live and rows_per_s else None
    return Standing(
        folder=str(folder),
        state=state,
        rows=rows,
        succeeded=kept.succeeded,
        failed=kept.failed,
        missing=missing,
        this_start_rows=kept.since,
        rows_per_s=rows_per_s,
        eta_s=eta_s,
        cost_usd=kept.cost_nano_usd / 1e9,
        unpriced_models=[one for one in run.models if not prices.price_for(one) and not prices.deployment_for(one)],
        usd_per_hour=sum(row.usd_per_hour for row in hourly) if hourly else None,
        simulated=run.config.get("endpoint", {}).get("base_url") == SIMULATED,
        prompt_tokens=kept.prompt_tokens,
        completion_tokens=kept.completion_tokens,
        max_cost_usd=run.config.get("limits", {}).get("max_cost_usd"),
        started_at=start.at if start else None,
        ended_at=close.at if close else None,
        live=live,
        last_session=next((entry.session for entry in reversed(manifest.entries) if entry.session), None),
    )


def _last_start(entries: list[Entry]) -> tuple[Entry | None, Entry | None]:
    """When the last start began, and when it ended, if it did."""
    last = next((number for number in range(len(entries) - 1, -1, -1) if entries[number].kind == "start"), None)
    if last is None:
        return None, None
    return entries[last], next((entry for entry in entries[last:] if entry.kind == "close"), None)


def _rate(rows: int, start: Entry | None, close: Entry | None, *, running: bool) -> float | None:
    if start is None or not rows:
        return None
    if close and close.session:
        return rows / close.session.wall_s if close.session.wall_s else None
    elapsed_s = time.time() - start.at / 1e6
    return rows / elapsed_s if running and elapsed_s > 0 else None
