"""One request over HTTP, plain or streamed. Foreign errors end here and in connections.py.

Theory of operation. One pool of connections; their number is the engine's business, not the pool's. Nothing is
followed, stored or unpacked by itself: redirects, cookies and encodings are refused or bounded here. The clock of an
attempt starts when it has a connection. A kept-alive connection that the peer has closed unseen fails a POST before
any byte of an answer; such a request goes out once more at once, on a connection of its own. A stream is asked to
state its usage; as long as no stream of this endpoint has come about, a refusal may mean that it does not know that
option, and the request is sent without it once. The key is taken out of everything that comes back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import aiohttp
import msgspec

from batchrun import __version__
from batchrun.endpoint.answer import Answer, is_success
from batchrun.endpoint.connections import BROKEN, Connector, Line, Reply, Target, translated
from batchrun.endpoint.refusal import RESPONSE_HEAD_CHARS, error_of
from batchrun.endpoint.route import checked_headers, proxy_of, tls_of, urls_of
from batchrun.endpoint.secrets import Secrets
from batchrun.endpoint.stop import Stop
from batchrun.endpoint.stream import Stream, looks_like_events
from batchrun.endpoint.unpack import UnpackError, unpack
from batchrun.endpoint.wire import completion_of
from batchrun.errors import Ambiguous, EndpointError

if TYPE_CHECKING:
    from typing import Self

    from batchrun.config import Config
    from batchrun.endpoint.connections import Broken
    from batchrun.types import Api, Completion, Request

MOST_BODY_BYTES = 32 * 1024 * 1024
MOST_ERROR_BYTES = 256 * 1024

_FINISHED_S, _OVER_S = 5.0, 1.0
"""How long a stream may take to say its usage and `[DONE]` after its last choice ended, and then to end itself."""
_REFUSALS_OF_OPTIONS = {400, 422}
_MOST_PROBES = 5
"""If so many requests were refused with and without the option, it is not the option."""


class HttpEndpoint:
    """An OpenAI-compatible endpoint at a base URL. Open it with `async with`, inside the running loop.

    `free_retries` and `probes` count requests that were sent beside those asked for: after a dead connection, and
    without an option that the endpoint may not know. `mended` counts answers that held what no column can.
    """

    def __init__(self, config: Config, *, base_url: str, key: str | None) -> None:
        """Take what is needed of a configuration; raises ConfigError for what cannot be, as an address or a header."""
        self._timeouts, self._stop = config.timeouts, config.request.stop_stream
        self._urls = urls_of(base_url)
        self._where = urlsplit(base_url).netloc
        self._proxy = proxy_of(config.endpoint, base_url)
        self._tls = tls_of(config.endpoint.ca_file)
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Accept-Encoding": "identity",
            "User-Agent": f"batchrun/{__version__}",
            **checked_headers(config.endpoint.headers),
        }
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._secrets = Secrets(key, unquote(self._proxy.password or "") if self._proxy else None)
        self._key_remedy = (
            f"check the key in {config.endpoint.api_key_env}"
            if key
            else "no key was sent: name the variable that holds it, --set endpoint.api_key_env=MY_KEY"
        )
        self._single: dict[Api, Target] | None = None
        self._knows_stream_options: bool | None = None
        self.free_retries = self.probes = self.mended = 0

    async def __aenter__(self) -> Self:
        self._kept_alive = self._open(keep_alive=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        for target in (*self._kept_alive.values(), *(self._single or {}).values()):
            await target.close()

    async def complete(self, request: Request, *, within_s: float = math.inf) -> Completion:
        """Send a request and judge its answer, which must come within timeouts.attempt_s and `within_s`.

        Raises:
            NotSent: no connection came about.
            Throttled, Ambiguous, Rejected, EndpointUnusable: see `batchrun.errors`.
        """
        try:
            total_s = min(within_s, self._timeouts.attempt_s)
            if request.stream and b'"stream_options"' in request.body:
                answer, stream = await self._stating_usage(request, total_s)
            else:
                answer, stream = await self._sent(request, total_s)
            if not is_success(answer.status):
                raise error_of(answer, str(self._urls[request.api]))
            if stream is None and looks_like_events(answer.content):
                stream = Stream(request, sent_at=0.0)
                stream.feed(answer.content, answer.latency_s)
            completion = stream.completion(answer) if stream else completion_of(answer, request.api)
        except EndpointError as error:
            if error.error_type == "authentication":
                error.remedy = self._key_remedy
            self._secrets.out_of_error(error)
            raise
        self.mended += completion.mended
        hidden = stream is not None or b"\\u" in answer.content
        return self._secrets.out_of_completion(completion) if hidden else completion

    async def _stating_usage(self, request: Request, total_s: float) -> tuple[Answer, Stream | None]:
        """A stream, with the option to state its usage as far as the endpoint may know it."""
        if self._knows_stream_options is False:
            return await self._sent(_without_stream_options(request), total_s)
        answer, stream = await self._sent(request, total_s)
        if is_success(answer.status):
            self._knows_stream_options = True
        elif self._may_probe and answer.status in _REFUSALS_OF_OPTIONS:
            self.probes += 1
            second, its_stream = await self._sent(_without_stream_options(request), total_s)
            if is_success(second.status):
                self._knows_stream_options = False
                return second, its_stream
        return answer, stream

    @property
    def _may_probe(self) -> bool:
        return self._knows_stream_options is None and self.probes < _MOST_PROBES

    async def _sent(self, request: Request, total_s: float) -> tuple[Answer, Stream | None]:
        """One exchange, and another one on a fresh connection if the first met a dead one."""
        try:
            target = self._kept_alive[request.api]
            line = target.idle_line()
            if line is None:
                line = await target.new_line()
            try:
                return await self._exchange(line, request, total_s)
            except aiohttp.ClientConnectionError:
                if not line.stale:
                    raise
            self.free_retries += 1
            if self._single is None:
                self._single = self._open(keep_alive=False)
            line = await self._single[request.api].new_line()
            return await self._exchange(line, request, total_s)
        except BROKEN as error:
            raise translated(error, self._where) from None  # the library's text may quote the key that a peer echoes

    async def _exchange(self, line: Line, request: Request, total_s: float) -> tuple[Answer, Stream | None]:
        """Send the body, read the answer. Once a status says that there is no success, what else comes matters less."""
        reply: Reply | None = None
        stream: Stream | None = None
        pieces: list[bytes] = []
        try:
            with line.deadline as deadline:
                deadline.start(first_s=self._timeouts.first_byte_s, total_s=total_s)
                reply = await line.ask(request.body)
                if request.stream and is_success(reply.status):
                    stop = Stop(self._stop) if self._stop else None
                    stream = Stream(request, sent_at=deadline.began_at, stop=stop)
                if stream is None and reply.content.is_eof():  # most answers are here as a whole
                    pieces.append(reply.content.read_nowait())
                else:
                    await self._read(line, reply, pieces, stream)
        except (*BROKEN, EndpointError) as error:
            if reply is None or (is_success(reply.status) and stream is None):
                raise
            if stream is not None and not (stream.over or stream.finished):
                raise self._broken_off(error, stream, reply.status, b"".join(pieces)) from None
        finally:
            line.end()
        return self._answer(line, reply, b"".join(pieces), stream), stream

    async def _read(self, line: Line, reply: Reply, pieces: list[bytes], stream: Stream | None) -> None:
        room = MOST_BODY_BYTES if is_success(reply.status) else MOST_ERROR_BYTES
        idle_s, content = self._timeouts.idle_s, reply.content
        live = stream if reply.headers.get("content-encoding", "identity") == "identity" else None
        while True:
            if not content.is_eof():
                line.deadline.moved(idle_s)
            piece = await content.readany()
            if not piece or (live and live.over):
                return
            pieces.append(piece)
            room -= len(piece)
            if room < 0:
                raise Ambiguous(
                    f"the answer is longer than {MOST_BODY_BYTES >> 20} MiB",
                    error_type="response_too_large",
                    status_code=reply.status,
                )
            if live:
                live.feed(piece, line.heard_at)
                if live.over and not live.done:
                    return
                if live.over or live.finished:
                    idle_s = min(idle_s, _OVER_S if live.over else _FINISHED_S)

    def _answer(self, line: Line, reply: Reply, content: bytes, stream: Stream | None) -> Answer:
        ended_at = line.heard_at
        encoding = reply.headers.get("content-encoding", "identity")
        try:
            unpacked = unpack(content, encoding, MOST_BODY_BYTES)
        except UnpackError as error:
            if is_success(reply.status):
                raise Ambiguous(str(error), error_type=error.error_type, status_code=reply.status) from error
            unpacked = b""
        if stream is not None:
            if encoding != "identity":
                stream.feed(unpacked, ended_at)
            ended_at = stream.fed_at or ended_at
        return Answer(
            status=reply.status,
            headers=self._secrets.out_of_headers(reply.headers),
            content=self._secrets.out_of(unpacked),
            latency_s=ended_at - line.deadline.began_at,
        )

    def _broken_off(self, error: Broken | EndpointError, stream: Stream, status: int, content: bytes) -> EndpointError:
        """The error of a stream that did not come to its end, with what it said until then."""
        ours = error if isinstance(error, EndpointError) else translated(error, self._where)
        ours.usage, ours.status_code = stream.usage(), status
        ours.response = self._secrets.out_of(content[: 4 * RESPONSE_HEAD_CHARS]).decode("utf-8", "replace")
        ours.response = ours.response[:RESPONSE_HEAD_CHARS]
        return ours

    def _open(self, *, keep_alive: bool) -> dict[Api, Target]:
        return {
            api: Target(
                url,
                self._headers,
                Connector(limit=0, ttl_dns_cache=60, ssl=self._tls),
                proxy=self._proxy,
                connect_s=self._timeouts.connect_s,
                keeps_alive=keep_alive,
            )
            for api, url in self._urls.items()
        }


def _without_stream_options(request: Request) -> Request:
    body = msgspec.json.decode(request.body, type=dict[str, msgspec.Raw])
    body.pop("stream_options", None)
    return msgspec.structs.replace(request, body=msgspec.json.encode(body))
