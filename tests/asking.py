"""One request, or some, sent by the HTTP endpoint to a real socket."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from batchrun.config import check_config
from batchrun.endpoint.http import HttpEndpoint
from batchrun.errors import EndpointError
from batchrun.types import Completion, Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "fw_S3ntinel/key+With=Signs"


def request(index: int = 0, body: bytes = b'{"messages": []}') -> Request:
    """A request with this body."""
    return Request(index=index, custom_id=f"row-{index}", request_key=f"{index:032x}", api="chat", model="m", body=body)


@asynccontextmanager
async def endpoint(
    base_url: str, *, key: str | None = None, headers: dict[str, str] | None = None, **timeouts: float
) -> AsyncIterator[HttpEndpoint]:
    """An open endpoint; the time limits are 10 s unless given."""
    limits = {"connect_s": 10, "first_byte_s": 10, "idle_s": 10, "attempt_s": 10, **timeouts}
    config = check_config(
        {"input": "x", "endpoint": {"base_url": base_url, "headers": headers or {}}, "timeouts": limits}
    )
    async with HttpEndpoint(config, base_url=config.endpoint.base_url, key=key) as opened:
        yield opened


async def outcome(opened: HttpEndpoint, **changes: Any) -> Completion | EndpointError:
    """What becomes of one request; any other exception passes."""
    try:
        return await opened.complete(request(**changes))
    except EndpointError as error:
        return error


def ask(base_url: str, *, body: bytes = b'{"messages": []}', **options: Any) -> Completion | EndpointError:
    """Open an endpoint, send one request, close it."""

    async def once() -> Completion | EndpointError:
        async with endpoint(base_url, **options) as opened:
            return await outcome(opened, body=body)

    return asyncio.run(once())
