"""Waiting for a condition, never for time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

END_S = 10


async def until(true: Callable[[], object]) -> None:
    """Give the loop turns until the condition holds; raises TimeoutError after 10 s."""
    async with asyncio.timeout(END_S):
        while not true():  # noqa: ASYNC110 (another thread or process makes it true, and sets no event)
            await asyncio.sleep(0.001)
