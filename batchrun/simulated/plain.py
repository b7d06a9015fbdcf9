"""An answer in one piece, whole or spoilt by a fault; and no answer at all."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from aiohttp import web

from batchrun.simulated.refusals import error_body

if TYPE_CHECKING:
    from batchrun.simulated.answers import Answer
    from batchrun.simulated.scenario import Fault

FAILED_MIDWAY = error_body("Simulated failure during generation", code="INTERNAL_SERVER_ERROR")
GZIPPED = {"content-encoding": "gzip"}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Charge(Protocol):
    """Writes a request into the ledger: how many tokens were generated, and the status sent (0: none)."""

    def __call__(self, tokens: int, *, status: int = 200, aborted: bool = False) -> None:
        """Do it, once for each request."""


async def send_plain(
    http: web.BaseRequest,
    answer: Answer,
    payload: dict[str, Any],
    *,
    fault: Fault | None,
    headers: dict[str, str],
    compressed: bool,
    charge: Charge,
) -> web.StreamResponse:
    """Generate, charge, answer. A client that leaves early is charged in full: only streams can be cut short."""
    await _generate(answer, charge)
    kind = fault.kind if fault else None
    if fault is not None and kind == "slow":
        await asyncio.sleep(fault.seconds)
    body = msgspec.json.encode(FAILED_MIDWAY if kind == "error_in_200" else payload)
    headers = headers | {f"fireworks-{name}": value for name, value in answer.metrics().items()}
    if kind == "bad_json":
        body = body[: len(body) * 2 // 3]
    if compressed:
        body, headers = gzip.compress(body, mtime=0), headers | GZIPPED
    if kind not in {"truncated", "reset"}:
        return web.Response(body=body, headers=headers, content_type="application/json")
    response = web.StreamResponse(headers=headers)
    response.content_type = "application/json"
    response.content_length = len(body)
    await response.prepare(http)
    await response.write(body[: len(body) // 2])
    await hang_up(http, reset=kind == "reset")
    return response


async def vanish(http: web.BaseRequest, answer: Answer, *, silent: bool, charge: Charge) -> web.StreamResponse:
    """Generate and charge, but answer nothing: reset the connection, or leave it open until the client goes."""
    await _generate(answer, charge, status=0)
    if silent:
        await asyncio.get_running_loop().create_future()
    await hang_up(http, reset=True)
    return web.Response()


async def hang_up(http: web.BaseRequest, *, reset: bool) -> None:
    """End the connection after what was written: in order (FIN), or with a reset (RST)."""
    for _ in range(2):  # what was written leaves in the loop's next turn
        await asyncio.sleep(0)
    if http.transport is None:
        return
    if reset:
        connection = http.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        http.transport.abort()
    else:
        http.transport.close()


async def _generate(answer: Answer, charge: Charge, *, status: int = 200) -> None:
    try:
        if answer.processing_s > 0:
            await asyncio.sleep(answer.processing_s)
    except asyncio.CancelledError:
        charge(answer.completion_tokens, status=0, aborted=True)
        raise
    charge(answer.completion_tokens, status=status)
