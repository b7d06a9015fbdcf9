"""Connections, and what it means when none comes about or one breaks.

With http.py and price_list.py the only user of aiohttp's client. Of that its connector and its parser are used, and not
its session, which takes longer over a request than all that is done here: see docs/decisions/0013.

Each line knows whether it was used before, and whether anything was heard on it. One on which something came unasked
is given up: that would pass for the answer to the next request.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError

from batchrun.endpoint.deadline import Deadline
from batchrun.errors import Ambiguous, EndpointError, EndpointUnusable, NotSent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.connector import Connection
    from yarl import URL

Broken = aiohttp.ClientError | HttpProcessingError | TimeoutError
BROKEN = (aiohttp.ClientError, HttpProcessingError, TimeoutError)
"""What an exchange raises; `translated` says what it means."""

KEEP_ALIVE_S = 15.0
_STALE_S = 5.0
_PROXY_AUTHENTICATION = 407
_SWITCHING_PROTOCOLS, _OK = 101, 200


@functools.lru_cache(1024)
def _name(raw: bytes) -> str:
    return raw.decode("latin-1").lower()


class Reply(NamedTuple):
    """What an answer begins with, header names in lower case, and its content, which is still to come."""

    status: int
    headers: dict[str, str]
    content: aiohttp.StreamReader


class Line(ResponseHandler):
    """One connection, of which one request at a time has the use, and its deadline; bytes last came at `heard_at`."""

    connection: Connection
    target: Target
    idle_since = heard_at = 0.0
    _used = _reused = _heard = _asked = _held = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.deadline = Deadline()

    async def ask(self, body: bytes) -> Reply:
        """Send a request, and return when its answer begins; raises one of `BROKEN`."""
        self._used, self._reused, self._asked = True, self._used, True
        if self.transport is None:
            raise aiohttp.ClientConnectionResetError("closed before anything was sent")
        self.set_response_params(read_until_eof=True, auto_decompress=False)
        self._loop.call_soon(self._send, body)
        while True:
            message, content = await self.read()
            if message.code >= _OK or message.code == _SWITCHING_PROTOCOLS:
                break
        self._asked = False
        headers = {_name(name): value.decode("latin-1") for name, value in message.raw_headers}
        return Reply(message.code, headers, content)

    def _send(self, body: bytes) -> None:
        """Write a request once all tasks that are ready have had their turn, and begin its time.

        What leaves right after another request costs less (docs/decisions/0013): a peer at rest must be woken for it.
        """
        if self.transport is not None:  # else it was given up meanwhile
            self.deadline.began_at = self._loop.time()
            self.transport.writelines((self.target.head, b"%d\r\n\r\n" % len(body), body))

    def end(self) -> None:
        """The request is done with. The next one may have the line, unless something may still come or go on it."""
        if self._asked or self._unsent or self.should_close or not self.target.keeps_alive:
            self.drop()
        else:
            self._heard, self.idle_since = False, self._loop.time()
            self.target.idle.append(self)

    def drop(self) -> None:
        """Close the connection; what was not sent is not sent any more."""
        self.deadline.close()
        if self._unsent:
            self.abort()
        self.connection.close()

    @property
    def _unsent(self) -> bool:
        return self.transport is not None and self.transport.get_write_buffer_size() > 0

    @property
    def usable(self) -> bool:
        """Whether an idle line is still there, not for too long, and nothing came on it unasked."""
        too_long = self._loop.time() - self.idle_since >= KEEP_ALIVE_S
        return not (self._heard or too_long or self.should_close)

    @property
    def stale(self) -> bool:
        """Whether a break means that the line was dead before: that shows at once, and nothing has come."""
        soon = self._loop.time() - self.deadline.began_at < _STALE_S
        return self._reused and not self._heard and soon

    def data_received(self, data: bytes) -> None:
        """Take what came, as aiohttp does."""
        self._heard, self.heard_at = True, self._loop.time()  # not when its task gets a turn: others may be before it
        super().data_received(data)
        error, body = self.exception(), self._payload
        if error is not None and body is not None and not body.is_eof():  # aiohttp tells no reader of a bad chunk
            body.set_exception(aiohttp.ClientPayloadError("not HTTP"))

    def pause_reading(self) -> None:
        """Let the peer wait: what came is not read fast enough."""
        self._held = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 (aiohttp's)
        """Go on. aiohttp says so after each piece that is read, and then looks for more of them in the parser."""
        if self._held:
            self._held = False
            super().resume_reading(resume_parser)


class Connector(aiohttp.TCPConnector):
    """Makes connections that are lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory: Any = functools.partial(Line, loop=self._loop)


class Target:
    """Where requests are posted to, what all of them begin with, and the idle lines there.

    Make it inside the running loop. aiohttp's own pool is not used: it takes longer, and knows less of a line.
    """

    def __init__(
        self,
        url: URL,
        headers: Mapping[str, str],
        connector: Connector,
        *,
        proxy: URL | None,
        connect_s: float,
        keeps_alive: bool = True,
    ) -> None:
        self._connector, self._timeout = connector, aiohttp.ClientTimeout(total=None, connect=connect_s)
        self._asking = aiohttp.ClientRequest("POST", url, headers=headers, proxy=proxy)
        self.keeps_alive = keeps_alive
        self.idle: list[Line] = []

    def idle_line(self) -> Line | None:
        """A connection that was used before, for one request, which calls `end`; None if there is none."""
        while self.idle:
            line = self.idle.pop()
            if line.usable:
                return line
            line.drop()
        return None

    async def new_line(self) -> Line:
        """A new connection for one request, which calls `end`; raises one of `BROKEN`."""
        try:
            connection = await self._connector.connect(self._asking, [], self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        line = cast("Line", connection.protocol)
        line.connection, line.target = connection, self
        return line

    async def close(self) -> None:
        """Close the lines, and return when they are."""
        for line in self.idle:
            line.deadline.close()
            line.connection.release()  # to the connector, which waits for their end
        await self._connector.close()
        await asyncio.sleep(0)  # of those that were dropped just now

    @functools.cached_property
    def head(self) -> bytes:
        """The first lines of every request, up to the length of its body; there once a connection has been."""
        asking = self._asking
        path = str(asking.url) if asking.proxy and not asking.is_ssl() else asking.url.raw_path_qs
        headers = asking.headers.copy()  # with what a proxy wants
        headers.popall("Content-Length", None)
        if not self.keeps_alive:
            headers.setdefault("Connection", "close")
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "Content-Length: "]).encode()


def translated(error: Broken, where: str) -> EndpointError:
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
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
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
