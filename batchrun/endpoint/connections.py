"""Connections, and what it means when none comes about or one breaks.

With http.py and price_list.py the only user of aiohttp's client.

Each request learns which connection it got: whether it is a fresh one, and whether anything was heard on it. A
kept-alive connection on which something came unasked is given up: that would pass for the answer to the next request.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import ssl
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

from batchrun.errors import Ambiguous, EndpointError, EndpointUnusable, NotSent

if TYPE_CHECKING:
    from batchrun.endpoint.deadline import Deadline

_STALE_S = 5.0
_PROXY_AUTHENTICATION = 407


class _Line(ResponseHandler):
    """One connection, which knows whether it was used before and whether an answer has begun on it."""

    used = heard = False

    def data_received(self, data: bytes) -> None:
        self.heard = True
        super().data_received(data)
        error, body = self.exception(), self._payload
        if error is not None and body is not None and not body.is_eof():  # aiohttp tells no reader of a bad chunk
            body.set_exception(aiohttp.ClientPayloadError("not HTTP"))


class Sending:
    """One request on its way: its deadline, and the connection it got."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._line: _Line | None = None
        self.sent_at = self._loop.time()
        sending.set(self)

    def begin(self, line: _Line) -> None:
        """The request has a connection and goes out now."""
        self._line, self._reused = line, line.used
        line.used, line.heard = True, False
        self.sent_at = self._loop.time()
        self.deadline.start()

    @property
    def stale(self) -> bool:
        """Whether a break means that the connection was dead before: that shows at once, and nothing has come."""
        soon = self._loop.time() - self.sent_at < _STALE_S
        return self._line is not None and self._reused and not self._line.heard and soon


sending: ContextVar[Sending] = ContextVar("batchrun_sending")


class Connector(aiohttp.TCPConnector):
    """Tells each request which connection it got, and none gets one on which something came unasked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory: Any = functools.partial(_Line, loop=self._loop)

    async def connect(self, *args: Any, **kwargs: Any) -> aiohttp.connector.Connection:
        """Get a connection, as aiohttp asks for one."""
        while True:
            connection = await super().connect(*args, **kwargs)
            line = cast("_Line", connection.protocol)
            if not (line.used and line.should_close):
                sending.get().begin(line)
                return connection
            connection.close()


def translated(error: aiohttp.ClientError | TimeoutError, where: str) -> EndpointError:
    """Our error for one of aiohttp's. Its repr is never used: it prints the Authorization header."""
    # 1. no connection: nothing was sent
    if isinstance(error, aiohttp.ClientHttpProxyError | aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return _unconnected(error, where)
    # 2. the peer was too slow; the text is the deadline's
    if isinstance(error, TimeoutError):
        return Ambiguous(str(error), error_type="timed_out")
    # 3. an answer that broke off, or is not HTTP; what the peer wrote is quoted in the text, and left out
    if isinstance(error, aiohttp.ClientPayloadError):
        return Ambiguous(f"{where}: the answer broke off", error_type="response_truncated")
    if isinstance(error, aiohttp.ClientResponseError):
        why = re.split(r"b?['\"]|\n", error.message)[0].rstrip(" :")
        return Ambiguous(f"{where}: the answer is not HTTP: {why}", error_type="response_unreadable")
    # 4. the connection broke after something was sent
    return Ambiguous(f"{where}: the connection broke before an answer came", error_type="connection_failed")


def _unconnected(
    error: aiohttp.ClientHttpProxyError | aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError, where: str
) -> EndpointError:
    """Our error where no connection came about; trying without TLS, or with TLS unverified, is not an option."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return _not_sent(where, "it took too long")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        if error.status != _PROXY_AUTHENTICATION:
            return _not_sent(where, f"the proxy answered HTTP {error.status}")
        return EndpointUnusable(
            f"{where}: the proxy wants a name and a password (HTTP 407)",
            error_type="connection_failed",
            remedy="put them into HTTPS_PROXY=http://name:password@host:port and set endpoint.proxy: env",
        )
    why = error.os_error
    if isinstance(why, ssl.SSLError) and not isinstance(why, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        said = getattr(why, "verify_message", None) or why.reason or str(why)
        return EndpointUnusable(
            f"{where}: no secure connection: {said}",
            error_type="connection_failed",
            remedy="check endpoint.base_url; a private certificate authority is named in endpoint.ca_file",
        )
    known = os.strerror(why.errno) if why.errno and why.errno > 0 else why.strerror
    return _not_sent(where, known or "the connection was closed")


def _not_sent(where: str, why: str) -> NotSent:
    return NotSent(
        f"{where}: cannot connect: {why}",
        error_type="connection_failed",
        remedy="see whether the endpoint is up and endpoint.base_url is right",
    )
