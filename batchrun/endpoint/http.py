"""The only file that imports aiohttp's client: one request over HTTP. Foreign errors end here.

Theory of operation. One session; the number of connections is the engine's business, not the connector's. Nothing is
followed, stored or unpacked by itself: redirects, cookies and encodings are refused or bounded here. A kept-alive
connection that the peer has closed unseen fails a POST before any byte of an answer; such a request goes out once
more at once, on a connection of its own. The key is taken out of everything that comes back.
"""

from __future__ import annotations

import io
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from batchrun import __version__
from batchrun.endpoint.deadline import Deadline
from batchrun.endpoint.unpack import UnpackError, unpack
from batchrun.endpoint.wire import Answer, completion_of, error_of
from batchrun.errors import Ambiguous, EndpointError, EndpointUnusable, NotSent

if TYPE_CHECKING:
    from typing import Self

    from batchrun.config import Config
    from batchrun.types import Completion, Request

MOST_BODY_BYTES = 32 * 1024 * 1024
_PATHS = {"chat": "/chat/completions", "completions": "/completions", "embeddings": "/embeddings"}
_LARGE_BODY_BYTES = 1024 * 1024
_fresh: ContextVar[bool] = ContextVar("batchrun_fresh_connection", default=False)


class _Connector(aiohttp.TCPConnector):
    """Tells whether a request got a new connection or one that was used before."""

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        _fresh.set(True)
        return await super()._create_connection(*args, **kwargs)


class HttpEndpoint:
    """A chat-completions endpoint at a base URL. Open it with `async with`, inside the running loop."""

    def __init__(self, config: Config, *, base_url: str, key: str | None) -> None:
        self._timeouts, self._base_url, self._key = config.timeouts, base_url, key
        self._urls = {api: URL(base_url + path) for api, path in _PATHS.items()}
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"batchrun/{__version__}",
            **config.endpoint.headers,
        }
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._secret = key.encode() if key else None
        self._single: aiohttp.ClientSession | None = None
        self.free_retries = 0

    async def __aenter__(self) -> Self:
        self._session = self._open(keep_alive=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        if self._single:
            await self._single.close()

    async def complete(self, request: Request) -> Completion:
        """Send a request and judge its answer.

        Raises:
            NotSent: no connection came about.
            Throttled, Ambiguous, Rejected, EndpointUnusable: see `batchrun.errors`.
        """
        try:
            answer = await self._exchange(self._session, request)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if isinstance(error, aiohttp.ClientConnectorError) or _fresh.get():
                self._fail(error)
            self.free_retries += 1
            answer = await self._exchange_again(request)
        except aiohttp.ClientError as error:
            self._fail(error)
        if answer.ok:
            return completion_of(answer)
        raise error_of(answer, str(self._urls[request.api]))

    async def _exchange_again(self, request: Request) -> Answer:
        if self._single is None:
            self._single = self._open(keep_alive=False)
        try:
            return await self._exchange(self._single, request)
        except aiohttp.ClientError as error:
            self._fail(error)

    async def _exchange(self, session: aiohttp.ClientSession, request: Request) -> Answer:
        """Send the body, read the whole answer. aiohttp's errors pass; what is wrong in time or size is ours."""
        timeouts = self._timeouts
        _fresh.set(False)
        loop_time = session.loop.time
        sent_at = loop_time()
        body = request.body if len(request.body) < _LARGE_BODY_BYTES else io.BytesIO(request.body)
        try:
            with Deadline(first_s=timeouts.first_byte_s, total_s=timeouts.attempt_s) as deadline:
                response = await session.post(self._urls[request.api], data=body, allow_redirects=False)
                try:
                    deadline.moved(timeouts.idle_s)
                    content = await self._read(response, deadline)
                finally:
                    response.release()
        except TimeoutError as error:
            if isinstance(error, aiohttp.ClientError):
                raise
            raise Ambiguous(str(error), error_type="timed_out") from error
        return self._answer(response, content, loop_time() - sent_at)

    async def _read(self, response: aiohttp.ClientResponse, deadline: Deadline) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > MOST_BODY_BYTES:
                response.close()
                raise Ambiguous(
                    f"the answer is longer than {MOST_BODY_BYTES >> 20} MiB", error_type="response_too_large"
                )
            deadline.moved(self._timeouts.idle_s)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _answer(self, response: aiohttp.ClientResponse, content: bytes, latency_s: float) -> Answer:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.raw_headers}
        encoding = headers.get("content-encoding", "identity")
        try:
            content = unpack(content, encoding, MOST_BODY_BYTES)
        except UnpackError as error:
            raise Ambiguous(str(error), error_type=error.error_type, status_code=response.status) from error
        if self._secret and self._key:
            content = content.replace(self._secret, b"[key]")
            headers = {name: value.replace(self._key, "[key]") for name, value in headers.items()}
        return Answer(status=response.status, headers=headers, content=content, latency_s=latency_s)

    def _open(self, *, keep_alive: bool) -> aiohttp.ClientSession:
        connector = _Connector(limit=0, force_close=not keep_alive, ttl_dns_cache=60)
        return aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeouts.connect_s),
        )

    def _fail(self, error: aiohttp.ClientError) -> NoReturn:
        """Turn aiohttp's error into ours. Its repr is never used: it prints the Authorization header."""
        where = urlsplit(self._base_url).netloc
        raise _translated(error, where) from error


def _translated(error: aiohttp.ClientError, where: str) -> EndpointError:
    # 1. TLS: the peer is not who it should be, or speaks no TLS; trying unverified is not an option
    if isinstance(error, aiohttp.ClientSSLError):
        why = getattr(error, "certificate_error", None) or error.os_error
        return EndpointUnusable(
            f"{where}: no secure connection: {why}",
            error_type="connection_failed",
            remedy="check endpoint.base_url; a private certificate authority is named in SSL_CERT_FILE",
        )
    # 2. no connection: nothing was sent
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        why = error.os_error.strerror if isinstance(error, aiohttp.ClientConnectorError) else "it took too long"
        return NotSent(
            f"{where}: cannot connect: {why or error.strerror if isinstance(error, OSError) else why}",
            error_type="connection_failed",
            remedy="see whether the endpoint is up and endpoint.base_url is right",
        )
    # 3. the connection broke after something was sent
    if isinstance(error, aiohttp.ClientPayloadError):
        return Ambiguous(f"{where}: the answer broke off", error_type="response_truncated")
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
        return Ambiguous(f"{where}: the connection broke before an answer came", error_type="connection_failed")
    # 4. an answer that is not HTTP
    if isinstance(error, aiohttp.ClientResponseError):
        return Ambiguous(f"{where}: the answer is not HTTP: {error.message}", error_type="response_unreadable")
    return Ambiguous(f"{where}: {type(error).__name__}", error_type="connection_failed")
