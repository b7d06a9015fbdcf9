"""The simulated endpoint as a process of its own, that lives as long as the run that started it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from batchrun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_START_S = 30


@asynccontextmanager
async def embedded() -> AsyncIterator[str]:
    """Start it on a free port of loopback and give its base URL; it ends with the block, or when this process dies."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "batchrun", "simulate", "--port", "0", "--exit-with-stdin"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the run, which still waits for answers
    )
    try:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("a process was started without its pipes")
        async with asyncio.timeout(_START_S):
            url = (await process.stdout.readline()).decode().strip()
        if not url.startswith("http://"):
            raise ConfigError(
                "the simulated endpoint did not start", remedy="see what `batchrun simulate` says on this machine"
            )
        yield url
    finally:
        if process.stdin:
            process.stdin.close()
        await process.wait()
