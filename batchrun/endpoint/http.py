"""The only file that imports aiohttp's client: one request over HTTP. Foreign errors end here.

Theory of operation. One session; the number of connections is the engine's business, not the connector's. Nothing is
followed, stored or unpacked by itself: redirects, cookies and encodings are refused or bounded here. The clock of an
attempt starts when it has a connection. A kept-alive connection that the peer has closed unseen fails a POST before
any byte of an answer; such a request goes out once more at once, on a connection of its own. A kept-alive connection
on which something came unasked is given up: that would pass for the answer to the next request. The key is taken out
of everything that comes back.
"""

from __future__ import annotations

import asyncio
import functools
import io
import math
import os
import re
import ssl
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from batchrun import __version__
from batchrun.endpoint.answer import Answer, is_success
from batchrun.endpoint.deadline import Deadline
from batchrun.endpoint.refusal import error_of
from batchrun.endpoint.unpack import UnpackError, unpack
from batchrun.endpoint.wire import completion_of
from batchrun.errors import Ambiguous, ConfigError, EndpointError, EndpointUnusable, NotSent

if TYPE_CHECKING:
    from typing import Self

    from batchrun.config import Config
    from batchrun.types import Completion, Request

MOST_BODY_BYTES = 32 * 1024 * 1024
MOST_ERROR_BYTES = 256 * 1024
LEAST_KEY_CHARS = 8
"""A shorter key is a dummy for a local server (`EMPTY`, `none`): taking that word out would change answers."""

_PATHS = {"chat": "/chat/completions", "completions": "/completions", "embeddings": "/embeddings"}
_LARGE_BODY_BYTES = 1024 * 1024
_STALE_S = 5.0
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class _Line(ResponseHandler):
    """One connection, which knows whether it was used before and whether an answer has begun on it."""

    used = heard = False

    def data_received(self, data: bytes) -> None:
        self.heard = True
        super().data_received(data)


class _Sending:
    """One request on its way: its deadline, and the connection it got."""

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._line: _Line | None = None
        self.sent_at = self._loop.time()

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


_sending: ContextVar[_Sending] = ContextVar("batchrun_sending")


