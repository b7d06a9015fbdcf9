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


BODY = b'{"messages": []}'
STREAM_BODY = b'{"messages": [], "stream": true, "stream_options": {"include_usage": true}}'


def request(index: int = 0, body: bytes | None = None, *, stream: bool = False) -> Request:
    """A request with this body, by default one that asks for a plain answer or for a stream."""
    return Request(
        index=index,
        custom_id=f"row-{index}",
        request_key=f"{index:032x}",
        api="chat",
        model="m",
        body=body or (STREAM_BODY if stream else BODY),
        stream=stream,
    )


@asynccontextmanager
async def endpoint(
    base_url: str,
    *,
    key: str | None = None,
    headers: dict[str, str] | None = None,
    ca_file: str | None = None,
    proxy: str | None = None,
    stop_stream: dict[str, Any] | None = None,
    **timeouts: float,
) -> AsyncIterator[HttpEndpoint]:
    """An open endpoint; the time limits are 10 s unless given."""
    limits = {"connect_s": 10, "first_byte_s": 10, "idle_s": 10, "attempt_s": 10, **timeouts}
    where = {"base_url": base_url, "headers": headers or {}, "ca_file": ca_file, "proxy": proxy}
    config = check_config(
        {"input": "x", "endpoint": where, "timeouts": limits, "request": {"stop_stream": stop_stream}}
    )
    async with HttpEndpoint(config, base_url=config.endpoint.base_url, key=key) as opened:
        yield opened


async def outcome(opened: HttpEndpoint, **changes: Any) -> Completion | EndpointError:
    """What becomes of one request; any other exception passes."""
    try:
        return await opened.complete(request(**changes))
    except EndpointError as error:
        return error


def ask(
    base_url: str, *, body: bytes | None = None, stream: bool = False, **options: Any
) -> Completion | EndpointError:
    """Open an endpoint, send one request, close it."""

    async def once() -> Completion | EndpointError:
        async with endpoint(base_url, **options) as opened:
            return await outcome(opened, body=body, stream=stream)

    return asyncio.run(once())
