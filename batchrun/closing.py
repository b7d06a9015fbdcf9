"""The end of a start: what it says of itself, and everything sealed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from batchrun.errors import BatchrunError
from batchrun.store.manifest import Session

if TYPE_CHECKING:
    from batchrun.endpoint.http import HttpEndpoint
    from batchrun.engine.attempts import Fulfiller
    from batchrun.engine.pool import Pool
    from batchrun.store.keeper import Store


def session_of(pool: Pool, fulfiller: Fulfiller, endpoint: HttpEndpoint, store: Store, wall_s: float) -> Session:
    """What a start of the run says of itself."""
    return Session(
        exit_code=pool.exit_code,
        cause=str(pool.cause or "nothing left to do"),
        wall_s=wall_s,
        requests=fulfiller.counts.requests + endpoint.free_retries + endpoint.probes,
        free_retries=endpoint.free_retries,
        throttled=fulfiller.counts.throttled,
        mended=endpoint.mended + store.mended,
        limited_s={reason: round(seconds, 3) for reason, seconds in pool.bounds.seconds.items()},
        ceilings=pool.bounds.ceilings,
        loop_lag_p99_s=pool.lag.p99_s,
        loop_lag_max_s=pool.lag.max_s,
    )


async def close(store: Store, pool: Pool, session: Session) -> BatchrunError | None:
    """Seal in a thread of its own; a disk that fails now is the run's cause, unless there was one before."""
    cause = pool.cause
    try:
        if pool.hurried:
            await asyncio.to_thread(store.abandon)
        else:
            await asyncio.to_thread(store.close, session, sorted(pool.abandoned))
    except BatchrunError as error:
        cause = cause or error
    if cause is not None and not isinstance(cause, BatchrunError):
        raise cause
    return cause