class _Connector(aiohttp.TCPConnector):
    """Tells each request which connection it got, and none gets one on which something came unasked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory: Any = functools.partial(_Line, loop=self._loop)

    async def connect(self, *args: Any, **kwargs: Any) -> aiohttp.connector.Connection:
        while True:
            connection = await super().connect(*args, **kwargs)
            line = cast("_Line", connection.protocol)
            if not (line.used and line.should_close):
                _sending.get().begin(line)
                return connection
            connection.close()


class HttpEndpoint:
    """A chat-completions endpoint at a base URL. Open it with `async with`, inside the running loop."""

    def __init__(self, config: Config, *, base_url: str, key: str | None) -> None:
        """Take what is needed of a configuration; raises ConfigError for an address or a header that cannot be."""
        self._timeouts = config.timeouts
        self._urls = _urls(base_url)
        self._where = urlsplit(base_url).netloc
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"batchrun/{__version__}",
            **_checked(config.endpoint.headers),
        }
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._secrets = _spellings(key) if key and len(key) >= LEAST_KEY_CHARS else []
        self._single: aiohttp.ClientSession | None = None
        self.free_retries = 0

    async def __aenter__(self) -> Self:
        self._session = self._open(keep_alive=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        if self._single:
            await self._single.close()

    async def complete(self, request: Request, *, within_s: float = math.inf) -> Completion:
        """Send a request and judge its answer, which must come within timeouts.attempt_s and `within_s`.

        Raises:
            NotSent: no connection came about.
            Throttled, Ambiguous, Rejected, EndpointUnusable: see `batchrun.errors`.
        """
        total_s = min(within_s, self._timeouts.attempt_s)
        try:
            answer = await self._answer_to(request, total_s)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _translated(error, self._where) from None  # the library's text may quote the key that a peer echoes
        if is_success(answer.status):
            return completion_of(answer)
        raise error_of(answer, str(self._urls[request.api]))

    async def _answer_to(self, request: Request, total_s: float) -> Answer:
        """One exchange, and another one on a fresh connection if the first met a dead one."""
        sending = self._begin(total_s)
        try:
            return await self._exchange(self._session, request, sending)
        except aiohttp.ClientConnectionError:
            if not sending.stale:
                raise
        self.free_retries += 1
        if self._single is None:
            self._single = self._open(keep_alive=False)
        return await self._exchange(self._single, request, self._begin(total_s))

    def _begin(self, total_s: float) -> _Sending:
        sending = _Sending(Deadline(first_s=self._timeouts.first_byte_s, total_s=total_s))
        _sending.set(sending)
        return sending

    async def _exchange(self, session: aiohttp.ClientSession, request: Request, sending: _Sending) -> Answer:
        """Send the body, read the answer. Once a status says that there is no success, what else comes matters less."""
        body = request.body if len(request.body) < _LARGE_BODY_BYTES else io.BytesIO(request.body)
        response: aiohttp.ClientResponse | None = None
        pieces: list[bytes] = []
        try:
            with sending.deadline as deadline:
                response = await session.post(self._urls[request.api], data=body, allow_redirects=False)
                try:
                    await self._read(response, pieces, deadline)
                finally:
                    response.release()
        except (aiohttp.ClientError, TimeoutError, EndpointError):
            if response is None or is_success(response.status):
                raise
        return self._answer(response, b"".join(pieces), sending)

    async def _read(self, response: aiohttp.ClientResponse, pieces: list[bytes], deadline: Deadline) -> None:
        room = MOST_BODY_BYTES if is_success(response.status) else MOST_ERROR_BYTES
        while True:
            if not response.content.is_eof():  # most answers are here as a whole: nothing more is waited for
                deadline.moved(self._timeouts.idle_s)
            piece = await response.content.readany()
            if not piece:
                return
            pieces.append(piece)
            room -= len(piece)
            if room < 0:
                raise Ambiguous(
                    f"the answer is longer than {MOST_BODY_BYTES >> 20} MiB",
                    error_type="response_too_large",
                    status_code=response.status,
                )

    def _answer(self, response: aiohttp.ClientResponse, content: bytes, sending: _Sending) -> Answer:
        latency_s = asyncio.get_running_loop().time() - sending.sent_at
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.raw_headers}
        try:
            content = unpack(content, headers.get("content-encoding", "identity"), MOST_BODY_BYTES)
        except UnpackError as error:
            if is_success(response.status):
                raise Ambiguous(str(error), error_type=error.error_type, status_code=response.status) from error
            content = b""
        for secret in self._secrets:
            content = content.replace(secret.encode(), b"[key]")
            headers = {
                name.replace(secret.lower(), "[key]"): value.replace(secret, "[key]") for name, value in headers.items()
            }
        return Answer(status=response.status, headers=headers, content=content, latency_s=latency_s)

    def _open(self, *, keep_alive: bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=_Connector(limit=0, force_close=not keep_alive, ttl_dns_cache=60),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=self._timeouts.connect_s),
        )


def _urls(base_url: str) -> dict[str, URL]:
    try:
        urlsplit(base_url).netloc.encode("idna")
        return {api: URL(base_url + path) for api, path in _PATHS.items()}
    except ValueError as error:
        remedy = "write e.g. https://api.fireworks.ai/inference/v1, http://localhost:8000/v1, or simulated"
        raise ConfigError(f"endpoint.base_url {base_url!r} is not an http(s) URL", remedy=remedy) from error


def _checked(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not value.isprintable():
            raise ConfigError(
                f"endpoint.headers: {name!r} or its value cannot be sent in a header",
                remedy="use letters, digits and dashes for a name, and one line of text for a value",
            )
    return headers


def _spellings(key: str) -> list[str]:
    """The key as it is, as some JSON encoders write it, and as a URL does."""
    return sorted({key, key.replace("/", "\\/"), quote(key, safe="")})


def _translated(error: aiohttp.ClientError | TimeoutError, where: str) -> EndpointError:
    """Our error for one of aiohttp's. Its repr is never used: it prints the Authorization header."""
    # 1. no connection: nothing was sent
    if isinstance(error, aiohttp.ClientConnectorError):
        return _unconnected(error.os_error, where)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return _not_sent(where, "it took too long")
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


def _unconnected(error: OSError, where: str) -> EndpointError:
    """Our error where no connection came about; trying without TLS, or with TLS unverified, is not an option."""
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        why = getattr(error, "verify_message", None) or error.reason or str(error)
        return EndpointUnusable(
            f"{where}: no secure connection: {why}",
            error_type="connection_failed",
            remedy="check endpoint.base_url; a private certificate authority is named in SSL_CERT_FILE",
        )
    known = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    return _not_sent(where, known or "the connection was closed")


def _not_sent(where: str, why: str) -> NotSent:
    return NotSent(
        f"{where}: cannot connect: {why}",
        error_type="connection_failed",
        remedy="see whether the endpoint is up and endpoint.base_url is right",
    )
